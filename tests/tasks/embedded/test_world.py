"""The generator: its schema, its splits, its sizes; the tokenizer."""

import re
from collections import Counter
from random import Random

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.embedded import words
from deltamem_eval.tasks.embedded.episodes import (
    CATEGORY_KINDS,
    KINDS,
    LENGTHS,
    evaluation_rows,
    make_row,
    training_row,
)
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer
from deltamem_eval.tasks.embedded.world import FULL, PLAIN, Style
from deltamem_eval.tasks.memory_agent_bench.metrics import score
from deltamem_eval.tasks.memory_agent_bench.rows import check_row
from hypothesis import given, settings
from hypothesis import strategies as st

TOKENIZER = build_tokenizer()


def facts(row: dict) -> set[tuple[str, str]]:
    """What a row binds: (what the question is about, answer), names and codes by themselves."""
    kind = row["metadata"]["source"].removeprefix("embedded_")
    found = set()
    for question, (answer,), evidence in zip(
        row["questions"], row["answers"], row["metadata"]["evidence"], strict=True
    ):
        if kind in ("codes", "updates"):
            people = re.findall(r"[A-Z][a-z]+ [A-Z][a-z]+", question)
            assert len(people) == 1
            found.add(("name", people[0]))
        if kind == "codes":
            found.add(("code", answer))
        if kind in ("rules", "preferences"):
            found.add((" ".join(sorted(set(question.split()) & set(evidence[0].split()))), answer))
        if kind == "labels":
            found.add(("utterance", question))
            found.add(("label of " + intent_of(evidence[0]), answer))
    return found


def intent_of(line: str) -> str:
    """The intent whose words an utterance has two of."""
    said = set(line.split())
    (intent,) = [name for name, own in words.TOPIC_WORDS.items() if len(said & set(own)) >= 2]
    return intent


def test_evaluation_shares_no_name_code_or_binding_with_training() -> None:
    rng = Random("disjoint")
    trained = set().union(*(facts(training_row(rng)) for _ in range(4000)))
    held_out = set().union(*(facts(row) for seed in range(20) for row in evaluation_rows(seed)))
    assert len(trained) > 3000
    assert len(held_out) > 500
    assert not trained & held_out


@pytest.mark.parametrize("style", [FULL, PLAIN], ids=["full", "plain"])
def test_no_rung_of_the_backbone_shares_a_name_code_or_binding_with_evaluation(style: Style) -> None:
    """Its plainest rung shares utterances, and these alone."""
    rng = Random("rungs")
    rows = [
        make_row(kind, rng, split="train", context_tokens=60, associations=4, style=style)
        for kind in KINDS
        for _ in range(400)
    ]
    trained = set().union(*map(facts, rows))
    held_out = set().union(*(facts(row) for seed in range(20) for row in evaluation_rows(seed)))
    shared = {what for what, _ in trained & held_out}
    assert shared == ({"utterance"} if style is PLAIN else set())
    assert any(what.startswith("label of ") for what, _ in trained)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_keep_the_schema_and_their_evidence(kind: str) -> None:
    for seed in range(20):
        row = make_row(kind, Random(seed), split="eval", context_tokens=200, associations=4)
        check_row(row, kind)
        for answer, evidence in zip(row["answers"], row["metadata"]["evidence"], strict=True):
            assert all(line in row["context"] for line in evidence)
            assert all(f" {answer[0]}" in line for line in evidence)


def test_the_newest_home_and_the_most_frequent_place_are_the_gold() -> None:
    for seed in range(30):
        row = make_row("updates", Random(seed), split="eval", context_tokens=150, associations=4)
        lines = row["context"].splitlines(keepends=True)
        for question, (answer,) in zip(row["questions"], row["answers"], strict=True):
            person = re.findall(r"[A-Z][a-z]+ [A-Z][a-z]+", question)[0]
            assert f" {answer}" in [line for line in lines if person in line][-1]
        row = make_row("topics", Random(seed), split="eval", context_tokens=150, associations=4)
        counts = Counter(re.findall(r"(?:at|about|to|,|:|note|today|also|way) the (\w+)", row["context"]))
        assert counts[row["answers"][0][0]] == max(counts.values())


def test_sizes_and_number_of_questions() -> None:
    for seed in (0, 1, 2):
        counts: Counter[str] = Counter()
        kinds = {f"embedded_{kind}": category for category, group in CATEGORY_KINDS.items() for kind in group}
        seen = set()
        for row in evaluation_rows(seed):
            counts[kinds[row["metadata"]["source"]]] += len(row["questions"])
            wanted = row["metadata"]["context_tokens"][0]
            seen.add(wanted)
            assert len(TOKENIZER.encode(row["context"])) <= max(wanted, 170)
        assert seen == set(LENGTHS)
        assert min(counts.values()) >= 67


def test_same_seed_same_rows_and_seeds_of_training_are_refused() -> None:
    assert list(evaluation_rows(3)) == list(evaluation_rows(3)) != list(evaluation_rows(4))
    with pytest.raises(UserError, match="not for evaluation"):
        next(evaluation_rows(-1))


def test_every_answer_is_one_token_a_word() -> None:
    for row in evaluation_rows(0):
        for (answer,) in row["answers"]:
            assert len(TOKENIZER.encode(f" {answer}")) == len(answer.split())


@settings(deadline=None)
@given(st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_gold_scores_and_another_answer_does_not() -> None:
    for row in evaluation_rows(5, limit=3):
        source = row["metadata"]["source"]
        for (answer,) in row["answers"]:
            assert score(source, f" {answer}\nmore", [answer])["exact_match"] == 1
            assert score(source, f"not {answer}", [answer])["exact_match"] == 0
