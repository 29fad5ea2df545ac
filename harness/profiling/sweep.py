"""From a request to stored points: checks first, then every point in a process of its own. Needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.profiling.request import Point, ProfileRequest
from deltamem_eval.profiling.store import PointRecord, ProfileStore

WORKER = (sys.executable, "-m", "deltamem_eval.profiling.worker")
_KILLED = (-9, 137)  # what is left of a process that the kernel took because memory ended
Say = Callable[[str], None]


def sweep(
    request: ProfileRequest,
    out: Path,
    limit_seconds: float,
    say: Say = lambda _: None,
    worker: Sequence[str] = WORKER,
) -> None:
    """Measure or estimate every point of a checked request that `out` does not hold yet.

    limit_seconds: the time a point may take. say: told a line a point. Out of memory, a timeout and a failure
    are points like others. Raises UserError, writing nothing, for what cannot be made at all.
    """
    with tempfile.TemporaryDirectory(prefix="deltamem-eval-") as scratch:
        workplace = Path(scratch)
        facts = run_task(request, [], workplace, None, worker)
        if "mistake" in facts:
            raise UserError(facts["mistake"])
        if "status" in facts:
            raise UserError(f"the profile cannot start: {facts['error']}")
        store = ProfileStore.open(out, request.record(), _provenance(facts))
        try:
            done = store.done(limit_seconds)
            waiting = [point for point in request.points() if point not in done]
            total = len(request.points())
            for points in _tasks(request, waiting):
                ended = run_task(request, points, workplace, limit_seconds, worker)
                found = _fields(ended, points)
                for point, fields in zip(points, found, strict=True):
                    record = store.append(point, request.window_of(point.mode), limit_seconds, fields)
                    say(f"{total - len(waiting) + waiting.index(point) + 1}/{total} {_line(record)}")
        finally:
            store.close()


def _tasks(request: ProfileRequest, points: Sequence[Point]) -> Iterator[list[Point]]:
    """What one process does: a point, or all lengths of an estimate, which share their making."""
    if request.estimate:
        for _, group in groupby(points, key=lambda point: point[:2]):
            yield list(group)
    else:
        yield from ([point] for point in points)


def _fields(result: Mapping[str, Any], points: Sequence[Point]) -> list[Mapping[str, Any]]:
    """A task's result by point; what ended the process holds for all of its points."""
    return list(result["points"]) if "points" in result else [result] * len(points)


def run_task(
    request: ProfileRequest,
    points: Sequence[Point],
    scratch: Path,
    limit_seconds: float | None,
    worker: Sequence[str] = WORKER,
) -> dict[str, Any]:
    """One task of the worker in a process of its own: its result, or status and error where there is none."""
    task, result = scratch / "task.json", scratch / "result.json"
    result.unlink(missing_ok=True)
    listed = [list(point) for point in points]
    value = {"request": request.record(), "points": listed, "parts": str(scratch / "parts")}
    task.write_text(json.dumps(value), encoding="utf-8")
    try:
        ended = subprocess.run(
            [*worker, str(task), str(result)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"status": "timeout", "error": f"not done after {limit_seconds:g} s"}
    if not result.is_file():
        return _ending(ended.returncode, ended.stderr)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _ending(code: int, stderr: str) -> dict[str, Any]:
    """Status and error of a process that ended without a result."""
    if code in _KILLED:
        return {"status": "oom", "error": "the process was killed, as the kernel does when memory ends"}
    lines = stderr.strip().splitlines() or [f"the process ended with code {code}"]
    return {"status": "oom" if "out of memory" in stderr.lower() else "failed", "error": lines[-1]}


def _provenance(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `profile.json` that the machine, the code and the model decide."""
    from deltamem_eval.provenance import provenance

    told = {name: value for name, value in facts.items() if name != "device"}
    return {**provenance(facts["device"]), "facts": told}


def _line(record: PointRecord) -> str:
    """A point in one line."""
    if record.status not in ("ok", "estimate"):
        return f"{record.point}: {record.status}, {record.error}"
    peak = max(*record.measures["prefill_allocated"], *record.measures["decode_allocated"])
    seconds = record.measures.get("prefill_seconds")
    time = f", first token after {sorted(seconds)[len(seconds) // 2]:.2f} s" if seconds else ""
    return f"{record.point}: {record.status}, peak {peak / 2**20:,.1f} MiB{time}"
