"""LoCoMo's rules by hand and by property: dates, turn ids, and scores by category."""

from calendar import month_name
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from deltamem_eval.tasks.locomo.dialogues import CATEGORIES, parse_date, parse_turn_ids
from deltamem_eval.tasks.locomo.metrics import exact_match, f1, parts_f1, score, stems
from deltamem_eval.tasks.locomo.prompts import UNKNOWN
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("1:56 pm on 8 May, 2023", "2023-05-08T13:56"),
        ("12:09 am on 13 September, 2023", "2023-09-13T00:09"),
        ("12:30 pm on 29 February, 2024", "2024-02-29T12:30"),
    ],
)
def test_dates(text: str, iso: str) -> None:
    assert parse_date(text).isoformat(timespec="minutes") == iso


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8 May, 2023",
        "13:56 pm on 8 May, 2023",
        "0:10 am on 8 May, 2023",
        "1:60 pm on 8 May, 2023",
        "1:56 pm on 30 February, 2023",
        "1:56 pm on 8 Mai, 2023",
        "1:56 pm on 8 May, 2023 or so",
    ],
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_date(text)


@given(st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9999, 12, 31)))
def test_any_minute_is_read_back(moment: datetime) -> None:
    minute = moment.replace(second=0, microsecond=0)
    half = "am" if minute.hour < 12 else "pm"
    day = f"{minute.day} {month_name[minute.month]}, {minute.year}"
    text = f"{minute.hour % 12 or 12}:{minute:%M} {half} on {day}"
    assert parse_date(text) == minute


@pytest.mark.parametrize(
    ("entries", "ids"),
    [
        (["D1:3"], [(1, 3)]),
        (["D8:6; D9:17"], [(8, 6), (9, 17)]),
        (["D9:1 D4:4 D4:6", "D4:4"], [(9, 1), (4, 4), (4, 6)]),
        (["D30:05", "D:11:26"], [(30, 5), (11, 26)]),
        (["D", "", "1:2", "ABCD1:2", None, 5], []),
    ],
)
def test_turn_ids(entries: list[Any], ids: list[tuple[int, int]]) -> None:
    assert parse_turn_ids(entries) == ids


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), unique=True), st.sampled_from("; ,"))
def test_turn_ids_are_found_however_they_are_joined(ids: list[tuple[int, int]], mark: str) -> None:
    assert parse_turn_ids([mark.join(f"D{session}:{number}" for session, number in ids)]) == ids


def test_f1_by_hand() -> None:
    assert stems("The running dogs, and a cat!") == ["run", "dog", "cat"]
    assert f1("She adopted dogs", "adopting a dog") == pytest.approx(2 * 2 / (3 + 2))
    assert f1("7 May, 2023", "7 May 2023") == 1.0
    assert f1("red red", "red") == pytest.approx(2 / 3)
    assert f1("", "red") == f1("the", "and") == f1("blue", "red") == 0.0


def test_f1_is_the_official_one_to_the_bit() -> None:
    assert f1("u v w x", "u v y") == (2 * 0.5 * (2 / 3)) / (0.5 + 2 / 3) == 0.5714285714285715


PARTS = ["u v w x y", "u", "v w", "x y z", "k l m n", "u k", "v l w"]


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=20), st.sampled_from(PARTS))
def test_the_mean_over_parts_is_numpy_s_to_the_bit(golds: list[str], said: str) -> None:
    found = [f1(said, gold) for gold in golds]
    assert parts_f1(said, ",".join(golds)) == float(np.mean(found))


def test_multi_hop_is_the_mean_over_the_parts_of_the_gold() -> None:
    assert parts_f1("hiking, swimming", "swimming, pottery") == pytest.approx(0.5)
    assert parts_f1("an old oak, tea", "oak, tea, milk") == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert score(1, "hiking, swimming", "swimming, pottery") == {
        "accuracy": 0.5,
        "f1": 0.5,
        "exact_match": 0.0,
    }
    apart = score(1, "pens", "pens, kites")
    assert apart["accuracy"] == pytest.approx(0.5)
    assert apart["f1"] == pytest.approx(2 / 3)


def test_open_domain_golds_end_at_a_semicolon() -> None:
    gold = "Likely yes; she flies kites"
    assert score(3, "likely yes", gold) == {"accuracy": 1.0, "f1": 1.0, "exact_match": 1.0}
    assert score(4, "likely yes", gold)["accuracy"] == pytest.approx(2 * 2 / (2 + 5))


@pytest.mark.parametrize(
    ("said", "right"),
    [("It is NOT mentioned.", 1.0), ("No information available", 1.0), ("blue", 0.0), ("", 0.0)],
)
def test_adversarial_is_a_check_of_phrases(said: str, right: float) -> None:
    assert score(5, said, UNKNOWN)["accuracy"] == right


def test_exact_match_asks_for_the_same_words() -> None:
    assert exact_match("Pens and kites.", "kites, the pens") == 1.0
    assert exact_match("pen", "pens") == 0.0


WORDS = st.lists(st.sampled_from(["kite", "pens", "red", "the", "and", ",", "; ", "Running!"])).map(" ".join)


@given(st.sampled_from(sorted(CATEGORIES)), WORDS | st.text(), WORDS | st.text())
def test_scores_are_shares(category: int, said: str, gold: str) -> None:
    found = score(category, said, gold)
    assert set(found) == {"accuracy", "f1", "exact_match"}
    assert all(0.0 <= value <= 1.0 for value in found.values())


@given(WORDS, WORDS)
def test_f1_is_symmetric_and_whole_for_itself(said: str, gold: str) -> None:
    assert f1(said, gold) == f1(gold, said)
    assert f1(gold, gold) == (1.0 if stems(gold) else 0.0)
