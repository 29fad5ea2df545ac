"""Both averages by hand, and their intervals."""

from pathlib import Path

import pytest
from deltamem_eval.reports.averages import averages_table
from deltamem_eval.reports.table import notes
from deltamem_eval.stats import cluster_bootstrap
from deltamem_eval.store import RunStore, Sample

PLACES = (
    ("accurate-retrieval", "ruler_qa1_197K", (1, 1, 1, 0)),
    ("accurate-retrieval", "eventqa_full", (0, 0)),
    ("test-time-learning", "icl_a", (1, 1)),
    ("test-time-learning", "icl_b", (0, 1)),
    ("test-time-learning", "recsys_redial_full", (0, 0, 0, 0)),
)


def store(folder: Path, contexts: int, places: tuple = PLACES) -> None:
    run = RunStore.open(folder, {}, {})
    identity = {"method": "vanilla", "control": None, "task": "t", "data": {}, "weights": "w", "model": "m"}
    cell = run.cell(identity | {"dtype": "float32", "window": 8, "seed": 0, "limit": None})
    for category, source, rights in places:
        for number, right in enumerate(rights):
            cell.append(
                [
                    Sample(
                        episode=source,
                        query=f"{source}/{number}",
                        source=source,
                        category=category,
                        cluster=f"{source}{number % contexts}",
                        metrics={"accuracy": float(right)},
                        status="ok",
                        targets=["x"],
                        target_hash="t",
                    )
                ]
            )
    cell.finish({})


def test_categories_count_equally_or_questions_do(tmp_path: Path) -> None:
    store(tmp_path / "run", contexts=2)
    (row,) = averages_table([tmp_path / "run"]).rows
    method, window, macro, weighted, categories = row
    assert (method.value, window.value, categories.value) == ("vanilla", "8", 2)
    # retrieval: (3/4 + 0) / 2; learning: ((1 + 1/2) / 2 + 0) / 2
    assert macro.value == pytest.approx((3 / 8 + 3 / 8) / 2)
    assert weighted.value == pytest.approx(6 / 14)
    assert macro.low <= macro.value <= macro.high
    assert weighted.low < weighted.value < weighted.high


LENGTHS = (
    ("accurate-retrieval", "eventqa_full", (1, 0, 1, 0)),
    ("accurate-retrieval", "eventqa_65536", (1, 1)),
    ("accurate-retrieval", "ruler_qa1_197K", (1, 1)),
    ("selective-forgetting", "factconsolidation_sh_262k", (0, 1)),
    ("selective-forgetting", "factconsolidation_sh_6k", (1, 1)),
    ("selective-forgetting", "factconsolidation_mh_262k", (0, 0)),
    ("selective-forgetting", "factconsolidation_mh_6k", (1, 1)),
)


def test_of_several_lengths_the_full_one_alone_is_the_dataset(tmp_path: Path) -> None:
    store(tmp_path / "run", contexts=2, places=LENGTHS)
    table = averages_table([tmp_path / "run"])
    (row,) = table.rows
    # retrieval: (1/2 + 1) / 2; forgetting: (1/2 + 0) / 2
    assert row[2].value == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert row[2].note is None
    assert row[3].value == pytest.approx(11 / 16)
    assert "not as the paper" not in notes(table).lower()


def test_without_the_full_length_the_others_stand_for_it_and_a_note_says_so(tmp_path: Path) -> None:
    short = (
        ("selective-forgetting", "factconsolidation_sh_262k", (0, 1)),
        ("selective-forgetting", "factconsolidation_mh_6k", (1, 1)),
        ("selective-forgetting", "factconsolidation_mh_32k", (0, 1)),
    )
    store(tmp_path / "run", contexts=2, places=short)
    table = averages_table([tmp_path / "run"])
    assert table.rows[0][2].value == pytest.approx((1 / 2 + (1 + 1 / 2) / 2) / 2)
    assert table.rows[0][2].note == (
        "Not as the paper averages: of factconsolidation_mh there is no factconsolidation_mh_262k, and the "
        "mean over factconsolidation_mh_32k, factconsolidation_mh_6k is taken."
    )


def test_no_interval_where_a_source_has_one_context(tmp_path: Path) -> None:
    store(tmp_path / "run", contexts=1)
    (row,) = averages_table([tmp_path / "run"]).rows
    assert row[2].value == pytest.approx(3 / 8)
    assert (row[2].low, row[2].high) == (None, None)


def test_with_one_source_both_are_the_mean_with_its_interval(tmp_path: Path) -> None:
    rights = (1, 0, 0, 1, 1, 1, 0, 1)
    store(tmp_path / "run", contexts=4, places=(("test-time-learning", "icl_a", rights),))
    (row,) = averages_table([tmp_path / "run"]).rows
    wanted = cluster_bootstrap([float(item) for item in rights], [str(number % 4) for number in range(8)])
    assert row[2].value == row[3].value == wanted.estimate
    assert row[2].low == pytest.approx(wanted.low, abs=0.05)
    assert row[2].high == pytest.approx(wanted.high, abs=0.05)
