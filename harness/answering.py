"""A method at work on one backbone: write a context once, snapshot, answer every question from the snapshot.

It stores nothing and scores nothing. What it does comes out as events, in order, so that the same work can
run in the process that holds the store or on another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from deltamem_eval.cells import Cell
from deltamem_eval.deadline import TimeIsUp, limit, too_late
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, Episode, MemoryMethod, MethodSettings, Query, Snapshot
from deltamem_eval.registry import METHODS

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone

T = TypeVar("T")


@dataclass(frozen=True)
class Writing:
    """A context of that many tokens is being written."""

    tokens: int


@dataclass(frozen=True)
class Wrote:
    """It was written."""

    tokens: int
    seconds: float


@dataclass(frozen=True)
class Answered:
    """A batch of questions was answered, or failed.

    queries: their ids, in the answers' order. seconds: of one answer, the batch's time shared out;
    decode_seconds: of these, what came after the first token, None where nothing did or the method does not
    decode through the backbone. held: bytes held for the context, by kind. peaks: the most bytes handed out
    on the GPUs by phase, `write` and `answer`. written_tokens: of the context that was written, counted chunk
    by chunk as windows count them; None where none was.
    """

    queries: tuple[str, ...]
    answers: tuple[Answer, ...]
    write_seconds: float = 0.0
    seconds: float = 0.0
    held: dict[str, int] | None = None
    decode_seconds: float | None = None
    peaks: dict[str, int] = field(default_factory=dict)
    written_tokens: int | None = None


Event = Writing | Wrote | Answered


def make_method(cell: Cell, backbone: Backbone) -> MemoryMethod:
    """The cell's method, ready. Raises UserError where it does not fit the backbone."""
    settings = MethodSettings(cell.window, cell.seed, cell.adapter, cell.options)
    return METHODS.load(cell.method)(backbone, settings)


class CellWork:
    """A cell's method on a backbone. A method that cannot be made fails every question it is asked. Batches
    are as large as was asked for until memory runs out.

    timeout: seconds that writing a context, or answering a batch of questions, may take. Raises UserError
    where the method does not fit the backbone.
    """

    def __init__(self, cell: Cell, backbone: Backbone, timeout: float | None = None) -> None:
        from deltamem_eval.phases import Gpus

        self.cell = cell
        self._backbone = backbone
        self._timeout = timeout
        backbone.full_batches()  # what an earlier cell could not hold is no matter of this one
        self._gpus = Gpus(parameter.device for parameter in backbone.model.parameters())
        self._held: dict[str, int] | None = None  # for the context at hand
        self._method: MemoryMethod | None = None
        try:
            self._method = make_method(cell, backbone)
        except UserError:
            raise
        except Exception as error:  # a plug-in may raise anything
            self._failed = self._failure(error)

    def ask(self, source: Episode | None, queries: Sequence[Query]) -> Iterator[Event]:
        """Write one context and answer questions from it, batch by batch.

        source: whose context to write; None where there is none, and the questions are skipped.
        """
        if not queries:
            return
        if self._method is None:
            yield all_alike(queries, self._failed)
        elif source is None:
            reason = "no other context to take the memory from"
            yield all_alike(queries, Answer("", 0, 0, status="skipped", error=reason))
        else:
            yield from self._from_context(self._method, source, queries)

    def _from_context(
        self, method: MemoryMethod, source: Episode, queries: Sequence[Query]
    ) -> Iterator[Event]:
        texts = [chunk.text for chunk in source.chunks]
        try:
            self._backbone.announce(texts, source.context, wait=True)  # so that no write's time holds it
            tokens = self._backbone.length(source.context)
            whole = sum(len(self._backbone.encode(text)) for text in texts)
            queries = self._by_length(queries)
        except UserError:
            raise
        except Exception as error:  # a tokenizer may choke on a text
            yield all_alike(queries, failure(error))
            return
        yield Writing(tokens)
        self._gpus.start()
        began = time.perf_counter()
        snapshot = self._written(method, source)
        if isinstance(snapshot, Answer):
            yield all_alike(queries, snapshot)
            return
        write_seconds, peak = time.perf_counter() - began, self._gpus.read("write")
        yield Wrote(tokens, write_seconds)
        size = max(self._backbone.batch_size, 1)
        for start in range(0, len(queries), size):
            answered = self._answered(method, snapshot, queries[start : start + size])
            peaks = {**peak, **answered.peaks}
            yield replace(answered, write_seconds=write_seconds, peaks=peaks, written_tokens=whole)

    def _by_length(self, queries: Sequence[Query]) -> list[Query]:
        """The queries by what they need of the positions, question and answer, the least first.

        How much of a long context fits beside a question goes by its length, and methods keep one prefilled
        context: those of one length are answered together, so that each is read once.
        """
        length = self._backbone.length
        return sorted(queries, key=lambda query: length(query.prompt) + query.max_new_tokens)

    def _written(self, method: MemoryMethod, source: Episode) -> Snapshot | Answer:
        """The memory once the context is written, or the failure that every question gets instead."""
        self._held = None
        try:
            with limit(self._timeout):
                method.reset()
                for chunk in source.chunks:
                    method.write(chunk)
                snapshot = method.snapshot()
                self._gpus.wait()
                return snapshot
        except UserError:
            raise
        except TimeIsUp:
            return self._too_late("the context was not written")
        except Exception as error:  # one bad cell must not take the others with it
            return self._failure(error)

    def _answered(self, method: MemoryMethod, snapshot: Snapshot, batch: Sequence[Query]) -> Answered:
        """A batch's answers from a snapshot, and what they took."""
        clock = self._backbone.clock
        clock.read()
        self._gpus.start()
        began = time.perf_counter()
        try:
            with limit(self._timeout):
                answers = self._answers(method, snapshot, batch)
        except TimeIsUp:
            answers = [self._too_late(f"a batch of {len(batch)} was not answered")] * len(batch)
        seconds, decoding, peaks = time.perf_counter() - began, clock.read(), self._gpus.read("answer")
        return Answered(
            tuple(query.id for query in batch),
            tuple(self._weighed(method, answers)),
            seconds=seconds / len(batch),
            held=self._held or {},
            decode_seconds=None if decoding is None else decoding / len(batch),
            peaks=peaks,
        )

    def _answers(self, method: MemoryMethod, snapshot: Snapshot, batch: Sequence[Query]) -> list[Answer]:
        """The answers from a snapshot.

        Where the batch fails each question is asked alone, so that none fails for another's sake.
        """
        from deltamem_eval.choosing import answer

        try:
            with self._backbone.clock.lost_on_error():
                method.restore(snapshot)
                answers = answer(method, self._backbone, batch)
                if len(answers) != len(batch):
                    raise ValueError(f"{len(answers)} answers to {len(batch)} questions")
                return answers
        except UserError:
            raise
        except Exception as error:  # counted as wrong and shown, never dropped
            failed = self._failure(error)
        if len(batch) == 1:
            return [failed]
        return [answer for query in batch for answer in self._answers(method, snapshot, [query])]

    def _weighed(self, method: MemoryMethod, answers: list[Answer]) -> list[Answer]:
        """The answers, the bytes held for the context being read once; failures where they cannot be."""
        if self._held is None and any(answer.status == "ok" for answer in answers):
            try:
                self._held = asdict(method.footprint())
            except UserError:
                raise
            except Exception as error:  # as above
                return [self._failure(error)] * len(answers)
        return answers

    def _failure(self, error: Exception) -> Answer:
        """The record of an error. Raises DeviceLostError where the device went with it."""
        self._gpus.check()
        return failure(error)

    def _too_late(self, what: str) -> Answer:
        assert self._timeout is not None
        return Answer("", 0, 0, status="timeout", error=too_late(what, self._timeout))

    def effective(self) -> dict[str, Any]:
        """What held while the cell ran. The backbone's notices are handed over with it and start anew.

        batch_size: the smallest that was used; what was asked for, where memory held it.
        """
        cell, backbone, method = self.cell, self._backbone, self._method
        notices = list(backbone.notices)
        backbone.notices.clear()
        setting: dict[str, Any] = {
            "label": cell.method if method is None else _label(cell, notices),
            "overhead": {},
            "batch_size": backbone.batch_size,
            "device": backbone.devices,
            "notices": notices,
            **({} if self._timeout is None else {"timeout": self._timeout}),
        }
        if method is None:
            return setting

        def added() -> dict[str, int]:
            return asdict(method.added(backbone.shape(), cell.options))

        setting["capacity"] = _told(cell, "capacity", lambda: method.capacity, None, notices)
        count: dict[str, int] = _told(cell, "added parameters", added, {}, notices)
        if count:
            setting["overhead"] = {**count, "backbone": backbone.parameters()}
        return setting

    def close(self) -> None:
        """Take the method off the backbone again; one of the backbone's notices says where that failed."""
        if self._method is None:
            return
        try:
            self._method.close()
        except UserError:
            raise
        except Exception as error:  # its answers are as good as any; those that follow may not be
            self._gpus.check()
            self._backbone.notices.append(not_taken_off(self.cell.method, error))


def not_taken_off(method: str, error: Exception) -> str:
    """The notice of a method that raised when it was closed."""
    text = f"{method} could not be taken off the backbone: {type(error).__name__}: {error}"
    return f"{text}; what it left there may change later answers"


def nothing_known(cell: Cell) -> dict[str, Any]:
    """What `CellWork.effective` would tell, of a cell whose end no method came to."""
    notices: list[str] = []
    return {"label": _label(cell, notices), "overhead": {}, "notices": notices}


def _label(cell: Cell, notices: list[str]) -> str:
    """The method's name in tables; the registered one where it cannot tell."""
    kind = METHODS.load(cell.method)
    return _told(cell, "label", lambda: kind.label(cell.options), cell.method, notices)


def _told(cell: Cell, what: str, ask: Callable[[], T], otherwise: T, notices: list[str]) -> T:
    """What a method tells of itself; `otherwise`, and a notice, where it raises: its answers stand."""
    try:
        return ask()
    except Exception as error:  # a plug-in may raise anything
        notices.append(f"{cell.method}: {what} unknown: {type(error).__name__}: {error}")
        return otherwise


def all_alike(queries: Sequence[Query], answer: Answer) -> Answered:
    """The same failure or skip for each question."""
    return Answered(tuple(query.id for query in queries), (answer,) * len(queries))


def failure(error: Exception) -> Answer:
    """The record of an answer that an error took the place of."""
    from deltamem_eval.phases import is_out_of_memory

    text = f"{type(error).__name__}: {error}"
    return Answer("", 0, 0, status="oom" if is_out_of_memory(error) else "failed", error=text)
