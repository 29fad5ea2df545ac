"""Files of rows: three formats alike, every kind of damage named, contexts split without loss."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench.rows import (
    check_row,
    episode_from_row,
    load_rows,
    sources_in,
    split_context,
)
from deltamem_eval.tasks.memory_agent_bench.sources import SOURCES, source_of
from deltamem_eval.tasks.memory_agent_bench.task import RowsTask
from deltamem_eval.tokens import Counter
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from shared import shared


def row(**changes: object) -> dict:
    base = {
        "context": "0. Rome is in Italy.\n1. Ann lives in Rome.\n2. Ann lives in Oslo.\n",
        "questions": ["Where does Ann live?", "Where is Rome?"],
        "answers": [["Oslo"], ["Italy", "italia"]],
        "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "a"]},
    }
    return {**base, **changes}


def write(folder: Path, name: str, rows: list[dict]) -> Path:
    file = folder / name
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(item) + "\n\n" for item in rows))
    elif file.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text(json.dumps(rows))
    return file


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.parquet"])
def test_three_formats_give_the_same_episodes(name: str, tmp_path: Path) -> None:
    task = RowsTask(write(tmp_path, name, [row(), row()]))
    first, second = task.episodes(0, None)
    assert first.id == "rows/0"
    assert [query.id for query in second.queries] == ["rows/1/q000", "rows/1/q001"]
    assert first.queries[1].targets == ("Italy", "italia")
    assert first.queries[0].metadata["evidence"] == ["2. Ann lives in Oslo."]
    assert first.context == row()["context"]
    assert task.score(first.queries[0], "Oslo, I believe")["accuracy"] == 1.0
    assert len(list(task.episodes(0, 1))) == 1


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_byte_order_mark_and_unusual_line_ends_inside_texts_are_no_damage(
    name: str, tmp_path: Path
) -> None:
    told = row(context="0. Rome is in Italy.\u2028\x85Ann lives in Oslo.\n")
    text = json.dumps(told, ensure_ascii=False)
    (tmp_path / name).write_text(f"[{text}]" if name == "rows.json" else f"{text}\r\n", "utf-8-sig")
    (read,) = load_rows(tmp_path / name)
    assert read["context"] == told["context"]


@pytest.mark.parametrize("name", ["rows.json", "rows.parquet"])
def test_sources_are_told_each_once_in_order(name: str, tmp_path: Path) -> None:
    rows = [row(metadata={"source": source}) for source in ("icl_b", "icl_a", "icl_b")]
    assert sources_in(write(tmp_path, name, rows)) == ["icl_b", "icl_a"]
    (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=f"{name} is not "):
        sources_in(tmp_path / name)


BAD = [
    ("rows.csv", b"", "must be a .json, .jsonl or .parquet"),
    ("none.json", None, "no such file"),
    ("latin.json", '["é"]'.encode("latin-1"), "not UTF-8"),
    ("broken.json", b"[{", "is not JSON"),
    ("broken.jsonl", b'{"a": 1}\n{"a"\n', "line 2 is not JSON"),
    ("number.json", b"3", "must hold a list"),
    ("empty.json", b"[]", "holds no rows"),
    ("broken.parquet", b"PAR1 no", "not a parquet file"),
    ("text.json", b'["a"]', "row 0: expected an object"),
    ("deep.json", b"[" * 100_000, "deep.json is nested too deeply"),
    ("deep.jsonl", b"{}\n" + b"[" * 100_000, "line 2 is nested too deeply"),
    ("long.json", b"[" + b"1" * 5000 + b"]", "holds a whole number of more than 4300 digits"),
    (
        "half.json",
        b'[{"context": "\\ud83d\\ude00 \\uDBFF"}]',
        r": \[0\]\['context'\] holds '\\udbff', half of",
    ),
    ("half.json", b'{"data": [{}, {"a\\udead": 1}]}', r": \['data'\]\[1\]\['a\\udead'\] holds"),
    ("half.jsonl", b'{}\n{"questions": ["a", "\\ud83d"]}', r"line 2: \['questions'\]\[1\] holds '\\ud83d'"),
    ("long.jsonl", b"1" * 5000, "line 1 holds a whole number of more than 4300 digits"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD)
def test_files_that_cannot_be_read(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load_rows(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_parquet_file_s_texts_must_be_utf8(tmp_path: Path) -> None:
    half = pa.array(["\ud83d".encode("utf-8", "surrogatepass")]).view(pa.string())
    metadata = pa.StructArray.from_arrays([half], ["source"])
    parquet.write_table(pa.table({"context": ["a"], "metadata": metadata}), tmp_path / "rows.parquet")
    for read in (load_rows, sources_in):
        with pytest.raises(UserError, match="is not UTF-8 text"):
            read(tmp_path / "rows.parquet")


def told(**lists: object) -> dict:
    """A row's changes: its metadata with these lists."""
    return {"metadata": {"source": "icl_x", **lists}}


BROKEN_ROWS = [
    ({"context": None}, "lacks context"),
    ({"context": " \n"}, "context must be"),
    ({"questions": []}, "questions must be"),
    ({"questions": "why"}, "questions must be"),
    ({"answers": ["Oslo", "Italy"]}, "answers must hold"),
    ({"answers": [["Oslo"], []]}, "answers must hold"),
    ({"answers": [["Oslo"], ["", " "]]}, "the answers of question 1 hold an empty text"),
    ({"answers": [["Oslo", ""], ["Italy"]]}, "the answers of question 0 hold an empty text"),
    ({"questions": ["who?", " "]}, "question 1 is empty"),
    ({"answers": [["Oslo"]]}, r"answers must be as long as questions \(2\), not 1"),
    ({"metadata": {}}, "with a source"),
    ({"metadata": {"source": "mine"}}, "unknown source 'mine'"),
    ({"metadata": {"source": "icl_x", "qa_pair_ids": ["a"]}}, "metadata.qa_pair_ids must be as long"),
    ({"metadata": {"source": "icl_x", "chance": 0.1}}, "metadata.chance must be as long .* not no list"),
    (
        told(evidence=[["a"], "b"]),
        "metadata.evidence of question 1 must be a list of texts, or null .* not 'b'",
    ),
    (told(evidence=[[1], None]), r"metadata.evidence of question 0 must be a list of texts.* not \[1\]"),
    (told(question_dates=["2024", 5]), "metadata.question_dates of question 1 must be a text or null, not 5"),
    (told(question_types=[{}, None]), "metadata.question_types of question 0 must be a text or null"),
    (told(question_ids=[True, "a"]), "metadata.question_ids of question 0 must be a text or null"),
    (told(distance=["far", 2]), "metadata.distance of question 0 must be a finite number, not 'far'"),
    (told(updates=[1, None]), "metadata.updates of question 1 must be a finite number, not nothing"),
    (told(chance=[0.5, True]), "metadata.chance of question 1 must be a finite number, not True"),
    (told(context_tokens=[1, float("nan")]), "metadata.context_tokens of question 1 must be a finite number"),
    (told(keypoints=["a", 1]), "metadata.keypoints must be a list of texts or null"),
    (told(keypoints="a"), "metadata.keypoints must be a list of texts or null, not 'a'"),
    ({"metadata": {"source": "infbench_choice_eng"}}, "unknown source 'infbench_choice_eng'"),
]


@pytest.mark.parametrize(("changes", "words"), BROKEN_ROWS)
def test_broken_rows_name_row_and_field(changes: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"row 1: .*{words}"):
        load_rows(write(tmp_path, "rows.json", [row(), row(**changes)]))


@given(st.text())
def test_splitting_a_context_loses_nothing(text: str) -> None:
    assert "".join(split_context(text)) == text


def test_a_long_line_is_cut_into_sentences() -> None:
    line = "This is a sentence. " * 200
    pieces = list(split_context(line))
    assert "".join(pieces) == line
    assert len(pieces) == 200


def test_evidence_is_the_newest_of_the_best_lines_and_whole_words_only() -> None:
    made = row(
        context="0. Bob owns a car.\n1. Bob owns a carpet.\n2. Bob owns a car.\n",
        questions=["What does Bob own?"],
        answers=[["car"]],
        metadata={"source": "factconsolidation_sh_6k"},
    )
    (query,) = episode_from_row(made, split="x", index=0).queries
    assert query.metadata["evidence"] == ["2. Bob owns a car."]
    multi = {**made, "metadata": {"source": "factconsolidation_mh_6k"}}
    assert "evidence" not in episode_from_row(multi, split="x", index=0).queries[0].metadata


def test_what_is_not_known_of_a_question_is_left_out() -> None:
    made = row(**told(evidence=[None, ["0. Rome is in Italy."]], question_types=["a", None]))
    check_row(made, "row")
    first, second = episode_from_row(made, split="x", index=0).queries
    assert "evidence" not in first.metadata
    assert second.metadata["evidence"] == ["0. Rome is in Italy."]
    assert (first.metadata["question_types"], "question_types" in second.metadata) == ("a", False)


class Bytes:
    """Counts bytes."""

    name, positions = "bytes", 100

    def length(self, text: str) -> int:
        return len(text.encode())

    def last(self, text: str, tokens: int) -> str:
        return text.encode()[-tokens:].decode()


def test_golds_longer_than_the_budget_are_on_record(tmp_path: Path) -> None:
    facts = row(
        questions=["a?", "b?", "c?", "d?"],
        answers=[["0123456789"], ["0123456789a"], ["0123456789a", "short"], ["ééééé "]],  # the budget is 10
        metadata={"source": "factconsolidation_sh_6k"},
    )
    movies = row(answers=[["1"] * 2, ["2"]], metadata={"source": "recsys_redial_full"})
    task = RowsTask(write(tmp_path, "rows.json", [facts]))
    (unknown,) = task.episodes(0, None)
    assert not any("gold_fits" in query.metadata for query in unknown.queries)  # by whose tokens?
    task.prepare(Bytes())
    (episode,) = task.episodes(0, None)
    assert [query.metadata["gold_fits"] for query in episode.queries] == [1.0, 0.0, 1.0, 1.0]
    task.prepare(Counter("no/such-model", 100))
    (away,) = task.episodes(0, None)
    assert not any("gold_fits" in query.metadata for query in away.queries)  # its tokenizer is not to be had
    asked = episode_from_row(movies, split="x", index=0, length=Bytes().length).queries
    assert not any("gold_fits" in query.metadata for query in asked)  # their golds are numbers


def test_every_source_is_claimed_by_one_family() -> None:
    prefixes = [source.prefix for source in SOURCES]
    assert not any(a != b and a.startswith(b) for a in prefixes for b in prefixes)
    assert source_of("icl_banking77_5900shot").category == "test-time-learning"


def test_the_real_rows_load_with_their_evidence() -> None:
    task = RowsTask(shared("data", "memoryagentbench", "Conflict_Resolution.json"))
    episodes = list(task.episodes(0, None))
    assert sum(len(episode.queries) for episode in episodes) == 400
    single = [episode for episode in episodes if episode.source.startswith("factconsolidation_sh")]
    asked = [query for episode in single for query in episode.queries]
    assert len(asked) == 200
    assert all(query.metadata.get("evidence") for query in asked)
