"""Accuracy against distance, associations and updates, from samples whose numbers are known."""

from pathlib import Path

from deltamem_eval.reports.retention import capacities, retention_table

from stored import sample, write_run


def rows_of(run: Path) -> dict[tuple[str, str], tuple[float, str, float, int]]:
    table = retention_table([run])
    keys = [column.key for column in table.columns]
    found = {}
    for row in table.rows:
        named = dict(zip(keys, row, strict=True))
        key = str(named["measure"].value), str(named["span"].value)
        found[key] = named["at"].value, named["span"].value, named["accuracy"].value, named["accuracy"].n
    return found


def test_values_are_pooled_and_distances_by_powers_of_two(tmp_path: Path) -> None:
    distances = (0, 1, 5, 7, 8, 15)
    samples = [
        sample(number, number % 2 == 0, extras={"distance": distance, "associations": 2 + number % 2})
        for number, distance in enumerate(distances)
    ]
    found = rows_of(write_run(tmp_path / "run", [({}, samples)]))
    assert found["distance", "0"] == (0.0, "0", 1.0, 1)
    assert found["distance", "1"] == (1.0, "1", 0.0, 1)
    assert found["distance", "5–7"] == (6.0, "5–7", 0.5, 2)
    assert found["distance", "8–15"] == (11.5, "8–15", 0.5, 2)
    assert found["associations", "2"] == (2.0, "2", 1.0, 3)
    assert found["associations", "3"] == (3.0, "3", 0.0, 3)


def test_a_source_in_which_a_measure_stands_still_is_left_out_of_it(tmp_path: Path) -> None:
    moving = [sample(number, True, extras={"updates": number % 2}) for number in range(4)]
    still = [
        sample(number, False, source="embedded_labels", query=f"l{number}", extras={"updates": 0})
        for number in range(4)
    ]
    found = rows_of(write_run(tmp_path / "run", [({}, moving + still)]))
    assert found == {("updates", "0"): (0.0, "0", 1.0, 2), ("updates", "1"): (1.0, "1", 1.0, 2)}


def test_capacity_comes_from_what_the_run_recorded(tmp_path: Path) -> None:
    samples = [sample(number, True, extras={"associations": number}) for number in range(4)]
    cells = [
        ({"method": "multi-write", "effective": {"capacity": 32}}, samples),
        ({"method": "vanilla", "effective": {"capacity": None}}, samples),
    ]
    assert capacities(retention_table([write_run(tmp_path / "run", cells)])) == {"multi-write": 32}
