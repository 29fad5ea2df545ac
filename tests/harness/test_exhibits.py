"""What is kept beside samples: excerpts that add up to their context, prompts stored once, torn lines."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.exhibits import (
    AROUND,
    LONGEST,
    PASSAGE,
    PASSAGES,
    Span,
    clip,
    context_record,
    excerpt,
    read_contexts,
    read_prompts,
)
from deltamem_eval.hashing import hash_text
from deltamem_eval.schema import published
from deltamem_eval.session import Request, check, execute
from deltamem_eval.store import CellStore, RunStore
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_backbone

from paged import episode, sample_of


def whole(context: str, spans: list[Span]) -> str:
    """The context again, from spans and what they left out."""
    at, parts = 0, []
    for span in spans:
        parts.append(context[at : at + span.cut])
        parts.append(span.text)
        at += span.cut + len(span.text)
    return "".join(parts)


def marked(spans: list[Span]) -> list[tuple[str, str | None]]:
    return [(span.text, span.mark) for span in spans if span.mark]


def test_evidence_is_marked_with_what_stands_around_it() -> None:
    lines = [f"line {number} says something of little use\n" for number in range(100)]
    lines[50] = "the key is under the mat\n"
    context = "".join(lines)
    spans = excerpt(context, [lines[50]], ["mat"])
    assert marked(spans) == [("the key is under the mat", "evidence")]
    assert whole(context, spans) == context
    assert spans[0].cut > 0
    assert spans[0].text.startswith("line ")
    assert spans[0].text.endswith("line 49 says something of little use\n")
    assert AROUND <= len(spans[0].text) < 2 * AROUND


def test_places_that_are_near_share_one_piece_and_far_ones_say_what_lies_between() -> None:
    context = "a1." + "x" * 50 + "b2." + "y" * 5000 + "c3."
    spans = excerpt(context, ["a1.", "b2.", "c3."], [])
    assert [text for text, _ in marked(spans)] == ["a1.", "b2.", "c3."]
    assert [span.cut for span in spans if span.cut] == [5000 - 2 * AROUND]


def test_without_evidence_the_answer_s_words_are_marked_but_not_inside_words() -> None:
    spans = excerpt("catalogue of a cat and cats", [], ["cat"])
    assert marked(spans) == [("cat", "answer")]
    assert spans[0].text == "catalogue of a "
    assert marked(excerpt("nothing here", ["gone"], ["cat"])) == []
    assert excerpt("", [], []) == []


@given(
    st.text("ab\n", max_size=3000),
    st.lists(st.text("ab\n", max_size=5), max_size=4),
    st.lists(st.text("ab", max_size=3), max_size=2),
)
def test_spans_add_up_to_the_context_and_stay_short(
    context: str, passages: list[str], targets: list[str]
) -> None:
    spans = excerpt(context, passages, targets)
    assert whole(context, spans) == context
    assert len(marked(spans)) <= PASSAGES
    assert sum(len(span.text) for span in spans) <= LONGEST + PASSAGES * 6 * AROUND


def test_a_record_of_a_long_context_is_short() -> None:
    long = "z" * 1_000_000
    item = episode(0)
    query = item.queries[0]
    asked = [
        type(query)("q", long, ("v",), metadata={"evidence": [long[: 3 * PASSAGE]] * (PASSAGES + 5)}),
    ]
    chunk = type(item.chunks[0])(long, 0)
    record = context_record(type(item)("e", "s", "c", (chunk,), tuple(asked)))
    assert record.characters == 1_000_000
    assert len(record.questions[0].evidence) == PASSAGES
    assert record.questions[0].evidence[0].cut == 2 * PASSAGE
    assert len(record.model_dump_json()) < 2 * LONGEST + PASSAGES * (PASSAGE + 100) + 10_000


def test_clipping_keeps_both_ends_and_counts() -> None:
    text = "".join(chr(65 + number % 26) for number in range(LONGEST + 11))
    clipped = clip(text)
    assert clipped.head + text[len(clipped.head) : len(clipped.head) + clipped.cut] + clipped.tail == text
    assert clipped.cut == 11
    assert clip(text[:LONGEST]).cut == 0


def test_a_shown_text_is_stored_once(tmp_path: Path) -> None:
    item = episode(0)
    place = CellStore(tmp_path, {})
    for query in item.queries:
        place.append([sample_of(item, query, "no")], {query.id: "shared text"})
    place.append([], {"none": None, "nothing": ""})
    assert (tmp_path / "prompts.jsonl").read_text().count("shared text") == 1
    found = read_prompts(tmp_path)
    assert {found[query.id].head for query in item.queries} == {"shared text"}
    assert found["none"] is None
    assert found["nothing"].head == ""
    again = CellStore(tmp_path, {})
    again.append([], {"later": "shared text"})
    assert read_prompts(tmp_path)["later"].head == "shared text"
    assert (tmp_path / "prompts.jsonl").read_text().count("shared text") == 1


def test_a_kill_wherever_in_the_prompts_leaves_the_same_end(tmp_path: Path) -> None:
    item = episode(0)
    queries = [query.id for query in item.queries]

    def go_on(folder: Path) -> None:
        place = CellStore(folder, {})
        done = {sample.query for sample in place.samples()}
        for query in item.queries:
            if query.id not in done:
                place.append(
                    [sample_of(item, query, "no")], {query.id: "shared" if query.id < "e0/q2" else "x"}
                )

    go_on(tmp_path / "whole")
    prompts = (tmp_path / "whole" / "prompts.jsonl").read_bytes()
    lines = (tmp_path / "whole" / "samples.jsonl").read_bytes().splitlines(keepends=True)
    wanted = read_prompts(tmp_path / "whole")
    for cut in range(0, len(prompts), 5):
        folder = tmp_path / "killed"
        folder.mkdir()
        (folder / "prompts.jsonl").write_bytes(prompts[:cut])
        (folder / "samples.jsonl").write_bytes(b"".join(lines[: prompts[:cut].count(b"\n")]))
        go_on(folder)
        assert read_prompts(folder) == wanted
        assert [sample.query for sample in CellStore(folder, {}).samples()] == queries
        shutil.rmtree(folder)


def test_contexts_are_stored_once_and_a_torn_one_again(tmp_path: Path) -> None:
    episodes = [episode(0), episode(1)]
    file = tmp_path / "run" / "contexts.jsonl"
    store = RunStore.open(tmp_path / "run", {}, {})
    store.keep_contexts(episodes)
    store.keep_contexts(episodes)
    whole_file = file.read_bytes()
    assert whole_file.count(b"\n") == 2
    store.close()
    first = whole_file.index(b"\n") + 1
    for cut in (0, 1, first - 1, first, first + 7, len(whole_file) - 1):
        file.write_bytes(whole_file[:cut])
        again = RunStore.open(tmp_path / "run", {}, {})
        again.keep_contexts(episodes)
        again.close()
        assert file.read_bytes() == whole_file
    asked = read_contexts(tmp_path / "run")[hash_text(episodes[0].context), "e0/q1"]
    assert asked.prompt.head == "what is fact 1?"
    assert marked(asked.excerpt) == [("fact 1 of 0 is value1.", "evidence")]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"query": "q", "shown": "abc"}\n')
    with pytest.raises(UserError, match="lacks a text that it names"):
        read_prompts(tmp_path)
    file.write_text("{\n")
    with pytest.raises(UserError, match="damaged"):
        read_prompts(tmp_path)


def test_lines_hold_to_the_published_schemas(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    store.keep_contexts([episode(0)])
    place = store.cell({"method": "m"})
    place.append([], {"q": "x" * (LONGEST + 1), "none": None})
    for name, file in (("context", store.path / "contexts.jsonl"), ("prompt", place.path / "prompts.jsonl")):
        schema = json.loads(published()[f"{name}.json"])
        for line in file.read_text().splitlines():
            jsonschema.validate(json.loads(line), schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({}, schema)


@pytest.fixture(scope="module")
def request_of(tmp_path_factory: pytest.TempPathFactory) -> Request:
    root = tmp_path_factory.mktemp("exhibits")
    backbone = tiny_backbone()
    backbone.model.save_pretrained(root / "model")
    backbone.tokenizer.save_pretrained(root / "model")
    rows = [
        {
            "context": f"fact 1 is {number}.\nfact 2 is 9.\nfact 3 is 8.\n",
            "questions": ["fact 1?", "fact 2?", "fact 3?"],
            "answers": [[str(number)], ["9"], ["8"]],
            "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b", "c"]},
        }
        for number in (6, 7)
    ]
    (root / "rows.json").write_text(json.dumps(rows))
    asked = Request(
        methods=("vanilla", "bm25-rag"),
        model=str(root / "model"),
        rows=str(root / "rows.json"),
        windows=(20,),
        device="cpu",
        batch_size=2,
    )
    return check(asked)


def run(request: Request, out: Path) -> None:
    with Display(2, quiet=True) as display:
        execute(request, out, display)


def stored(out: Path) -> dict[str, object]:
    """What a run keeps beside its samples, by cell."""
    found: dict[str, object] = {cell.name: read_prompts(cell) for cell in (out / "cells").iterdir()}
    return found | {"contexts": read_contexts(out)}


def test_a_run_keeps_what_its_prompts_showed_and_goes_on_after_a_kill(
    request_of: Request, tmp_path: Path
) -> None:
    run(request_of, tmp_path / "whole")
    wanted = stored(tmp_path / "whole")
    shown = [prompts for name, prompts in wanted.items() if name != "contexts"]
    assert all(len(prompts) == 6 for prompts in shown)  # type: ignore[arg-type]
    texts = {text.head if text else None for prompts in shown for text in prompts.values()}  # type: ignore[attr-defined]
    assert None in texts  # closed-book
    assert "fact 1 is 6.\nfact 2 is 9.\nfact 3 is 8.\n" in texts  # full-context
    assert "2 is 9.\nfact 3 is 8.\n"[-20:] in texts  # the last 20 tokens, of a byte each
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", killed)
    (killed / "contexts.jsonl").unlink()
    for number, cell in enumerate(sorted((killed / "cells").iterdir())):
        (cell / "cell.json").unlink()
        for name, kept in (("samples.jsonl", number % 4), ("prompts.jsonl", number % 4 + 1)):
            lines = (cell / name).read_text().splitlines(keepends=True)
            (cell / name).write_text("".join(lines[:kept]) + lines[kept][:20])
    run(request_of, killed)
    assert stored(killed) == wanted
