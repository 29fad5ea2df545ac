"""Questions a second by ray workers on this machine, one core each: one worker against several, in one run.

Each number of workers first answers the grid once, unmeasured: the workers are then started, loaded and warm,
and what they answered is compared with a run in this process, question by question. Start-up is told apart.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # as the workers': the same sums in the same order

from deltamem_eval.display import Display
from deltamem_eval.executors import Executor, open_executor
from deltamem_eval.provenance import device_line
from deltamem_eval.session import Request, check
from deltamem_eval.store import read_cells, read_run

METHODS = ("vanilla", "bm25-rag", "token-write")
MEASURED = {"write_seconds", "answer_seconds"}  # what may differ from one run to another
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
    raise SystemExit(f"{workers} workers never worked at once: no speed is reported")


def main() -> None:
    """Print a line a number of workers; different answers print no speed and exit with 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=12, help="episodes a category")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many is told")
    arguments = parser.parse_args()
    request = check(Request(METHODS, windows=(64,), limit=arguments.limit, device="cpu"))
    print(f"{device_line('cpu')}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        with open_executor("local") as executor:
            once(executor, request, place / "warm")
            local = min(once(executor, request, place / f"local-{n}") for n in range(arguments.repeats))
        wanted = answers_of(place / "warm")
        print(f"{len(wanted)} questions in {len({cell for cell, _ in wanted})} cells")
        print(f"{'':<12} {'questions/s':>12} {'with start-up':>14} {'ratio to 1 worker':>18}")
        print(f"{'this process':<12} {len(wanted) / local:>12.1f}", flush=True)
        alone = 0.0
        for workers in (1, arguments.workers):
            seconds, started = measure(request, place / str(workers), workers, arguments.repeats, wanted)
            alone = alone or seconds
            print(
                f"{f'ray, {workers}':<12} {len(wanted) / seconds:>12.1f} "
                f"{len(wanted) / (started + seconds):>14.1f} {alone / seconds:>17.2f}x",
                flush=True,
            )


def measure(
    request: Request, folder: Path, workers: int, repeats: int, wanted: Answers
) -> tuple[float, float]:
    """Seconds for the grid by warm workers, and until the first of them could begin."""
    began = time.perf_counter()
    with open_executor("ray", workers=workers) as executor:
        ready = check(Request(("vanilla",), windows=(0,), limit=1, controls=False, device="cpu"))
        once(executor, ready, folder / "first")
        started = time.perf_counter() - began
        if answers_of(warmed(executor, request, folder, workers)) != wanted:
            raise SystemExit(f"{workers} workers: answers differ, so no speed is reported")
        return min(once(executor, request, folder / f"run-{n}") for n in range(repeats)), started


if __name__ == "__main__":
    main()
