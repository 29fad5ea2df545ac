"""FactConsolidation rows from MQuAKE cases: the newest fact is last and is the gold."""

import json
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.numbered_facts import Slots, parse_facts
from deltamem_eval.tasks.builders.common import Settings
from deltamem_eval.tasks.builders.facts import conflicts
from deltamem_eval.tasks.builders.mquake import HEADER, factconsolidation, size_name
from deltamem_eval.tasks.memory_agent_bench.rows import check_row, evidence_of

from shared import shared


def words(text: str) -> int:
    return len(text.split())


def hop(subject: str, value: str) -> dict[str, str]:
    return {
        "question": f"Who founded {subject}?",
        "cloze": f"{subject} was founded by",
        "answer": value,
    }


def case(number: int, new: str = "") -> dict[str, Any]:
    """A chain of two hops whose first is rewritten."""
    other = new or f"Eve{number}"
    return {
        "requested_rewrite": [
            {"prompt": "{} was founded by", "subject": f"Club{number}", "target_new": {"str": other}}
        ],
        "questions": [
            f"{word} founded the founder of Club{number}?" for word in ("Who", "By whom was", "Which")
        ],
        "new_answer": "Zed",
        "single_hops": [hop(f"Club{number}", f"Ann{number}"), hop(f"Ann{number}", "Bob")],
        "new_single_hops": [hop(f"Club{number}", other), hop(other, "Zed")],
    }


def written(folder: Path, cases: Any) -> Path:
    file = folder / "cases.json"
    file.write_text(json.dumps(cases))
    return file


def test_the_newest_fact_has_the_larger_serial_and_is_the_gold(tmp_path: Path) -> None:
    file = written(tmp_path, [case(number) for number in range(12)])
    made = factconsolidation([file], Settings(1000, 12, words, seed=1, resamples=2))
    assert [row["metadata"]["source"].split("_")[1] for row in made.rows] == ["sh", "mh", "sh", "mh"]
    assert made.rows[0]["context"] == made.rows[1]["context"] != made.rows[2]["context"]
    for row in made.rows:
        check_row(row, "row")
        assert row["context"].startswith(HEADER)
        slots = Slots.of(row["context"])
        assert [fact.serial for fact in slots.facts] == list(range(48))
        assert slots.values("Club3 was founded by") == ["Ann3", "Eve3"]
        assert all(set(lines) <= set(row["context"].splitlines()) for lines in row["metadata"]["evidence"])
    single, multi = made.rows[:2]
    found = conflicts(single)
    assert (found.unmatched, found.contradicting, found.newest_right) == (0, 0, 12)
    assert sum(updates == 0 for updates in single["metadata"]["updates"]) == found.single == 4
    by_rule = evidence_of("factconsolidation_sh_1k", tuple(single["context"].splitlines()), single)
    assert by_rule == single["metadata"]["evidence"]
    assert multi["answers"] == [["Zed"]] * 12
    assert [len(lines) for lines in multi["metadata"]["evidence"]] == [2] * 12
    assert len({question.split("Club")[1] for question in multi["questions"]}) == 12
    assert made.notes[0].startswith("all cases together fill ")


def test_rows_repeat_and_keep_their_budget(tmp_path: Path) -> None:
    file = written(tmp_path, [case(number) for number in range(60)])
    settings = Settings(400, 10, words)
    first = factconsolidation([file], settings)
    assert first == factconsolidation([file], settings)
    assert 360 < words(first.rows[0]["context"]) <= 400
    assert len(parse_facts(first.rows[0]["context"])) < 60 * 4


def test_cases_that_contradict_others_are_left_out(tmp_path: Path) -> None:
    file = written(tmp_path, [case(1), case(1, "Ivy"), case(2), case(3)])
    made = factconsolidation([file], Settings(1000, 3, words))
    assert made.notes[0] == "up to 1 cases a row left out: they contradict others"
    assert len(Slots.of(made.rows[0]["context"]).values("Club1 was founded by")) == 2


def test_white_space_at_the_ends_of_a_rewrite_leaves_no_case_out(tmp_path: Path) -> None:
    spaced = case(1)
    spaced["requested_rewrite"][0] |= {"prompt": "{} was founded by ", "target_new": {"str": " Eve1"}}
    spaced["new_answer"] = "Zed "
    made = factconsolidation([written(tmp_path, [spaced, case(2), case(3)])], Settings(1000, 9, words))
    assert Slots.of(made.rows[0]["context"]).values("Club1 was founded by") == ["Ann1", "Eve1"]
    assert made.rows[1]["answers"] == [["Zed"]] * 9
    assert not any("left out" in note for note in made.notes)


def test_cases_that_no_rows_can_be_made_of_are_counted(tmp_path: Path) -> None:
    other = case(4)
    other["requested_rewrite"][0]["target_new"]["str"] = "Kim"
    odd = [
        {**case(1), "questions": []},
        {**case(2), "new_answer": "Kim"},
        {**case(3), "new_single_hops": []},
        other,
    ]
    made = factconsolidation([written(tmp_path, [*odd, case(5), case(6)])], Settings(1000, 6, words))
    assert made.notes[0] == (
        "4 of 6 cases left out: without a question, or with a new chain that lacks a rewrite or does not end "
        "at the new answer"
    )
    assert "Club4" not in made.rows[0]["context"]


@pytest.mark.parametrize(
    ("cases", "tokens", "message"),
    [
        ({}, 500, "must hold a list of MQuAKE cases"),
        ([{"questions": []}], 500, "case 0: lacks requested_rewrite"),
        ([case(1)], 10, "10 tokens hold no case"),
        ([case(1)], 500, "9 questions asked for, but the facts of 500 tokens give 3"),
        ([{**case(1), "new_answer": "Kim"}], 500, r"gives no MQuAKE cases: .* \(1 of 1 cases left out: with"),
    ],
)
def test_bad_cases_are_refused(cases: Any, tokens: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        factconsolidation([written(tmp_path, cases)], Settings(tokens, 9, words))


def test_the_real_cases() -> None:
    file = shared("data", "mquake", "MQuAKE-hard.json")
    made = factconsolidation([file], Settings(6000, 100, words))
    single, multi = made.rows
    assert not any("new chain" in note for note in made.notes)  # every case serves
    found = conflicts(single)
    assert (found.questions, found.unmatched, found.newest_right, found.single) == (100, 0, 100, 30)
    assert words(single["context"]) <= 6000
    # Walking a chain's evidence ends at the gold.
    for lines, golds in zip(multi["metadata"]["evidence"], multi["answers"], strict=True):
        assert lines[-1].endswith(f" {golds[0]}.")


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        (65_536, "64k"),
        (32_768, "32k"),
        (262_144, "262k"),
        (6_000, "6k"),
        (32_000, "32k"),
        (400, "1k"),
    ],
)
def test_sizes_are_named_as_in_the_benchmark(tokens: int, wanted: str) -> None:
    assert size_name(tokens) == wanted
