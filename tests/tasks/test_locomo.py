"""LoCoMo: its file, its dates and evidence, its scores, and a run from end to end."""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Episode, Query
from deltamem_eval.tasks.locomo.dialogues import CATEGORIES
from deltamem_eval.tasks.locomo.prompts import PROMPT_VERSION, UNKNOWN, wrap
from deltamem_eval.tasks.locomo.task import LocomoTask, parse_categories
from hypothesis import given
from hypothesis import strategies as st

from shared import changed, shared

ALL = "1,2,3,4,5"
COUNTS = {"multi-hop": 282, "temporal": 321, "open-domain": 96, "single-hop": 841, "adversarial": 446}


def turn(session: int, number: int, speaker: str, text: str, **more: Any) -> dict[str, Any]:
    return {"speaker": speaker, "dia_id": f"D{session}:{number}", "text": text, **more}


def ask(category: int, question: str, answer: Any, *evidence: str) -> dict[str, Any]:
    field = "adversarial_answer" if category == 5 else "answer"
    return {"question": question, field: answer, "evidence": list(evidence), "category": category}


def sample(name: str = "talk-1") -> dict[str, Any]:
    """A dialogue of four sessions, the third without turns; the tenth stands before the second."""
    return {
        "sample_id": name,
        "conversation": {
            "speaker_a": "Ada",
            "speaker_b": "Bo",
            "session_10_date_time": "12:05 am on 1 January, 2024",
            "session_10": [turn(10, 1, "Bo", "Happy new year!")],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                turn(1, 1, "Ada", "I got a kite.\n\n"),
                turn(1, 2, "Bo", "It is red", blip_caption="a photo of a red kite"),
            ],
            "session_2_date_time": "9:00 am on 25 May, 2023",
            "session_2": [turn(2, 1, "Ada", "Yesterday I flew it in Oslo.")],
            "session_3_date_time": "9:00 am on 26 May, 2023",
            "session_3": [],
        },
        "qa": [
            ask(1, "What has Ada?", "a kite, a pen", "D1:1; D1:2", "D2:01", "D1:1"),
            ask(2, "When did Ada fly?", 2023, "D2:1", "D", "D9:9"),
            ask(3, "Is Ada outdoors?", "Likely yes; she flies kites", "D2:1"),
            ask(4, "What colour is it?", "red", "D:1:2"),
            ask(5, "What colour is the boat?", "blue", "D1:2"),
        ],
    }


def write(tmp_path: Path, value: Any) -> Path:
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def one(tmp_path: Path, **options: str) -> Episode:
    (episode,) = LocomoTask(write(tmp_path, [sample()]), **options).episodes(0, None)
    return episode


def test_a_dialogue_becomes_an_episode(tmp_path: Path) -> None:
    episode = one(tmp_path)
    assert (episode.id, episode.source, episode.category) == ("talk-1", "locomo", "accurate-retrieval")
    assert [(chunk.index, chunk.session, chunk.text) for chunk in episode.chunks] == [
        (0, "2023-05-08T13:56", "Conversation at 1:56 pm on 8 May, 2023:\n"),
        (1, "2023-05-08T13:56", "Ada: I got a kite.\n"),
        (2, "2023-05-08T13:56", "Bo: It is red [image: a photo of a red kite]\n"),
        (3, "2023-05-25T09:00", "Conversation at 9:00 am on 25 May, 2023:\n"),
        (4, "2023-05-25T09:00", "Ada: Yesterday I flew it in Oslo.\n"),
        (5, "2024-01-01T00:05", "Conversation at 12:05 am on 1 January, 2024:\n"),
        (6, "2024-01-01T00:05", "Bo: Happy new year!\n"),
    ]


def test_questions_of_the_chosen_categories(tmp_path: Path) -> None:
    default, chosen = one(tmp_path), one(tmp_path, categories="5, 2")
    assert [query.id for query in default.queries] == [f"talk-1/q00{index}" for index in range(4)]
    assert [query.id for query in chosen.queries] == ["talk-1/q001", "talk-1/q004"]
    kite, year, _, colour = default.queries
    lines = [chunk.text for chunk in default.chunks]
    assert kite.metadata["evidence"] == [lines[1], lines[2], lines[4]]
    assert (year.targets, year.metadata["evidence"]) == (("2023",), [lines[4]])
    assert colour.metadata == {
        "question": "What colour is it?",
        "question_types": "single-hop",
        "evidence": [lines[2]],
    }
    assert colour.max_new_tokens == 50
    assert chosen.queries[1].targets == (UNKNOWN,)


def test_prompts_tell_the_category_and_never_the_answer(tmp_path: Path) -> None:
    prompts = [query.prompt for query in one(tmp_path, categories=ALL).queries]
    assert "date" in prompts[1]
    assert all("date" not in prompts[index] for index in (0, 2, 3, 4))
    assert [UNKNOWN in prompt for prompt in prompts] == [False, False, False, False, True]
    golds = ["a kite, a pen", "2023", "Likely yes", "red", "blue"]
    assert not [gold for gold, prompt in zip(golds, prompts, strict=True) if gold in prompt]


def test_the_wording_belongs_to_its_version() -> None:
    opening = "Use the conversation above to answer in a few words, with its own words where they fit."
    assert PROMPT_VERSION == 1
    assert wrap(1, "Who?") == f"{opening}\nQuestion: Who?\nAnswer:"
    date = " Answer with a date, worked out from the dates of the conversation."
    assert wrap(2, "Who?") == f"{opening}{date}\nQuestion: Who?\nAnswer:"
    offer = f' If the conversation does not tell, answer "{UNKNOWN}".'
    assert wrap(5, "{question}") == f"{opening}{offer}\nQuestion: {{question}}\nAnswer:"
    assert wrap(3, "Who?") == wrap(4, "Who?") == wrap(1, "Who?")


def test_sessions_that_hold_no_evidence_are_left_out(tmp_path: Path) -> None:
    whole, reduced = one(tmp_path), one(tmp_path, context="sessions")
    assert reduced.chunks == whole.chunks[:5]
    assert reduced.queries == whole.queries
    assert one(tmp_path, context="sessions", categories="4").chunks == whole.chunks[:3]


def test_sessions_need_evidence(tmp_path: Path) -> None:
    bare = sample()
    bare["qa"] = [ask(4, "Who?", "Bo", "D")]
    task = LocomoTask(write(tmp_path, [bare]), context="sessions")
    with pytest.raises(UserError, match="talk-1: no asked question names its evidence: use context=whole"):
        list(task.episodes(0, None))


def test_limit_counts_dialogues_that_are_asked_and_the_seed_changes_nothing(tmp_path: Path) -> None:
    silent = sample("talk-0")
    silent["qa"] = silent["qa"][4:]
    task = LocomoTask(write(tmp_path, [silent, sample("talk-1"), sample("talk-2")]))
    assert [episode.id for episode in task.episodes(0, None)] == ["talk-1", "talk-2"]
    assert [episode.id for episode in task.episodes(0, 1)] == ["talk-1"]
    assert list(task.episodes(0, None)) == list(task.episodes(7, None))


def test_identity_names_all_that_decides_the_episodes(tmp_path: Path) -> None:
    file = write(tmp_path, [sample()])
    base = LocomoTask(file).identity()
    assert json.loads(json.dumps(base)) == base
    assert LocomoTask(str(file), categories="4,3,2,1,1").identity() == base
    assert LocomoTask(file, categories="1").identity() != base
    assert LocomoTask(file, context="sessions").identity() != base
    file.write_text(file.read_text() + " ")
    assert LocomoTask(file).identity() != base


def test_the_task_scores_by_the_category_of_the_query(tmp_path: Path) -> None:
    task = LocomoTask(write(tmp_path, [sample()]), categories=ALL)
    (episode,) = task.episodes(0, None)
    said = ["a pen, a kite", "in 2023", "likely yes", "It is red", "not mentioned"]
    found = [task.score(query, text) for query, text in zip(episode.queries, said, strict=True)]
    assert [item["accuracy"] for item in found] == pytest.approx([1, 2 / 3, 1, 1 / 2, 1])
    two = Query("x", "", ("blue", "red"), metadata={"question_types": "single-hop"})
    assert task.score(two, "red") == {"accuracy": 1.0, "f1": 1.0, "exact_match": 1.0}


def broken(*path: Any, value: Any = None, drop: bool = False) -> list[dict[str, Any]]:
    """A file's value with the field at `path` of its sample replaced or removed."""
    return [changed(sample(), *path, to=value, drop=drop)]


FIRST = ("conversation", "session_1", 0)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "expected a list of dialogues"),
        ([], "expected a list of dialogues"),
        ([3], "sample 0: the sample must be an object, not 3"),
        ([sample(), sample()], "sample_id talk-1 stands twice"),
        (broken("sample_id", drop=True), "sample 0: sample_id must be a text that is not empty, not nothing"),
        (broken("conversation", value=[]), r"sample 0 \(talk-1\): conversation must be an object"),
        (broken("conversation", value={}), "conversation holds no session with turns"),
        (broken("qa", drop=True), r"\(talk-1\): qa must be a list of questions, not nothing"),
        (broken("conversation", "session_1", value="x"), "session_1 must be a list of turns, not 'x'"),
        (broken("conversation", "session_1_date_time", drop=True), "session_1_date_time must be a text"),
        (broken("conversation", "session_1_date_time", value="May"), "session_1_date_time: 'May' is not a"),
        (broken(*FIRST, value=1), r"session_1\[0\]: the turn must be an object, not 1"),
        (broken(*FIRST, "text", drop=True), r"session_1\[0\]: text must be a text, not nothing"),
        (broken(*FIRST, "speaker", value=" "), r"session_1\[0\]: speaker must be"),
        (broken(*FIRST, "blip_caption", value=["x"]), r"session_1\[0\]: blip_caption must be a text"),
        (broken(*FIRST, "dia_id", value="1"), r"session_1\[0\]: dia_id must be a text like D1:3, not '1'"),
        (broken(*FIRST, "dia_id", value="D1:2"), "dia_id D1:2 stands twice"),
        (broken("qa", 0, value=None), r"qa\[0\]: the question must be an object"),
        (broken("qa", 0, "question", value=""), r"qa\[0\]: question must be a text that is not empty"),
        (broken("qa", 0, "category", value=6), r"qa\[0\]: category must be a number from 1 to 5, not 6"),
        (
            broken("qa", 0, "category", value=True),
            r"qa\[0\]: category must be a number from 1 to 5, not True",
        ),
        (broken("qa", 0, "evidence", value="D1:1"), r"qa\[0\]: evidence must be a list of turn ids"),
        (broken("qa", 3, "answer", value=" "), r"qa\[3\]: answer must be a text that is not empty or a numb"),
        (broken("qa", 3, "answer", drop=True), r"qa\[3\]: answer must be .*, not nothing"),
        (broken("qa", value=[]), "holds no question of categories 1,2,3,4"),
    ],
)
def test_broken_files_are_refused_by_name(value: Any, words: str, tmp_path: Path) -> None:
    file = write(tmp_path, value)
    with pytest.raises(UserError, match=words) as caught:
        LocomoTask(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe", "not UTF-8 text"), (b"{", "is not JSON"), (b"", "is not JSON"), (b"[" * 99999, "nested")],
    ids=["bytes", "cut", "empty", "deep"],
)
def test_files_that_are_no_json(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words):
        LocomoTask(file)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^task locomo needs its file: give --task-option path=locomo10\.json$"
    ):
        LocomoTask()
    with pytest.raises(UserError, match="no such file"):
        LocomoTask(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read"):
        LocomoTask(tmp_path)


@pytest.mark.parametrize("text", ["", "0", "6", "1,,2", "1;2", "temporal", "1.0", "-1"])
def test_categories_are_numbers_from_1_to_5(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes numbers from 1 to 5"):
        LocomoTask(write(tmp_path, [sample()]), categories=text)


@given(st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=1))
def test_categories_are_a_set(numbers: list[int]) -> None:
    assert parse_categories(" , ".join(map(str, numbers))) == tuple(sorted(set(numbers)))


def test_contexts_have_two_extents(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be whole or sessions, not 'half'"):
        LocomoTask(write(tmp_path, [sample()]), context="half")


@pytest.fixture(scope="module")
def real() -> list[Episode]:
    return list(LocomoTask(shared("data", "locomo", "locomo10.json"), categories=ALL).episodes(0, None))


def queries(episodes: list[Episode]) -> list[Query]:
    return [query for episode in episodes for query in episode.queries]


def test_real_counts(real: list[Episode]) -> None:
    assert len(real) == 10
    assert Counter(query.metadata["question_types"] for query in queries(real)) == COUNTS
    assert len({query.id for query in queries(real)}) == 1986
    default = list(LocomoTask(shared("data", "locomo", "locomo10.json")).episodes(0, None))
    assert len(queries(default)) == 1540
    assert [episode.chunks for episode in default] == [episode.chunks for episode in real]


def test_real_sessions_follow_each_other(real: list[Episode]) -> None:
    assert sum(len({chunk.session for chunk in episode.chunks}) for episode in real) == 272
    assert sum(len(episode.chunks) for episode in real) == 272 + 5882
    for episode in real:
        dates = [datetime.fromisoformat(str(chunk.session)) for chunk in episode.chunks]
        assert dates == sorted(dates)
        assert [chunk.index for chunk in episode.chunks] == list(range(len(episode.chunks)))
        assert all(chunk.text.count("\n") == 1 and chunk.text.endswith("\n") for chunk in episode.chunks)
        assert sum(chunk.text.startswith("Conversation at ") for chunk in episode.chunks) == len(set(dates))


def test_real_evidence_stands_in_chunks(real: list[Episode]) -> None:
    for episode in real:
        lines = {chunk.text for chunk in episode.chunks}
        for query in episode.queries:
            assert lines.issuperset(query.metadata["evidence"])
    without = [query for query in queries(real) if not query.metadata["evidence"]]
    assert Counter(query.metadata["question_types"] for query in without) == {"open-domain": 4}


def test_real_prompts_are_the_wording_and_the_question_alone(real: list[Episode]) -> None:
    numbers = {name: number for number, name in CATEGORIES.items()}
    for query in queries(real):
        category = numbers[query.metadata["question_types"]]
        head, tail = wrap(category, "\0").split("\0")
        assert query.prompt == head + query.metadata["question"] + tail
        if category != 5:
            assert query.targets[0] not in head + tail or len(query.targets[0]) < 4


def test_real_golds_are_right_and_silence_is_wrong(real: list[Episode]) -> None:
    task = LocomoTask(shared("data", "locomo", "locomo10.json"))
    for query in queries(real):
        gold = query.targets[0]
        said = gold.split(";")[0] if query.metadata["question_types"] == "open-domain" else gold
        assert task.score(query, said)["accuracy"] == pytest.approx(1.0)
        assert task.score(query, "")["accuracy"] == 0.0


def test_real_reduced_contexts_are_parts_that_hold_the_evidence(real: list[Episode]) -> None:
    task = LocomoTask(shared("data", "locomo", "locomo10.json"), categories="3", context="sessions")
    whole = {episode.id: episode for episode in real}
    for episode in task.episodes(0, None):
        kept = {chunk.session for chunk in episode.chunks}
        assert [chunk.text for chunk in episode.chunks] == [
            chunk.text for chunk in whole[episode.id].chunks if chunk.session in kept
        ]
        assert len(episode.chunks) < len(whole[episode.id].chunks)
        assert {chunk.text for chunk in episode.chunks}.issuperset(
            text for query in episode.queries for text in query.metadata["evidence"]
        )


class Silent:
    """A progress nobody looks at."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.cells import Cell
    from deltamem_eval.runner import cell_identity, run_cell
    from deltamem_eval.store import RunStore

    task = LocomoTask(write(tmp_path, [sample(), sample("talk-2")]), categories=ALL)
    episodes = list(task.episodes(0, None))
    backbone = load_backbone("embedded", device="cpu")
    store = RunStore.open(tmp_path / "run", {"task": "locomo"}, {})
    shares = {}
    try:
        for window in (0, 32, None):
            cell = Cell("vanilla", "locomo", 0, window)
            identity = cell_identity(cell, task, backbone, None)
            run_cell(cell, task, episodes, backbone, store, identity, Silent())
            samples = sorted(store.cell(identity).samples(), key=lambda item: item.query)
            assert [item.query for item in samples] == [query.id for query in queries(episodes)]
            assert {item.status for item in samples} == {"ok"}
            assert {item.extras["question_types"] for item in samples} == set(COUNTS)
            assert all(
                item.metrics == task.score(query, item.answer)
                for item, query in zip(samples, queries(episodes), strict=True)
            )
            shares[window] = {item.evidence for item in samples}
    finally:
        store.close()
    assert shares[0] <= {None, 0.0}
    assert shares[None] == {1.0}
    assert min(shares[32]) < 1.0
