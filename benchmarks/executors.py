"""Questions a second by ray workers on this machine, one core each: one worker against two, in one run.

They take turns, and start anew for each: no two crews share the cores. The check: a crew first answers the
grid unmeasured, and every answer is that of a run in this process. It is then loaded and warm: start-up is
not in the times.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # as the workers': the same sums in the same order

from common import Absent, Row, Wrong, held_against, standalone
from deltamem_eval.display import Display
from deltamem_eval.executors import Executor, open_executor
from deltamem_eval.session import Request, check
from deltamem_eval.store import read_cells, read_run

METHODS = ("vanilla", "bm25-rag", "token-write")
LIMIT = 12  # episodes a category
WORKERS, REPEATS = 2, 3
TARGET = 1.7  # two workers against one
MEASURED = {"write_seconds", "answer_seconds", "decode_seconds"}  # what may differ from one run to another
Answers = Mapping[tuple[str, str], Mapping[str, Any]]


def answers_of(run: Path) -> Answers:
    """Every sample of a run by cell and question, without what is measured."""
    return {
        (str(sorted(record.identity.items(), key=str)), sample.query): sample.model_dump(exclude=MEASURED)
        for record, samples in read_cells(run)
        for sample in samples
    }


def once(executor: Executor, request: Request, run: Path) -> float:
    """Seconds for a whole grid."""
    began = time.perf_counter()
    with Display(0, quiet=True) as display:
        executor.execute(request, run, display)
    return time.perf_counter() - began


def warmed(executor: Executor, request: Request, folder: Path, workers: int) -> Path:
    """The first run in which every worker took part from the start."""
    for attempt in range(10):
        run = folder / f"warm-{attempt}"
        once(executor, request, run)
        if len(read_run(run).executions[0].workers) == workers and attempt > 0:
            return run
    raise Wrong(f"{workers} workers never worked at once")


def measure(request: Request, folder: Path, workers: int, wanted: Answers) -> float:
    """Seconds for the grid by workers that are started for it and warm. Raises Wrong for other answers than
    those.
    """
    with open_executor("ray", workers=workers) as executor:
        if answers_of(warmed(executor, request, folder, workers)) != wanted:
            raise Wrong(f"{workers} workers answer otherwise than one process")
        return once(executor, request, folder / "run")


def rows() -> Iterator[Row]:
    """This process, one worker, and as many as there are cores here, taking turns."""
    if find_spec("ray") is None:
        raise Absent("ray is not installed")
    if (os.cpu_count() or 1) < WORKERS:
        raise Absent(f"fewer than {WORKERS} cores")
    request = check(Request(METHODS, windows=(64,), limit=LIMIT, device="cpu"))
    with tempfile.TemporaryDirectory() as scratch, open_executor("local") as executor:
        place = Path(scratch)
        once(executor, request, place / "warm")
        wanted = answers_of(place / "warm")
        size = f"{len(METHODS)} methods, {len(wanted)} questions"
        names = {workers: f"ray, workers {workers}: {size}" for workers in (1, WORKERS)}
        seconds: dict[str, list[float]] = {name: [] for name in (*names.values(), f"this process: {size}")}
        for number in range(REPEATS):
            for workers, name in names.items():
                folder = place / f"{workers}-{number}"
                seconds[name].append(measure(request, folder, workers, wanted))
            seconds[f"this process: {size}"].append(once(executor, request, place / f"local-{number}"))
    against, fast = names.values()
    yield from held_against(
        "executors",
        seconds,
        against,
        metric="speed",
        unit="questions/s",
        amount=len(wanted),
        targets={fast: TARGET},
    )


if __name__ == "__main__":
    standalone("executors", rows)
