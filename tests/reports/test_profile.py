"""The profile's table from stored points: medians and ends, what it says of them, what it does not mix."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.profiling.request import Point, ProfileRequest
from deltamem_eval.profiling.store import ProfileStore
from deltamem_eval.reports.profile import profile_table
from deltamem_eval.reports.table import Cell

ASKED = ProfileRequest(("vanilla", "token-write"), (1024, 4096), (65,), random_weights="tiny")
FACTS = {
    "model": "tiny",
    "dtype": "float32",
    "parameters": 1234567,
    "positions": 8192,
    "own_positions": 512,
    "random": ["the backbone", "token-write"],
}
MEASURES = {
    "prefill_allocated": [300.0, 100.0, 200.0],
    "decode_allocated": [150.0, 160.0, 170.0],
    "resident_allocated": [90.0, 90.0, 90.0],
    "prefill_seconds": [2.0, 1.0, 4.0],
    "decode_seconds": [0.5, 0.25, 1.0],
}
FINE = {
    "status": "ok",
    "weights": {"allocated": 80},
    "tokens": {"context": 1000, "shown": 1000, "question": 9},
    "measures": MEASURES,
}
KEYS = [
    "method",
    "mode",
    "prompt_tokens",
    "decode_tokens",
    "weights_bytes",
    "prefill_peak_bytes",
    "decode_peak_bytes",
    "resident_bytes",
    "peak_bytes",
    "prefill_seconds",
    "prefill_speed",
    "decode_speed",
    "status",
]


def stored(
    folder: Path, request: ProfileRequest = ASKED, device: str = "a machine", **fields: dict[str, Any]
) -> Path:
    """A profile with the given fields at some of the request's points, named by their place."""
    store = ProfileStore.open(folder, request.record(), {"device": device, "facts": FACTS})
    points = request.points()
    for name, value in fields.items():
        point = points[int(name.removeprefix("p"))]
        store.append(point, request.window_of(point.mode), 60, value)
    store.close()
    return folder


def cells(folder: Path, row: int = 0) -> dict[str, Cell]:
    table = profile_table([folder])
    return dict(zip((column.key for column in table.columns), table.rows[row], strict=True))


def test_medians_with_least_and_greatest(tmp_path: Path) -> None:
    found = cells(stored(tmp_path / "one", p0=FINE))
    assert list(found) == KEYS
    assert (found["method"].value, found["mode"].value, found["status"].value) == ("vanilla", "replay", "ok")
    assert found["method"].runs == ("one",)
    assert (found["prompt_tokens"], found["decode_tokens"].value) == (Cell(1000), 65)  # tokens as they were
    assert found["weights_bytes"] == Cell(80)
    assert found["prefill_peak_bytes"] == Cell(200, 100, 300, 3)
    assert found["decode_peak_bytes"] == Cell(160, 150, 170, 3)
    assert found["resident_bytes"] == Cell(90, 90, 90, 3)
    assert found["peak_bytes"] == Cell(200, 160, 300, 3)  # the greater of each repeat
    assert found["prefill_seconds"] == Cell(2, 1, 4, 3)
    assert found["prefill_speed"] == Cell(500, 250, 1000, 3)
    assert found["decode_speed"] == Cell(128, 64, 256, 3)  # 64 tokens after the first


def test_what_ended_a_point_stands_where_its_numbers_would(tmp_path: Path) -> None:
    found = cells(stored(tmp_path / "one", p0={"status": "oom", "error": "tried 9 TiB"}))
    assert found["status"] == Cell("oom", note="tried 9 TiB")
    assert found["prompt_tokens"].value == 1024
    assert all(found[key].value is None for key in KEYS[4:12])


def test_rows_stand_as_they_were_asked_for_and_the_last_try_counts(tmp_path: Path) -> None:
    late = {"status": "timeout", "error": "not done after 1 s"}
    folder = stored(tmp_path / "one", p5=FINE, p0=late)
    stored(folder, p3=FINE, p0=FINE)
    table = profile_table([folder])
    assert [(row[0].value, row[1].value, row[-1].value) for row in table.rows] == [
        ("vanilla", "replay", "ok"),
        ("token-write", "replay", "ok"),
        ("token-write", "state-only", "ok"),
    ]
    assert "one: 3 of 6 points are missing." in table.footnotes


def test_modes_say_their_window_and_prompts_what_they_left_out(tmp_path: Path) -> None:
    asked = replace(ASKED, modes=("replay", "state-only", "window"), window=256)
    part = FINE | {"tokens": {"context": 1000, "shown": 300, "question": 9}}
    folder = stored(tmp_path / "one", asked, p0=part, p2=part, p6=FINE)
    rows = profile_table([folder]).rows
    modes = [(row[1].value, row[2].note) for row in rows]
    assert modes == [
        ("replay", "vanilla chose 300 of these tokens for the prompt"),
        ("window 256", None),
        ("state-only, window 256", None),
    ]


def test_the_caption_says_what_was_profiled_and_how(tmp_path: Path) -> None:
    table = profile_table([stored(tmp_path / "one", p0=FINE)])
    assert table.name == "profile"
    assert table.title == "Memory and speed by context length"
    for part in (
        "tiny with random weights, 1,234,567 parameters, float32.",
        "Random, since memory and speed need no trained values: the backbone, token-write.",
        "Its 512 positions were made 8,192.",
        "9 tokens of question",
        "Measured on a machine: medians of 3 passes [least, greatest] after 1 of warm-up",
    ):
        assert part in table.caption
    assert "points.jsonl" not in table.caption
    on_gpu = FINE | {"weights": {"allocated": 80, "reserved": 100}}
    assert "points.jsonl" in profile_table([stored(tmp_path / "gpu", p0=on_gpu)]).caption


def test_an_estimate_is_never_taken_for_a_measurement(tmp_path: Path) -> None:
    single = {name: [1.0] for name in MEASURES if name.endswith("allocated")}
    guess = FINE | {"status": "estimate", "measures": single}
    folder = stored(tmp_path / "guess", replace(ASKED, estimate=True), "shapes alone", p0=guess)
    table = profile_table([folder])
    assert table.title == "Memory by context length, an estimate"
    assert table.caption.startswith("An estimate of a GPU's memory, nothing was measured:")
    assert "Measured on" not in table.caption
    assert any("fused attention is assumed" in note for note in table.footnotes)
    found = cells(folder)
    assert found["status"].value == "estimate"
    assert found["prefill_peak_bytes"] == Cell(1.0)
    assert found["prefill_seconds"] == found["decode_speed"] == Cell(None)
    with pytest.raises(
        UserError, match=r"guess and .* cannot stand in one table: estimate is True and False"
    ):
        profile_table([folder, stored(tmp_path / "one", p0=FINE)])


def test_folders_of_one_model_and_machine_stand_together(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", p0=FINE)
    other = stored(tmp_path / "two", replace(ASKED, modes=("window",), window=64), p0=FINE)
    assert [row[1].value for row in profile_table([one, other]).rows] == ["replay", "window 64"]
    for name, changes, device in (
        ("device", {}, "another"),
        ("repeats", {"repeats": 5}, "a machine"),
        ("random weights", {"random_weights": None}, "a machine"),
    ):
        third = stored(tmp_path / name, replace(ASKED, **changes), device, p0=FINE)
        with pytest.raises(UserError, match=f"cannot stand in one table: {name} is"):
            profile_table([one, third])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        profile_table([tmp_path])
    folder = stored(tmp_path / "one", p0=FINE)
    (folder / "points.jsonl").write_text('{"method": "vanilla"}\n')
    with pytest.raises(UserError, match="is damaged"):
        profile_table([folder])


def test_a_point_is_named_by_what_it_measures() -> None:
    assert str(Point("vanilla", "replay", 1024, 64)) == "vanilla replay 1,024+64"
