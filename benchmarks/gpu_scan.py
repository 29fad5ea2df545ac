"""The scan on a GPU: Triton programs over spans against one program a row and against plain torch.

Correctness first: a wrong result prints no speed and exits with 1. Then CUDA events around single calls, the
cache of the device emptied before each, all forms and a copy taking turns; ratios within one run; and how far
from the floor that memory sets: the bytes that any scan must move, at the speed at which this device copies
(`bandwidth`). Writes a CSV that `deltamem-eval regress` gates. Without a CUDA device it says so and exits
with 2.

Targets, at 8,192 tokens with one state head, batch 1 and 8: ten times as fast as one program a row, five with
the gradient. Exit code 1 where one is missed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from common import (
    Absent,
    Outcome,
    Row,
    Wrong,
    complain,
    cuda_seconds,
    gpu_machine,
    held_against,
    line,
    rounds,
)
from deltamem_eval.methods.delta_mem.chunked import scan_chunked
from deltamem_eval.methods.delta_mem.recurrence import Inputs, scan_naive
from kept import Kept
from torch import Tensor

NAME = "gpu_scan"
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


PROMISED_AT = (Case(8192, 1, 1), Case(8192, 8, 1))


def scans() -> dict[str, Scan]:
    """The forms compared: ours, the one it is held against, and plain torch."""
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


def timed(work: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of every piece of work in each of REPEATS rounds, in turns, nothing of it in the cache."""
    cache = torch.empty(1 << 28, dtype=torch.int8, device="cuda")  # more than any device's cache holds

    def clock(call: Callable[[], object]) -> float:
        cache.zero_()
        return cuda_seconds(call)

    return rounds(work, REPEATS, clock=clock, warm_up=WARM_UP)


def measured(case: Case, forms: dict[str, Scan]) -> Iterator[Row]:
    """Times of every pass of every form, held against one program a row, and how fast the least bytes moved,
    held against a copy within the device.
    """
    tensors, source = case.draw("cuda"), torch.ones(COPIED, dtype=torch.int8, device="cuda")
    copying = partial(torch.empty_like(source).copy_, source)
    for name, run in PASSES.items():
        size = f"{name}, {case.tokens} tokens, batch {case.batch}, heads {case.heads}"
        work = {f"{form}: {size}": partial(run, scan, tensors) for form, scan in forms.items()}
        copied = f"copy: {size}"
        yield from times(case, name, timed({**work, copied: copying}), copied)


def times(case: Case, name: str, seconds: dict[str, list[float]], copied: str) -> list[Row]:
    """Rows from the seconds of the forms, the first of which is ours and the second one program a row, and of
    a copy. name: the pass.
    """
    forms = {what: taken for what, taken in seconds.items() if what != copied}
    ours, against, *_ = forms
    targets = {ours: PROMISED[name]} if case in PROMISED_AT else {}
    made = held_against(NAME, forms, against, targets=targets)
    rates = {what: [case.least_bytes(name) / 1e9 / item for item in taken] for what, taken in forms.items()}
    rates = {copied: [2 * COPIED / 1e9 / item for item in seconds[copied]], **rates}
    # Rates of different amounts: held against one another as times of one byte are.
    each = {what: [1 / rate for rate in found] for what, found in rates.items()}
    return made + held_against(NAME, each, copied, metric="bandwidth", unit="GB/s", amount=1.0)


def checked(forms: dict[str, Scan], cases: Iterable[Case]) -> None:
    """Raises Wrong where a result is not the reference's."""
    for case in cases:
        for error in errors(case, forms, "cuda"):
            raise Wrong(error)


def rows() -> Iterator[Row]:
    """A few sizes for the table of `all.py`, held against one program a row. Raises Absent without a GPU."""
    if not torch.cuda.is_available():
        raise Absent("there is no CUDA device here")
    forms, machine = scans(), gpu_machine()
    checked(forms, PROMISED_AT)
    for case in PROMISED_AT:
        yield from (replace(row, machine=machine) for row in measured(case, forms) if row.metric == "time")


def main() -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        print(f"{NAME}: there is no CUDA device here, and nothing else to measure", file=sys.stderr)
        raise SystemExit(2)
    found = measure(list(itertools.starmap(Case, itertools.product(TOKENS, BATCHES, HEADS))), Kept(out))
    complain(found)
    raise SystemExit(found.code)


def measure(cases: list[Case], kept: Kept) -> Outcome:
    """Check all sizes, then keep and print every row as soon as it is measured."""
    forms, machine = scans(), gpu_machine()
    try:
        checked(forms, cases)
    except Wrong as error:
        return Outcome([], [f"{NAME}: {error}"], [])
    print(machine)
    for case in cases:
        for row in measured(case, forms):
            kept.put([replace(row, machine=machine)])
            print(line(row), flush=True)
    return Outcome(list(kept.rows.values()), [], [])


if __name__ == "__main__":
    main()
