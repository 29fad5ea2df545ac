"""HotpotQA: its file, its evidence, its scores, and a run from end to end."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Episode, Query
from deltamem_eval.tasks.hotpotqa.task import PROMPT_VERSION, HotpotQaTask
from hypothesis import given
from hypothesis import strategies as st

from shared import changed, shared

METRICS = ("accuracy", "exact_match", "f1", "release_exact_match", "release_f1")


def row(name: str = "h1", answer: str = "Oslo") -> dict[str, Any]:
    return {
        "_id": name,
        "question": "Where was the maker of the red kite born?",
        "answer": answer,
        "type": "bridge",
        "context": [
            ["Red Kite", ["The kite is red.", " ", " Ada Moe made it."]],
            ["Ada Moe", [" ", "Moe was born in  Oslo.\n", " She sails."]],
            ["Nothing", []],
        ],
        "supporting_facts": [["Red Kite", 2], ["Ada Moe", 1], ["Red Kite", 2], ["Ada Moe", 9], ["Bo", 0]],
    }


def write(tmp_path: Path, value: Any) -> Path:
    file = tmp_path / "hotpot.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def test_a_question_becomes_an_episode(tmp_path: Path) -> None:
    (episode,) = HotpotQaTask(write(tmp_path, [row()])).episodes(0, None)
    assert (episode.id, episode.source, episode.category) == ("h1", "hotpotqa", "accurate-retrieval")
    assert [(chunk.index, chunk.text) for chunk in episode.chunks] == [
        (0, "Red Kite: The kite is red.\n"),
        (1, "Ada Moe made it.\n"),
        (2, "Ada Moe: Moe was born in Oslo.\n"),
        (3, "She sails.\n"),
    ]
    (query,) = episode.queries
    assert (query.id, query.targets, query.max_new_tokens) == ("h1/q000", ("Oslo",), 32)
    assert query.metadata == {
        "question": "Where was the maker of the red kite born?",
        "question_types": "bridge",
        "evidence": ["Ada Moe made it.\n", "Ada Moe: Moe was born in Oslo.\n"],
    }
    assert PROMPT_VERSION == 1
    assert query.prompt == (
        "Use the paragraphs above to answer in a few words.\n"
        "Question: Where was the maker of the red kite born?\nAnswer:"
    )


def test_the_type_is_optional(tmp_path: Path) -> None:
    plain = row()
    del plain["type"]
    (episode,) = HotpotQaTask(write(tmp_path, [plain])).episodes(0, None)
    assert "question_types" not in episode.queries[0].metadata


def test_of_two_paragraphs_with_one_title_the_first_is_meant(tmp_path: Path) -> None:
    twice = row()
    twice["context"].append(["Ada Moe", ["Another.", "No one."]])
    (episode,) = HotpotQaTask(write(tmp_path, [twice])).episodes(0, None)
    assert episode.queries[0].metadata["evidence"][1] == "Ada Moe: Moe was born in Oslo.\n"
    assert [chunk.text for chunk in episode.chunks[4:]] == ["Ada Moe: Another.\n", "No one.\n"]


def test_limit_and_seed(tmp_path: Path) -> None:
    task = HotpotQaTask(write(tmp_path, [row("a"), row("b"), row("c")]))
    assert [episode.id for episode in task.episodes(0, 2)] == ["a", "b"]
    assert list(task.episodes(0, None)) == list(task.episodes(3, 5))


def test_identity_follows_the_bytes(tmp_path: Path) -> None:
    file = write(tmp_path, [row()])
    base = HotpotQaTask(str(file)).identity()
    assert json.loads(json.dumps(base)) == base
    file.write_text(file.read_text() + "\n")
    assert HotpotQaTask(file).identity() != base


@pytest.mark.parametrize(
    ("said", "gold", "exact", "shared_words"),
    [
        ("The Oslo.", "Oslo", 1, 1),
        (" Oslo\nand more", "Oslo", 1, 1),
        ("\n\nOslo", "Oslo", 1, 1),
        ("in Oslo", "Oslo", 0, 2 / 3),
        ("old red kite", "the red kite", 0, 2 * 2 / (3 + 2)),
        ("Bergen\nOslo", "Oslo", 0, 0),
        ("Yes.", "yes", 1, 1),
        ("yes it is", "yes", 0, 0),
        ("no", "no way", 0, 0),
        ("", "Oslo", 0, 0),
    ],
)
def test_scores_by_hand(said: str, gold: str, exact: float, shared_words: float, tmp_path: Path) -> None:
    task = HotpotQaTask(write(tmp_path, [row()]))
    found = task.score(Query("q", "", (gold,)), said)
    official = {name: value for name, value in found.items() if not name.startswith("release_")}
    assert official == {"accuracy": exact, "exact_match": exact, "f1": pytest.approx(shared_words)}


@pytest.mark.parametrize(
    ("said", "golds", "exact", "shared_words"),
    [
        ("yes, both", ["yes"], 0, 2 / 3),
        ("well known", ["well-known"], 1, 1),
        ("well-known\nand more", ["well known"], 1, 1),
        ("U.S.", ["US"], 0, 0),
        ("the Oslo.", ["Bergen", "Oslo"], 1, 1),
        ("Oslo city", ["Bergen", "Oslo"], 0, 2 / 3),
        ("The The", ["A"], 1, 1),  # articles alone: no token on either side
        ("", ["Oslo"], 0, 0),
    ],
)
def test_scores_by_the_release_s_rules(
    said: str, golds: list[str], exact: float, shared_words: float, tmp_path: Path
) -> None:
    found = HotpotQaTask(write(tmp_path, [row()])).score(Query("q", "", tuple(golds)), said)
    assert found["release_exact_match"] == exact
    assert found["release_f1"] == pytest.approx(shared_words)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> HotpotQaTask:
    return HotpotQaTask(write(tmp_path_factory.mktemp("hotpot"), [row()]))


@given(said=st.text(), gold=st.text(min_size=1))
def test_scores_are_shares_and_exact_match_is_the_harder(said: str, gold: str, task: HotpotQaTask) -> None:
    found = task.score(Query("q", "", (gold, "Oslo")), said)
    assert all(0.0 <= value <= 1.0 for value in found.values())
    assert found["accuracy"] == found["exact_match"]
    assert set(found) == set(METRICS)
    assert found["release_exact_match"] <= found["release_f1"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "C"]), st.lists(st.sampled_from(["x.", " y.", " ", ""]))),
        min_size=1,
    ),
    st.lists(st.tuples(st.sampled_from(["A", "B", "D"]), st.integers(-1, 4))),
)
def test_evidence_is_always_made_of_chunks(
    context: list[tuple[str, list[str]]], facts: list[tuple[str, int]]
) -> None:
    from deltamem_eval.tasks.hotpotqa.questions import load_questions

    made = {
        **row(),
        "context": [list(pair) for pair in context],
        "supporting_facts": [list(f) for f in facts],
    }
    sentences = sum(bool(text.strip()) for _, texts in context for text in texts)
    if not sentences:
        with pytest.raises(UserError, match="context holds no sentence"):
            load_questions([made], "x.json")
        return
    (question,) = load_questions([made], "x.json")
    assert len(question.lines) == sentences
    assert set(question.lines).issuperset(question.evidence)


def broken(*path: Any, value: Any = None, drop: bool = False) -> list[dict[str, Any]]:
    """A file's value with the field at `path` of its row replaced or removed."""
    return [row("h0"), changed(row(), *path, to=value, drop=drop)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"data": []}, "expected a list of questions"),
        ([], "expected a list of questions"),
        ([{"question": "Who?", "answer": "Bo", "type": "bridge"}], "has no paragraphs .* distractor format"),
        ([row(), row()], "_id h1 stands twice"),
        ([row(), 4], "row 1: the row must be an object, not 4"),
        (broken("_id", drop=True), "row 1: _id must be a text that is not empty, not nothing"),
        (broken("question", value=" "), "row 1: question must be a text that is not empty"),
        (broken("answer", value=""), "row 1: answer must be a text that is not empty, not ''"),
        (broken("answer", drop=True), "row 1: answer must be a text that is not empty, not nothing"),
        (broken("type", value=3), r"row 1 \(h1\): type must be a text, not 3"),
        (broken("context", drop=True), r"row 1 \(h1\): context must be a list .*, not nothing"),
        (broken("context", value=[]), r"row 1 \(h1\): context holds no sentence"),
        (broken("context", 1, value=["x"]), r"context\[1\]: the paragraph must be a pair"),
        (broken("context", 1, 0, value=""), r"context\[1\]: title must be a text"),
        (broken("context", 1, 1, value="text"), r"context\[1\]: sentences must be a list of texts"),
        (broken("supporting_facts", drop=True), "supporting_facts must be a list .*, not nothing"),
        (broken("supporting_facts", 0, value=["Red Kite", "0"]), "supporting_facts must be a list"),
    ],
)
def test_broken_files_are_refused_by_name(value: Any, words: str, tmp_path: Path) -> None:
    file = write(tmp_path, value)
    with pytest.raises(UserError, match=words) as caught:
        HotpotQaTask(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^task hotpotqa needs its file: give --task-option path="):
        HotpotQaTask()
    with pytest.raises(UserError, match="no such file"):
        HotpotQaTask(tmp_path / "none.json")
    (tmp_path / "x.json").write_bytes(b'["\xff"]')
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 2\)"):
        HotpotQaTask(tmp_path / "x.json")


def test_the_questions_only_file_is_refused() -> None:
    with pytest.raises(UserError, match="has no paragraphs"):
        HotpotQaTask(shared("data", "hotpotqa", "hotpot_dev_v1_simplified.json"))


def test_real_questions_find_all_their_evidence() -> None:
    file = shared("data", "hotpotqa", "hotpotqa_train_100.json")
    task = HotpotQaTask(file)
    episodes = list(task.episodes(0, None))
    data = json.loads(file.read_text(encoding="utf-8"))
    assert len(episodes) == 100
    assert Counter(episode.queries[0].metadata["question_types"] for episode in episodes) == {
        "bridge": 78,
        "comparison": 22,
    }
    assert sum(len(episode.chunks) for episode in episodes) == 4139 - 2
    for episode, given_row in zip(episodes, data, strict=True):
        (query,) = episode.queries
        evidence = query.metadata["evidence"]
        assert len(evidence) == len({tuple(fact) for fact in given_row["supporting_facts"]})
        assert {chunk.text for chunk in episode.chunks}.issuperset(evidence)
        assert all(chunk.text.count("\n") == 1 for chunk in episode.chunks)
        assert query.targets[0] not in query.prompt.replace(query.metadata["question"], "")
        assert task.score(query, query.targets[0]) == dict.fromkeys(METRICS, 1.0)


class Silent:
    """A progress nobody looks at."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.cells import Cell
    from deltamem_eval.runner import cell_identity, run_cell
    from deltamem_eval.store import RunStore

    task = HotpotQaTask(write(tmp_path, [row("a"), row("b", answer="yes")]))
    episodes: list[Episode] = list(task.episodes(0, None))
    backbone = load_backbone("embedded", device="cpu")
    store = RunStore.open(tmp_path / "run", {"task": "hotpotqa"}, {})
    try:
        cell = Cell("vanilla", "hotpotqa", 0, None)
        identity = cell_identity(cell, task, backbone, None)
        run_cell(cell, task, episodes, backbone, store, identity, Silent())
        samples = store.cell(identity).samples()
    finally:
        store.close()
    assert [(item.query, item.status, item.evidence) for item in samples] == [
        ("a/q000", "ok", 1.0),
        ("b/q000", "ok", 1.0),
    ]
    for item, episode in zip(samples, episodes, strict=True):
        assert item.metrics == task.score(episode.queries[0], item.answer)
