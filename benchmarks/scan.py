"""The chunked scan against the token loop; another form is another name in FORMS.

Results are checked at every size first. Memory that training keeps is told by bytes a token, not timed. The
longest sequences are timed on two threads too, where there are two cores: the token loop gains nothing from
them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from common import Row, Wrong, held_against, rounds, standalone
from deltamem_eval.methods.delta_mem.scan import scan
from deltamem_eval.profiling.allocations import Allocations
from torch import Tensor

RANK = 8
TOLERANCE = 1e-4
REPEATS = {512: 25, 2048: 11, 8192: 5}  # by tokens: what is short is easily disturbed
SIZES = [(tokens, heads) for tokens in (512, 2048, 8192) for heads in (1, 4)]
PASSES = {"forward": False, "fwd+bwd": True}
TARGETS = {"forward": 4.0, "fwd+bwd": 10.0}  # of every form but the first, where no more is promised
# By tokens, heads and threads.
PROMISED = {
    (8192, 1, 1): {"forward": 40.0, "fwd+bwd": 80.0},
    (8192, 4, 1): {"forward": 10.0, "fwd+bwd": 50.0},
    (8192, 1, 2): {"forward": 40.0, "fwd+bwd": 80.0},
    (8192, 4, 2): {"forward": 20.0, "fwd+bwd": 50.0},
}
ON_TWO_CORES = [(8192, heads) for heads in (1, 4)]
FORMS = ("naive", "chunked")  # the first is the reference, and what the others are held against


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


def check(heads: int, tokens: int) -> None:
    """Raises Wrong where a form differs from the first one, or holds what is no number."""
    case = inputs(heads, tokens)
    for name, backward in PASSES.items():
        wanted = once(case, FORMS[0], backward)
        for form in FORMS[1:]:
            for got, value in zip(once(case, form, backward), wanted, strict=True):
                scale = max(float(value.abs().max()), 1.0)
                if not float((got - value).abs().max()) <= TOLERANCE * scale:  # NaN passes no bound
                    raise Wrong(f"{form}, {name}, {tokens} tokens, {heads} heads")


def training_bytes(case: dict[str, Tensor]) -> tuple[int, int]:
    """Bytes the chunked form keeps between forward and backward, and the most alive in both."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in case.items()}
    with Allocations() as found:
        reads, end = scan(**leaves, decay=None)
        kept = found.live
        (reads.square().sum() + end.square().sum()).backward()  # type: ignore[no-untyped-call]
    return kept, found.peak


def rows() -> Iterator[Row]:
    """Check all sizes, then time them."""
    for tokens, heads in SIZES:
        check(heads, tokens)
    for tokens, heads in SIZES:
        yield from timed(tokens, heads, threads=1)
        for what, count in zip(("kept", "peak"), training_bytes(inputs(heads, tokens)), strict=True):
            share = count / tokens
            yield Row(
                "scan", f"chunked: {size(tokens, heads)}, training", what, share, share, share, "B/token"
            )
    for tokens, heads in ON_TWO_CORES if len(os.sched_getaffinity(0)) > 1 else ():
        with thread_count(2):
            check(heads, tokens)
            yield from timed(tokens, heads, threads=2)


def timed(tokens: int, heads: int, threads: int) -> Iterator[Row]:
    """Both passes in every form. threads: how many torch may use, for the rows' names and promises."""
    case, promised = inputs(heads, tokens), PROMISED.get((tokens, heads, threads), TARGETS)
    shown = size(tokens, heads) + (f", {threads} threads" if threads > 1 else "")
    for name, backward in PASSES.items():
        work = {f"{form}: {shown}, {name}": partial(once, case, form, backward) for form in FORMS}
        targets = dict.fromkeys(work, promised[name])
        yield from held_against("scan", rounds(work, REPEATS[tokens]), next(iter(work)), targets=targets)


def size(tokens: int, heads: int) -> str:
    """As rows name it."""
    return f"{tokens} tokens, {heads} head{'s' * (heads > 1)}"


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    standalone("scan", rows)
