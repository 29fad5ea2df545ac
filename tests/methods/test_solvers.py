"""Solvers by hand, and on the benchmark's real rows."""

import json
from statistics import fmean

import pytest
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.solvers import options_of
from deltamem_eval.registry import METHODS
from deltamem_eval.tasks.memory_agent_bench.metrics import score
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row, load_rows
from tiny import tiny_backbone

from shared import shared

FACTS = (
    "Here is a list of facts:\n0. The capital of France is Lyon.\n1. The capital of Peru is Lima.\n"
    "2. The capital of France is Paris.\n"
)
SHOWN = "can you lend me money\nlabel: 4\nmy card is lost\nlabel: 17\nwhere is my lost card\nlabel: 17\n"


def solve(name: str, context: str, question: str, key: str = "k", seed: int = 0) -> tuple[str, str]:
    made = METHODS.load(name)(tiny_backbone(), MethodSettings(0, seed))
    for index, line in enumerate(context.splitlines(keepends=True)):
        made.write(Chunk(line, index))
    snapshot = made.snapshot()
    made.reset()
    made.restore(snapshot)
    (answer,) = made.answer([Query(key, "asked", ("x",), metadata={"question": question})])
    return answer.text, answer.status


@pytest.mark.parametrize(
    ("name", "context", "question", "wanted"),
    [
        ("oracle-last-write", FACTS, "What is the capital of France?", "Paris"),
        ("oracle-first-write", FACTS, "What is the capital of France?", "Lyon"),
        ("majority-label", SHOWN, "lend me something", "17"),
        ("nearest-example", SHOWN, "lend me something", "4"),
        (
            "nearest-example",
            "book a table label : red\nplay a song label : blue\nhi label : x\n",
            "song",
            "blue",
        ),
    ],
)
def test_by_hand(name: str, context: str, question: str, wanted: str) -> None:
    assert solve(name, context, question) == (wanted, "ok")


@pytest.mark.parametrize(
    "name", ["oracle-last-write", "oracle-first-write", "majority-label", "nearest-example", "random-option"]
)
def test_what_is_not_of_their_kind_is_skipped(name: str) -> None:
    assert solve(name, "It rained.\n", "What happened then?") == ("", "skipped")


def test_options_in_both_forms() -> None:
    assert options_of("Choose: ['He left.', \"She's in.\"] Only answer.") == ["He left.", "She's in."]
    detective = "Example\nA. one\nB. two\nNow Answer the Question: who?\nA. Ann\nB. Bob\nC. Cid\n"
    assert options_of(detective) == ["A. Ann", "B. Bob", "C. Cid"]
    assert options_of("Who? A. or B.") == []


def test_a_random_option_is_seeded_and_takes_all() -> None:
    question = "Which? ['a', 'b', 'c']"
    drawn = [solve("random-option", "x\n", question, f"q{index}")[0] for index in range(30)]
    assert set(drawn) == {"a", "b", "c"}
    assert drawn == [solve("random-option", "x\n", question, f"q{index}")[0] for index in range(30)]
    assert drawn != [solve("random-option", "x\n", question, f"q{index}", 1)[0] for index in range(30)]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("oracle-last-write", {"6k": 0.98, "262k": 0.96}, {"6k": 1.0, "262k": 0.98}),
     ("oracle-first-write", {"6k": 0.24, "262k": 0.22}, {"6k": 0.28, "262k": 0.27})],
)  # fmt: skip
def test_bounds_of_the_real_rows(name: str, least: dict[str, float], most: dict[str, float]) -> None:
    for index, row in enumerate(load_rows(shared("data", "memoryagentbench", "Conflict_Resolution.json"))):
        episode = episode_from_row(row, split="cr", index=index)
        if "_sh_" not in episode.source:
            continue
        made = METHODS.load(name)(tiny_backbone(), MethodSettings(0))
        made._set([chunk.text for chunk in episode.chunks])
        answers = made.answer(episode.queries)
        found = fmean(
            score(episode.source, answer.text, query.targets)["substring_exact_match"]
            for query, answer in zip(episode.queries, answers, strict=True)
        )
        size = episode.source.rsplit("_", 1)[1]
        assert least[size] <= found <= most[size], (episode.source, found)


def test_options_of_the_real_questions() -> None:
    file = shared("data", "memoryagentbench", "other_splits_questions.jsonl")
    items = [json.loads(line) for line in file.read_text().splitlines()]
    listed = [item for item in items if item["source"].startswith(("eventqa", "detective"))]
    found = [options_of(item["question"]) for item in listed]
    assert fmean(len(options) in (4, 6) for options in found) > 0.97
    holding = [
        any(score(item["source"], option, item["answers"]).get("exact_match") for option in options)
        for item, options in zip(listed, found, strict=True)
        if options
    ]
    assert fmean(holding) > 0.97
