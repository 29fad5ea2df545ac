"""What a memory costs while decoding: tokens a second with each policy against the bare backbone.

One row at a time, a fresh prompt of a few tokens, so that nothing but the step is timed. The check: every
policy's chunked scan decodes what its token loop decodes, from a state that was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random

from common import Row, Wrong, held_against, rounds, standalone
from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Answer, MemoryMethod
from deltamem_eval.methods.delta_mem.hooks import use_form
from deltamem_eval.methods.delta_mem.method import POLICIES
from models import backbone, method, questions, read, text

CONTEXT, NEW_TOKENS = 256, 64
REPEATS = 15
TARGET = 0.5  # of the bare backbone's speed, on a backbone so small that its own step costs little


def answering(found: MemoryMethod) -> Callable[[], Answer]:
    """One question answered from the memory alone."""
    rng = Random(1)
    (query,) = questions(1, NEW_TOKENS, rng)
    read(found, text(CONTEXT, rng))
    found.answer([query])  # what was written is settled before anything is timed
    return lambda: found.answer([query])[0]


def check(name: str, made: Backbone) -> None:
    """Raises Wrong where both forms of the scan decode different texts, or fewer tokens than are counted."""
    with method(name, made, 0) as found:
        answer = answering(found)()
        if answer.new_tokens != NEW_TOKENS:
            raise Wrong(f"{name}: {answer.new_tokens} tokens decoded, not {NEW_TOKENS}")
        if name in POLICIES:
            use_form(made.model, "naive")
            if answering(found)().text != answer.text:
                raise Wrong(f"{name}: the chunked scan decodes another text than the token loop")


def rows() -> Iterator[Row]:
    """Check all; then let all take turns, each on a backbone of its own."""
    names = ("vanilla", *POLICIES)
    for name in names:
        check(name, backbone())
    with ExitStack() as stack:
        work = {name: answering(stack.enter_context(method(name, backbone(), 0))) for name in names}
        seconds = rounds(work, REPEATS)
    yield from held_against(
        "decode_overhead",
        seconds,
        "vanilla",
        metric="decode",
        unit="tokens/s",
        amount=NEW_TOKENS,
        targets=dict.fromkeys(work, TARGET),
    )


if __name__ == "__main__":
    standalone("decode_overhead", rows)
