"""Sweeps: what each way of ending becomes, what a second run does, and what is refused."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.profiling.request import ProfileRequest
from deltamem_eval.profiling.store import POINTS_FILE, PROFILE_FILE, read_profile
from deltamem_eval.profiling.sweep import run_task, sweep

ASKED = ProfileRequest(("vanilla", "token-write"), (1024, 2048), (64,), modes=("replay",))

# Takes the worker's place: tells its tasks to a log, and ends as it is told to for a point.
WORKER = """
import json, os, signal, sys, time
from pathlib import Path

task, plan = json.loads(Path(sys.argv[2]).read_text()), json.loads(Path(sys.argv[1]).read_text())
with open(plan["log"], "a") as log:
    log.write(json.dumps(task["points"]) + chr(10))
if not task["points"]:
    made = plan["check"]
else:
    point = task["points"][0]
    how = plan["ends"].get(f"{point[0]} {point[2]}", "ok")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "slow":
        time.sleep(60)
    if how.startswith("dies"):
        sys.exit("a warning" + chr(10) + how)
    measures = {"prefill_allocated": [2048.0], "decode_allocated": [1024.0], "prefill_seconds": [0.5]}
    fields = {"status": how, "weights": {"allocated": 512}, "measures": measures}
    made = {"points": [fields] * len(task["points"])}
Path(sys.argv[3]).write_text(json.dumps(made))
"""
FACTS = {"device": "a machine", "model": "tiny", "dtype": "float32", "parameters": 1, "random": []}


class Place:
    """A folder for a profile, with a worker whose behaviour can be set."""

    def __init__(self, folder: Path) -> None:
        self.out, self._plan, self._log = folder / "out", folder / "plan.json", folder / "log"
        (folder / "worker.py").write_text(WORKER)
        self.worker = (sys.executable, str(folder / "worker.py"), str(self._plan))
        self.plan()

    def plan(self, check: Any = FACTS, **ends: str) -> None:
        named = {name.replace("_", "-").replace("--", " "): how for name, how in ends.items()}
        self._plan.write_text(json.dumps({"check": check, "ends": named, "log": str(self._log)}))

    def run(self, request: ProfileRequest = ASKED, limit: float = 60, out: Path | None = None) -> list[str]:
        said: list[str] = []
        sweep(request, out or self.out, limit, said.append, self.worker)
        return said

    def tasks(self) -> list[list[Sequence[Any]]]:
        """Points by process since the last call."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        self._log.unlink()
        return lines

    def statuses(self) -> dict[str, str]:
        return {f"{point.method} {point.prompt_tokens}": point.status for point in read_profile(self.out)[1]}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_end_is_a_point_and_stops_nobody(place: Place) -> None:
    place.plan(vanilla__1024="killed", vanilla__2048="dies: ValueError: broken", token_write__1024="slow")
    said = place.run(limit=3)
    assert place.statuses() == {
        "vanilla 1024": "oom",
        "vanilla 2048": "failed",
        "token-write 1024": "timeout",
        "token-write 2048": "ok",
    }
    errors = [point.error for point in read_profile(place.out)[1]]
    assert errors[1:3] == ["dies: ValueError: broken", "not done after 3 s"]
    assert said[0].startswith("1/4 vanilla replay 1,024+64: oom, the process was killed")
    assert said[3] == "4/4 token-write replay 2,048+64: ok, peak 0.0 MiB, first token after 0.50 s"


def test_a_device_that_runs_out_of_memory_while_it_dies(place: Place) -> None:
    place.plan(vanilla__1024="dies: CUDA error: out of memory")
    place.run(replace(ASKED, methods=("vanilla",)))
    assert place.statuses() == {"vanilla 1024": "oom", "vanilla 2048": "ok"}


def test_each_point_has_its_process_and_an_estimate_one_a_method(place: Place) -> None:
    place.run()
    assert [len(points) for points in place.tasks()] == [0, 1, 1, 1, 1]
    place.run(replace(ASKED, estimate=True), out=place.out.with_name("estimate"))
    assert [len(points) for points in place.tasks()] == [0, 2, 2]


def test_a_second_run_does_what_is_missing(place: Place) -> None:
    place.run()
    points = place.out / POINTS_FILE
    lines = points.read_text().splitlines(keepends=True)
    points.write_text("".join(lines[:2]) + lines[2][:40])  # a kill while the third was written
    place.tasks()
    said = place.run()
    assert [task[0][::2] for task in place.tasks()[1:]] == [["token-write", 1024], ["token-write", 2048]]
    assert [line.split()[0] for line in said] == ["3/4", "4/4"]
    assert len(place.statuses()) == 4
    assert place.run() == []


def test_more_time_gives_a_timeout_another_try(place: Place) -> None:
    place.plan(vanilla__1024="slow")
    place.run(limit=2)
    place.plan()
    assert place.run(limit=2) == []
    assert len(place.run(limit=30)) == 1
    assert set(place.statuses().values()) == {"ok"}


def test_other_settings_and_other_machines_are_refused(place: Place) -> None:
    place.run()
    before = (place.out / POINTS_FILE).read_bytes()
    with pytest.raises(UserError, match=r"made by other settings .*decode_lengths"):
        place.run(replace(ASKED, decode_lengths=(32,)))
    place.plan(check={**FACTS, "device": "another machine"})
    with pytest.raises(UserError, match="device was 'a machine', is 'another machine'"):
        place.run()
    assert (place.out / POINTS_FILE).read_bytes() == before


def test_places_that_cannot_be_written_or_hold_something_else(place: Place, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists and is no profile"):
        place.run(out=tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write to"):
        place.run(out=tmp_path / "file" / "deep")


def test_what_cannot_start_writes_nothing(place: Place) -> None:
    place.plan(check={"mistake": "token-write needs trained weights"})
    with pytest.raises(UserError, match="token-write needs trained weights"):
        place.run()
    place.plan(check={"status": "failed", "error": "ImportError: no torch"})
    with pytest.raises(UserError, match="the profile cannot start: ImportError: no torch"):
        place.run()
    assert not place.out.exists()


def test_a_profile_says_what_made_it(place: Place) -> None:
    place.run()
    record, _ = read_profile(place.out)
    assert record.device == "a machine"
    assert record.facts["model"] == "tiny"
    assert record.versions["torch"]
    assert ProfileRequest.from_record(record.request) == ASKED
    assert json.loads((place.out / PROFILE_FILE).read_text())["schema_version"] == 1


def test_a_task_without_a_result_is_told_by_its_last_line(place: Place, tmp_path: Path) -> None:
    points = ASKED.points()[:1]
    place.plan(vanilla__1024="dies at once")
    assert run_task(ASKED, points, tmp_path, 60, place.worker) == {
        "status": "failed",
        "error": "dies at once",
    }
    silent = (sys.executable, "-c", "raise SystemExit(3)")
    assert run_task(ASKED, points, tmp_path, 60, silent)["error"] == "the process ended with code 3"
