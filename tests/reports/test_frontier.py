"""Accuracy against cost, and which settings no other beats."""

from pathlib import Path

import pytest
from deltamem_eval.reports.frontier import frontier_table, pareto
from hypothesis import given
from hypothesis import strategies as st

from stored import sample, write_run

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(POINTS)
def test_every_point_off_the_front_is_beaten_by_one_on_it(points: list[tuple[float, float]]) -> None:
    front = pareto(points)
    assert front
    for number, (gain, cost) in enumerate(points):
        beaten = any(
            points[other][0] >= gain and points[other][1] <= cost and points[other] != (gain, cost)
            for other in front
        )
        assert beaten != (number in front)


def test_costs_and_fronts_by_hand(tmp_path: Path) -> None:
    def answers(right: int, tokens: int, held: int) -> list:
        return [
            sample(number, number < right, prompt_tokens=tokens, memory_bytes={"kv": held})
            for number in range(8)
        ]

    run = write_run(
        tmp_path / "run",
        [
            ({"method": "vanilla", "window": 8}, answers(4, 20, 1000)),
            ({"method": "token-write", "window": 0}, answers(4, 10, 50)),
            ({"method": "bm25-rag", "window": 8}, answers(6, 20, 2000)),
            ({"method": "token-write", "window": 0, "control": "wrong-memory"}, answers(8, 1, 1)),
        ],
    )
    table = frontier_table([run])
    keys = [column.key for column in table.columns]
    rows = {row[0].value: dict(zip(keys, row, strict=True)) for row in table.rows}
    assert set(rows) == {"vanilla", "token-write", "bm25-rag"}
    assert rows["bm25-rag"]["accuracy"].value == pytest.approx(6 / 8)
    assert (rows["vanilla"]["memory_bytes"].value, rows["vanilla"]["prompt_tokens"].value) == (1000, 20)
    assert {name: row["pareto_memory"].value for name, row in rows.items()} == {
        "vanilla": None,
        "token-write": "yes",
        "bm25-rag": "yes",
    }
    assert rows["vanilla"]["pareto_tokens"].value is None
    assert len(rows["token-write"]["method"].runs) == 1
    assert rows["token-write"]["method"].runs[0].startswith("run/")


def test_a_setting_that_only_failed_has_no_cost_and_is_on_no_front(tmp_path: Path) -> None:
    failed = [sample(number, False, status="oom", prompt_tokens=0, memory_bytes={}) for number in range(4)]
    run = write_run(
        tmp_path / "run",
        [
            ({"method": "vanilla"}, [sample(number, True) for number in range(4)]),
            ({"method": "bm25-rag"}, failed),
        ],
    )
    rows = {row[0].value: [cell.value for cell in row[2:]] for row in frontier_table([run]).rows}
    assert rows["bm25-rag"] == [0.0, None, None, None, None]
    assert rows["vanilla"] == [1.0, 100, 10, "yes", "yes"]
