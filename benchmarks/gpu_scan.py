"""The scan on a GPU: Triton programs over spans against one program a row and against plain torch.

Correctness first: a wrong result prints no speed and exits with 1. Then medians of CUDA events around single
calls, the cache of the device emptied before each; ratios within one run; and how far from the floor that
memory sets: the bytes that any scan must move, at the speed at which this device copies. Writes a CSV.
Without a CUDA device it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from common import Absent, Row, Wrong, held_against
from deltamem_eval.methods.delta_mem.chunked import scan_chunked
from deltamem_eval.methods.delta_mem.recurrence import Inputs, scan_naive
from deltamem_eval.provenance import device_line
from torch import Tensor

RANK = 8
TOKENS, BATCHES, HEADS = (2048, 8192, 32768), (1, 8), (1, 4)
TOLERANCE = 1e-4
WARM_UP, REPEATS = 5, 30
COPIED = 1 << 30  # bytes
# Floats a token and component: six tensors read, the reads written; going back, those six and the reads'
# gradient read, six gradients written.
MOVED = {"forward": 7, "forward+backward": 7 + 13}
PROMISED = {"forward": 10.0, "forward+backward": 5.0}  # times as fast as one program a row

Scan = Callable[[Inputs, Tensor], tuple[Tensor, Tensor]]


class Case(NamedTuple):
    """Sizes of one measurement."""

    tokens: int
    batch: int
    heads: int

    def draw(self, device: str) -> list[Tensor]:
        """State and inputs, gates as a fresh adapter has them."""
        generator = torch.Generator().manual_seed(sum(self))
        rows, unit = self.batch * self.heads, torch.nn.functional.normalize
        q, k, v, gate = (torch.randn(rows, self.tokens, RANK, generator=generator) for _ in range(4))
        beta = (gate - 1.5).sigmoid()
        state = torch.randn(rows, RANK, RANK, generator=generator)
        found = (state, unit(q, dim=-1), unit(k, dim=-1), v, beta, beta.clone(), 1 - beta)
        return [tensor.to(device) for tensor in found]

    def least_bytes(self, name: str) -> int:
        """What any scan must move: token tensors, and the state in and out, both twice with a gradient."""
        passes = 1 if name == "forward" else 2
        rows = self.batch * self.heads
        return 4 * rows * (self.tokens * RANK * MOVED[name] + passes * 2 * RANK**2)


def scans() -> dict[str, Scan]:
    """The forms compared; the first is the one measured against the others."""
    from deltamem_eval.methods.delta_mem.kernel.function import scan_triton
    from sequential_scan import scan_sequential

    return {"triton": scan_triton, "sequential": scan_sequential, "chunked": scan_chunked}


def forward(scan: Scan, tensors: list[Tensor]) -> list[Tensor]:
    """Reads and the end state."""
    with torch.no_grad():
        return list(scan(Inputs(*tensors[1:]), tensors[0]))


def both(scan: Scan, tensors: list[Tensor]) -> list[Tensor]:
    """The gradients of all tensors, those of the reads and of the end state being ones."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    found = scan(Inputs(*leaves[1:]), leaves[0])
    return list(torch.autograd.grad(found, leaves, [torch.ones_like(item) for item in found]))


PASSES = {"forward": forward, "forward+backward": both}


def errors(case: Case, forms: dict[str, Scan], device: str) -> Iterator[str]:
    """What is wrong: forms against chunked in float64, and that against the loop where it is short."""
    tensors = case.draw(device)
    double = [tensor.double() for tensor in tensors]
    for name, run in PASSES.items():
        wanted = run(scan_chunked, double)
        candidates = {form: run(scan, tensors) for form, scan in forms.items()}
        if case.tokens == min(TOKENS):
            candidates["chunked in float64"] = run(scan_naive, double)
        for form, found in candidates.items():
            for index, (got, value) in enumerate(zip(found, wanted, strict=True)):
                scale = max(float(value.abs().max()), 1.0)
                # Not `>`, which NaN would pass.
                if not float((got - value).abs().max()) <= TOLERANCE * scale:
                    yield f"{form}, {name}, {case}: result {index}"


def timed(work: Callable[[], object]) -> list[float]:
    """Milliseconds of REPEATS calls after a warm-up."""
    cache = torch.empty(1 << 28, dtype=torch.int8, device="cuda")  # more than any device's cache holds
    times = []
    for turn in range(WARM_UP + REPEATS):
        cache.zero_()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        work()
        ended.record()
        ended.synchronize()
        if turn >= WARM_UP:
            times.append(began.elapsed_time(ended))
    return times


def milliseconds(work: Callable[[], object]) -> tuple[float, float, float]:
    """Median, and the 10th and 90th of 100."""
    times = timed(work)
    tenths = statistics.quantiles(times, n=10)
    return statistics.median(times), tenths[0], tenths[-1]


def copy_speed() -> float:
    """Bytes a second, read and written, of a copy within the device."""
    source = torch.ones(COPIED, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPIED / (1e-3 * milliseconds(partial(target.copy_, source))[0])


def measured(case: Case, forms: dict[str, Scan], copying: float) -> Iterator[dict[str, object]]:
    """Rows of the table: every pass of every form."""
    tensors = case.draw("cuda")
    for name, run in PASSES.items():
        times = {form: milliseconds(partial(run, scan, tensors)) for form, scan in forms.items()}
        ours = next(iter(times.values()))[0]
        for form, (middle, low, high) in times.items():
            least = case.least_bytes(name)
            yield {
                **case._asdict(),
                "rank": RANK,
                "pass": name,
                "form": form,
                "median_ms": round(middle, 4),
                "p10_ms": round(low, 4),
                "p90_ms": round(high, 4),
                "times_triton": round(middle / ours, 2),
                "least_bytes": least,
                "gb_per_s": round(least / middle / 1e6, 1),
                "copy_gb_per_s": round(copying / 1e9, 1),
                "share_of_copy": round(1e3 * least / copying / middle, 4),
            }


def rows() -> Iterator[Row]:
    """A few sizes for the table of `all.py`, held against one program a row. Raises Absent without a GPU."""
    if not torch.cuda.is_available():
        raise Absent("there is no CUDA device here")
    forms = scans()
    for case in (Case(8192, 1, 1), Case(8192, 8, 1)):
        for error in errors(case, forms, "cuda"):
            raise Wrong(error)
        tensors, size = case.draw("cuda"), f"{case.tokens} tokens, batch {case.batch}"
        for name, run in PASSES.items():
            seconds = {
                f"{form}: {name}, {size}": [1e-3 * item for item in timed(partial(run, scan, tensors))]
                for form, scan in forms.items()
            }
            ours, against = list(seconds)[:2]
            yield from held_against("gpu_scan", seconds, against, targets={ours: PROMISED[name]})


def main() -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        print("gpu_scan: there is no CUDA device here, and nothing else to measure", file=sys.stderr)
        raise SystemExit(2)
    forms, cases = scans(), list(itertools.starmap(Case, itertools.product(TOKENS, BATCHES, HEADS)))
    for case in cases:
        for error in errors(case, forms, "cuda"):
            raise SystemExit(f"wrong, so no speed is reported: {error}")
    machine, copying = device_line("cuda"), copy_speed()
    print(f"{machine}; a copy moves {copying / 1e9:.0f} GB/s")
    with out.open("w", newline="") as file:
        writer = None
        for row in itertools.chain.from_iterable(measured(case, forms, copying) for case in cases):
            if writer is None:
                writer = csv.DictWriter(file, ["machine", *row])
                writer.writeheader()
                print(*row)
            print(*row.values(), flush=True)
            writer.writerow({"machine": machine, **row})


if __name__ == "__main__":
    main()
