"""The chunked scan against the token loop: correctness first, then time and memory, as ratios in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from deltamem_eval.methods.delta_mem.scan import scan
from deltamem_eval.profiling.allocations import Allocations
from deltamem_eval.provenance import device_line
from torch import Tensor

RANK = 8
TOLERANCE = 1e-4
REPEATS = {"naive": 3, "chunked": 7}


def inputs(heads: int, tokens: int) -> dict[str, Tensor]:
    """Random inputs of one row with gates as a fresh adapter has them."""
    generator = torch.Generator().manual_seed(tokens + heads)

    def draw(*shape: int) -> Tensor:
        return torch.randn(1, heads, *shape, generator=generator)

    unit = torch.nn.functional.normalize
    return {
        "q": unit(draw(tokens, RANK), dim=-1),
        "k": unit(draw(tokens, RANK), dim=-1),
        "v": draw(tokens, RANK),
        "beta": (draw(tokens, RANK) - 1.5).sigmoid(),
        "state": draw(RANK, RANK),
    }


def once(case: dict[str, Tensor], form: str, backward: bool) -> list[Tensor]:
    """One pass: reads and state, or the gradients of their sum of squares."""
    leaves = {name: tensor.detach().requires_grad_(backward) for name, tensor in case.items()}
    reads, end = scan(**leaves, decay=None, form=form)  # type: ignore[arg-type]
    if not backward:
        return [reads, end]
    (reads.square().sum() + end.square().sum()).backward()  # type: ignore[no-untyped-call]
    return [leaf.grad for leaf in leaves.values() if leaf.grad is not None]


def median_seconds(work: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median, shortest and longest time of `repeats` calls after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times), min(times), max(times)


def training_bytes(case: dict[str, Tensor]) -> tuple[int, int]:
    """Bytes the chunked form keeps between forward and backward, and the most alive in both."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in case.items()}
    with Allocations() as found:
        reads, end = scan(**leaves, decay=None)
        kept = found.live
        (reads.square().sum() + end.square().sum()).backward()  # type: ignore[no-untyped-call]
    return kept, found.peak


def main() -> None:
    """Print the table; a wrong result prints no speed and exits with 1."""
    print(device_line("cpu"))
    spread = "chunked ms [min, max]"
    print(
        f"{'T':>6} {'heads':>5} {'pass':>8} {'naive ms':>10} {spread:>26} {'ratio':>7} "
        f"{'kept, peak B/token':>20}"
    )
    for tokens in (512, 2048, 8192):
        for heads in (1, 4):
            case = inputs(heads, tokens)
            for backward in (False, True):
                for got, wanted in zip(
                    once(case, "chunked", backward), once(case, "naive", backward), strict=True
                ):
                    scale = max(float(wanted.abs().max()), 1.0)
                    if float((got - wanted).abs().max()) > TOLERANCE * scale:
                        raise SystemExit(f"wrong at T={tokens}, heads={heads}: no speed is reported")
                slow = median_seconds(partial(once, case, "naive", backward), REPEATS["naive"])
                fast = median_seconds(partial(once, case, "chunked", backward), REPEATS["chunked"])
                spread = f"{1e3 * fast[0]:.1f} [{1e3 * fast[1]:.1f}, {1e3 * fast[2]:.1f}]"
                kept, peak = training_bytes(case) if backward else (0, 0)
                memory = f"{kept / tokens:,.0f}, {peak / tokens:,.0f}" if backward else ""
                name = "fwd+bwd" if backward else "forward"
                print(
                    f"{tokens:>6} {heads:>5} {name:>8} {1e3 * slow[0]:>10.1f} {spread:>26} "
                    f"{slow[0] / fast[0]:>6.1f}x {memory:>20}",
                    flush=True,
                )


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
