"""The checks. Each takes a subject; it raises BrokenError with what it saw, NotApplicableError with why."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deltamem_eval.conformance.subject import Subject, context, prompts, questions, replies, write
from deltamem_eval.interface import MemoryMethod, Snapshot


class BrokenError(AssertionError):
    """A promise is not kept; the message says which and how."""


class NotApplicableError(Exception):
    """The check does not apply to this method; the message says why."""


def require(kept: bool, what: str) -> None:
    """Raises BrokenError with `what` unless `kept`."""
    if not kept:
        raise BrokenError(what)


@contextmanager
def made(subject: Subject, window: int | None = None, seed: int = 0) -> Iterator[MemoryMethod]:
    """The method, taken off the backbone afterwards."""
    method = subject.make(window, seed)
    try:
        yield method
    finally:
        method.close()


def empty_equals_base(subject: Subject) -> None:
    """With nothing written, answers are the backbone's own."""
    if subject.kind.always_on:
        raise NotApplicableError("its trained part is on whatever was written (always_on)")
    with made(subject) as method:
        found = replies(method, questions())
    with made(Subject("vanilla", subject.model), 0) as vanilla:
        require(found == replies(vanilla, questions()), "with an empty memory it answers unlike the backbone")


def reset_forgets(subject: Subject) -> None:
    """After `reset` the method is as new: for questions, and for the next context."""
    with made(subject) as method:
        fresh = replies(method, questions())
        write(method, context())
        first = method.answer(questions())
        method.reset()
        require(replies(method, questions()) == fresh, "after reset it answers unlike a new one")
        write(method, context(1))
        method.answer(questions())
        method.reset()
        write(method, context())
        require(method.answer(questions()) == first, "a context read before changes answers after reset")


def answering_changes_nothing(subject: Subject) -> None:
    """Questions leave the memory as it was."""
    with made(subject) as method:
        write(method, context())
        before = method.snapshot()
        first = method.answer(questions())
        require(same(before, method.snapshot()), "answering changed the memory's snapshot")
        require(method.answer(questions()) == first, "the same questions got other answers the second time")


def order_and_batch(subject: Subject) -> None:
    """Question order and batch size change no answer."""
    backbone, asked = subject.backbone(), questions()
    size = backbone.batch_size
    try:
        with made(subject) as method:
            write(method, context())
            wanted = replies(method, asked)
            for rows in (1, 3, 8):
                backbone.batch_size = rows
                for order in (asked, asked[::-1], asked[2:] + asked[:2]):
                    found = replies(method, order)
                    require(found == wanted, f"batch size {rows} or the order of questions changed an answer")
    finally:
        backbone.batch_size = size


def padding(subject: Subject) -> None:
    """A short question answered beside a long one gets the answer that it gets alone: padding is not read."""
    asked = questions()
    short, long = asked[4], asked[2]
    with made(subject) as method:
        write(method, context())
        alone = method.answer([short])[0]
        beside = method.answer([long, short])[1]
        require(beside == alone, "a longer question beside it changed a question's answer")


def survives_a_process(subject: Subject) -> None:
    """A snapshot restored in a new process gives the same answers."""
    with made(subject) as method:
        write(method, context())
        wanted = replies(method, questions())
        method.restore(method.snapshot())
        require(replies(method, questions()) == wanted, "restoring its own snapshot changed an answer")
        snapshot = method.snapshot()
    with tempfile.TemporaryDirectory() as folder:
        pack(subject, snapshot, Path(folder))
        command = [sys.executable, "-m", "deltamem_eval.conformance.elsewhere", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokenError(f"in a new process: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
        found = json.loads(done.stdout.splitlines()[-1])
    require(found == wanted, "a snapshot restored in a new process gave other answers")


def pack(subject: Subject, snapshot: Snapshot, folder: Path) -> None:
    """Write subject and snapshot for another process. Raises BrokenError for one that cannot be written."""
    from safetensors.torch import save_file

    try:
        save_file(
            {name: item.contiguous() for name, item in snapshot.tensors.items()},
            folder / "snapshot.safetensors",
        )
        (folder / "meta.json").write_text(json.dumps(dict(snapshot.meta)), encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise BrokenError(f"its snapshot is not tensors and JSON: {error}") from error
    (folder / "subject.json").write_text(json.dumps(asdict(subject)), encoding="utf-8")


def overhead_is_true(subject: Subject) -> None:
    """The parameters it declares are those that were loaded."""
    shape = subject.backbone().shape()
    with made(subject) as method:
        declared = method.added(shape, subject.options)
        loaded = sum(item.numel() for item in method.trained_tensors())
    require(
        declared.stored == loaded, f"it declares {declared.stored:,} stored parameters and loaded {loaded:,}"
    )
    require(declared.trainable <= declared.stored, "it declares more trainable parameters than stored ones")


def same_seed_same_result(subject: Subject) -> None:
    """Two objects of one seed give the same answers."""
    found = []
    for _ in range(2):
        with made(subject, seed=7) as method:
            write(method, context())
            found.append(method.answer(questions()))
    require(found[0] == found[1], "two runs of the same seed gave other answers")


def window_is_kept(subject: Subject) -> None:
    """No more context tokens stand in the prompt than the window allows, and the count is true."""
    backbone = subject.backbone()
    with made(subject, 0) as method:
        write(method, context())
        bare = {query.id: answer.prompt_tokens for query, answer in _asked(method)}
    for window in (0, 1, 17, 64):
        with made(subject, window) as method:
            write(method, context())
            for query, answer in _asked(method):
                require(
                    answer.context_tokens <= window, f"{answer.context_tokens} context tokens at {window}"
                )
                shown = backbone.length(answer.visible) if answer.visible else 0
                require(shown <= answer.context_tokens + 2, "more context is visible than it counts")
                extra = answer.prompt_tokens - bare[query.id]
                require(
                    extra <= window + _FRAME, f"the prompt grew by {extra} tokens at a window of {window}"
                )


_FRAME = 8  # tokens that a chat's frame may put around a context


def _asked(method: MemoryMethod) -> list[tuple[Any, Any]]:
    return list(zip(questions(), method.answer(questions()), strict=True))


def wrong_memory_swaps(subject: Subject) -> None:
    """Another context's memory is another memory: in the answers, the prompts or the snapshot."""
    with made(subject) as method:
        write(method, context())
        own, own_memory = method.answer(questions()), method.snapshot()
        method.reset()
        write(method, context(1))
        other, other_memory = method.answer(questions()), method.snapshot()
        differs = [answer.text for answer in own] != [answer.text for answer in other]
        differs = differs or prompts(own) != prompts(other) or not same(own_memory, other_memory)
        require(differs, "another context left answers, prompts and snapshot as they were")
        method.restore(own_memory)
        require(
            method.answer(questions()) == own, "restoring a context's memory did not bring its answers back"
        )


def leaves_the_backbone(subject: Subject) -> None:
    """After `close` the backbone computes what it did before, bit for bit."""
    import torch

    backbone = subject.backbone()
    ids = torch.tensor([backbone.encode(context()[0].text)])
    with torch.no_grad():
        before = backbone.model(ids).logits
        with made(subject) as method:
            write(method, context())
            method.answer(questions())
        after = backbone.model(ids).logits
    require(torch.equal(before, after), "after close the backbone computes something else")
    require(not backbone.processors, "after close something still works on the backbone's logits")


def same(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots hold the same memory."""
    if json.dumps(dict(one.meta), sort_keys=True) != json.dumps(dict(other.meta), sort_keys=True):
        return False
    return one.tensors.keys() == other.tensors.keys() and all(
        item.shape == other.tensors[name].shape and bool((item == other.tensors[name]).all())
        for name, item in one.tensors.items()
    )


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    "empty-equals-base": empty_equals_base,
    "reset-forgets": reset_forgets,
    "answering-changes-nothing": answering_changes_nothing,
    "order-and-batch": order_and_batch,
    "padding": padding,
    "survives-a-process": survives_a_process,
    "overhead-is-true": overhead_is_true,
    "same-seed-same-result": same_seed_same_result,
    "window-is-kept": window_is_kept,
    "wrong-memory-swaps": wrong_memory_swaps,
    "leaves-the-backbone": leaves_the_backbone,
}
