"""Numbered facts: parsing, slots, and the figures of the benchmark's own rows."""

import json
from typing import Any

import pytest
from deltamem_eval.numbered_facts import Fact, Slots, parse_facts, slot_candidates
from deltamem_eval.relations import prefixes, split_statement
from deltamem_eval.tasks.builders.facts import conflicts, single_by_gold

from shared import shared

CONTEXT = (
    "Here is a list of facts:\n"
    "0. The capital of Japan is Tokyo.\n"
    "1. Pedro Pierluisi worked in the city of Washington, D.C..\n"
    "2. The university of Bonn is old.\n"
    "3. The capital of Japan is Oslo.\n"
    "10. Ann lives in Rome.\n"
    "4. Ann lives in Paris.\n"
)


def test_facts_are_parsed_sorted_and_split() -> None:
    facts = parse_facts(CONTEXT)
    assert [fact.serial for fact in facts] == [0, 1, 2, 3, 4, 10]
    assert facts[0] == Fact(0, "The capital of Japan is Tokyo", "Tokyo")
    assert facts[0].slot == "The capital of Japan is"
    assert facts[1].value == "Washington, D.C."
    assert facts[1].line == "1. Pedro Pierluisi worked in the city of Washington, D.C.."
    assert (facts[4].slot, facts[4].value) == ("Ann lives in", "Paris")
    assert parse_facts("no facts here\n") == []


def test_slots_know_old_and_new() -> None:
    slots = Slots.of(CONTEXT)
    assert (len(slots.facts), len(slots.groups), slots.superseded) == (6, 4, 2)
    japan = slots.slot_of("What is the capital of Japan?")
    assert japan == "The capital of Japan is"
    assert (slots.oldest(japan), slots.newest(japan)) == ("Tokyo", "Oslo")
    assert slots.values("Ann lives in") == ["Paris", "Rome"]
    with pytest.raises(KeyError):
        slots.newest("The capital of Peru is")


def test_candidates_come_oldest_first_in_any_wording() -> None:
    facts = parse_facts(CONTEXT)
    asked = slot_candidates(facts, "What is the capital of Japan?")
    assert [(fact.serial, fact.value) for fact in asked] == [(0, "Tokyo"), (3, "Oslo")]
    other = slot_candidates(facts, "Where does Ann live nowadays?")
    assert [fact.value for fact in other] == ["Paris", "Rome"]
    assert slot_candidates(facts, "Who painted the ceiling?") == []
    assert slot_candidates([], "Who painted the ceiling?") == []


def test_specific_relations_go_before_general_ones() -> None:
    assert prefixes("Who is the author of Emma?") == ["The author of Emma is", "The author of Emma is"]
    assert split_statement("The Who is associated with the sport of golf") == (
        "The Who is associated with the sport of",
        "golf",
    )
    assert split_statement("The Prime Minister of Albania is Edi Rama") == (
        "The Prime Minister of Albania is",
        "Edi Rama",
    )
    assert set(prefixes("Where is Oslo located?")) == {"Oslo is located in"}
    assert prefixes("How are you?") == []


def test_conflicts_are_counted() -> None:
    row = {
        "context": CONTEXT,
        "questions": [
            "What is the capital of Japan?",
            "Where does Ann live?",
            "Which city did Pedro Pierluisi work in?",
            "Who painted the ceiling?",
        ],
        "answers": [["Oslo"], ["Paris"], ["Washington, D.C."], ["Ann"]],
    }
    found = conflicts(row)
    assert (found.questions, found.unmatched, found.single, found.contradicting) == (4, 1, 1, 1)
    assert (found.newest_right, found.oldest_right) == (2, 2)
    assert (found.unstated, found.single_by_gold) == (1, 1)  # no fact ends in Ann


def test_by_the_words_before_the_gold_a_line_of_another_slot_may_be_taken() -> None:
    row = {
        "context": "0. Go was created in the country of China.\n"
        "1. Go fish was created in the country of China.\n"
        "2. Go fish was created in the country of Japan.\n",
        "questions": ["Which country was Go created in?", "Which country was Go fish created in?"],
        "answers": [["China"], ["Japan"]],
    }
    found = conflicts(row)
    assert (found.single, found.single_by_gold) == (1, 0)
    older = row["context"].replace("0. ", "9. ")  # the newest of equals is Go's own line now
    assert conflicts({**row, "context": older}).single_by_gold == 1


def test_words_before_the_gold_are_whole_words() -> None:
    facts = ["The head of Oslo is Ann", "The head of Oslo isle is Bob", "Mary Ann lives in Rome"]
    assert single_by_gold(facts, "Who is the head of Oslo?", ["Ann"]) is True
    assert single_by_gold(facts, "Where does Mary Ann live?", ["Paris", "Rome"]) is True
    assert single_by_gold([*facts, "The head of Oslo is Zoe"], "Who is the head of Oslo?", ["Ann"]) is False
    assert single_by_gold(facts, "Who is it?", ["ob"]) is None


def real_row(source: str) -> dict[str, Any]:
    rows = json.loads(shared("data", "memoryagentbench", "Conflict_Resolution.json").read_text())
    return next(row for row in rows if row["metadata"]["source"] == source)


@pytest.mark.parametrize(
    ("source", "facts", "slots", "single", "by_gold", "contradicting", "oldest"),
    [
        ("factconsolidation_sh_6k", 455, 294, 26, 26, 0, 26),
        ("factconsolidation_sh_262k", 18332, 11096, 23, 21, 3, 26),
    ],
)
def test_the_benchmarks_own_rows(
    source: str, facts: int, slots: int, single: int, by_gold: int, contradicting: int, oldest: int
) -> None:
    found = conflicts(real_row(source))
    assert (found.facts, found.slots, found.superseded) == (facts, slots, facts - slots)
    assert (found.unmatched, found.single, found.contradicting) == (0, single, contradicting)
    assert (found.unstated, found.single_by_gold) == (0, by_gold)
    assert (found.newest_right, found.oldest_right) == (100 - contradicting, oldest)


@pytest.mark.parametrize(("size", "least"), [("6k", 98), ("262k", 95)])
def test_rules_do_nearly_as_well_without_the_templates(
    size: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltamem_eval.numbered_facts.prefixes", lambda question: [])
    monkeypatch.setattr("deltamem_eval.numbered_facts.split_statement", lambda statement: None)
    assert conflicts(real_row(f"factconsolidation_sh_{size}")).newest_right >= least
