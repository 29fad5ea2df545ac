"""Workers as ray actors: started, given shards, and replaced when they or their machines are lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from deltamem_eval.answering import Event
from deltamem_eval.cells import Cell
from deltamem_eval.errors import UserError
from deltamem_eval.executors.board import Assignment, Board
from deltamem_eval.executors.worker import Ended, Facts, Refusal, Start, Worker
from deltamem_eval.interface import Query
from ray.exceptions import RayError, RayTaskError

PATIENCE = 600.0  # seconds to wait for any worker to be given a place on a machine
STARTS = 3  # times in a row that a worker may be lost before it is ready, until no other takes its seat
AHEAD = 2  # batches asked of a worker at once


@dataclass
class Member:
    """One worker's seat: the actor on it, what was asked of it and not yet answered, and its shard.

    calls: references and what to do with their results, in order. placed: whether a machine has room for it.
    batches: of its shard, as far as they can be counted, that were not asked for yet.
    """

    number: int
    actor: Any = None
    calls: deque[tuple[Any, Callable[[Any], None]]] = field(default_factory=deque)
    facts: Facts | None = None
    assignment: Assignment | None = None
    placed: bool = False
    ready: bool = False
    failed_starts: int = 0
    batches: int = 0

    @property
    def told(self) -> dict[str, str]:
        """The worker as `run.json` names it."""
        assert self.facts is not None
        return {"worker": str(self.number), "node": self.facts.node, "device": self.facts.device}

    def vacate(self) -> None:
        """Nobody sits here any more."""
        self.actor, self.facts, self.assignment = None, None, None
        self.placed = self.ready = False
        self.calls.clear()


class Crew:
    """Some workers alike, for one request after another.

    resources: what ray gives each, as its options. notice: tells the user of losses.
    """

    def __init__(self, count: int, resources: dict[str, Any], notice: Callable[[str], None]) -> None:
        self._remote = ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **resources)
        self.notice = notice
        self._start: Start | None = None
        self._cells: Sequence[Cell] = ()
        self._trained: Mapping[str, Mapping[str, Any]] = {}
        self._board: Board | None = None
        self._alone_since = time.monotonic()
        self._last_reason = ""
        self.members = [Member(number) for number in range(count)]
        for member in self.members:
            self._seat(member)

    def load(self, start: Start) -> Facts:
        """Have every worker load a request's weights; what the first one has loaded."""
        self._start, self._cells, self._board = start, (), None
        for member in self.members:
            member.facts, member.ready = None, False
            if member.actor is not None:
                self._ask_to_load(member)
        while not (known := [member.facts for member in self.members if member.facts]):
            self._turn()
        return known[0]

    def try_out(
        self, cells: Sequence[Cell], queries: Sequence[Query], trained: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Have one worker try everything out, before anything is written; then all may begin.

        trained: by method, what trained files decide of its cells' identity; every worker must find the same.
        Raises UserError for whatever a worker refuses.
        """
        self._cells, self._trained = cells, trained
        member = next(member for member in self.members if member.facts)
        actor = member.actor
        tried: list[None] = []
        member.calls.append((actor.call.remote("try_out", cells, queries), tried.append))
        for other in self.members:
            if other.facts:
                self._ask_what_is_trained(other)
        while not tried and member.actor is actor:
            self._turn()
        if not tried:
            self.notice("it was trying the methods out: the questions of whichever ended it will fail")

    def work(self, board: Board, joined: Callable[[dict[str, str]], None]) -> None:
        """Go through every shard of a board. joined: told each worker before its first shard."""
        self._board = board
        while True:
            for member in self.members:
                if member.ready and member.assignment is None and (assignment := board.take()):
                    joined(member.told)
                    self._give(member, assignment)
            if not board.unfinished:
                return
            self._turn()

    def close(self) -> None:
        """Let every worker go."""
        for member in self.members:
            if member.actor is not None:
                ray.kill(member.actor)
        self.members = []

    def _seat(self, member: Member) -> None:
        """Start a worker on a seat."""
        member.actor = self._remote.remote()
        member.calls.append((member.actor.call.remote("place"), partial(self._placed, member)))
        if self._start is not None:
            self._ask_to_load(member)

    def _ask_to_load(self, member: Member) -> None:
        handler = partial(self._loaded, member, self._start)
        member.calls.append((member.actor.call.remote("load", self._start), handler))

    def _ask_what_is_trained(self, member: Member) -> None:
        handler = partial(self._compared, member, self._start)
        member.calls.append((member.actor.call.remote("trained", self._cells), handler))

    def _give(self, member: Member, assignment: Assignment) -> None:
        """Have a worker take on a shard."""
        assert self._start is not None
        shard, size = assignment.shard, self._start.request.batch_size
        member.assignment, member.batches = assignment, -(-len(shard.queries) // size) - 1
        handler = partial(self._stepped, member, assignment)
        member.calls.append((member.actor.call.remote("begin", shard), handler))
        self._ask_ahead(member, assignment)

    def _ask_ahead(self, member: Member, assignment: Assignment) -> None:
        """Ask for a batch more than the one under way: the worker then never waits for this process.

        A batch size that was halved makes more batches than were counted: they are asked for one by one.
        """
        while not member.calls or (member.batches > 0 and len(member.calls) < AHEAD):
            handler = partial(self._stepped, member, assignment)
            member.calls.append((member.actor.call.remote("step"), handler))
            member.batches -= 1

    def _turn(self) -> None:
        """Wait a moment for answers, and act on those that came."""
        self._check_patience()
        heads = {member.calls[0][0]: member for member in self.members if member.calls}
        for count, seconds in ((1, 1.0), (len(heads), 0.0)):  # the first one, then all that came with it
            done, _ = ray.wait(list(heads), num_returns=count, timeout=seconds)
        for answer in done:
            member = heads[answer]
            _, handler = member.calls.popleft()
            try:
                result = ray.get(answer)
            except RayTaskError:  # a fault of ours, not of the machines
                raise
            except RayError as error:
                self._lost(member, reason_of(error))
                continue
            if isinstance(result, Refusal):
                raise UserError(f"worker on {result.node}: {result.text}")
            handler(result)

    def _check_patience(self) -> None:
        if all(member.actor is None for member in self.members):
            raise UserError(f"no worker can be started: {self._last_reason}")
        if any(member.placed for member in self.members):
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > PATIENCE:
            raise UserError(
                f"ray gave no worker a place for {PATIENCE:.0f} s: the same command goes on once it has room"
            )

    def _placed(self, member: Member, _: str) -> None:
        member.placed = True

    def _loaded(self, member: Member, start: Start | None, facts: Facts) -> None:
        if start is not self._start:
            return
        for other in self.members:
            if other.facts is not None:
                check_alike(other.facts, facts)
        member.facts = facts
        if self._cells:
            self._ask_what_is_trained(member)

    def _compared(self, member: Member, start: Start | None, found: Mapping[str, Mapping[str, Any]]) -> None:
        if start is not self._start:
            return
        assert member.facts is not None
        for method, here in self._trained.items():
            if found[method] != here:
                raise UserError(
                    f"worker on {member.facts.node} has other trained files for {method} than this machine: "
                    f"{found[method]}, not {here}"
                )
        member.ready, member.failed_starts = True, 0

    def _stepped(self, member: Member, assignment: Assignment, events: list[Event | Ended]) -> None:
        """Pass on what happened on a shard; nothing did on a step asked for beyond its end."""
        if member.assignment is not assignment:
            return
        assert member.facts is not None
        assert self._board is not None
        if not isinstance(events[-1], Ended):
            self._ask_ahead(member, assignment)
        for event in events:
            if isinstance(event, Ended):
                member.assignment = None
                self._board.ended(assignment, event.effective)
            else:
                assert assignment.episode is not None
                assignment.run.take(assignment.episode, event, member.facts.device)

    def _lost(self, member: Member, reason: str) -> None:
        """A worker is gone: its shard goes back, and another takes its seat."""
        where = "" if member.facts is None else f" on {member.facts.node}"
        self.notice(f"worker {member.number}{where} was lost: {reason}")
        if member.assignment is not None:
            assert member.facts is not None
            assert self._board is not None
            self._board.lost(member.assignment, reason, member.facts.device)
        member.failed_starts += 0 if member.ready else 1
        ray.kill(member.actor)  # one that only cannot be reached must not go on
        member.vacate()
        self._last_reason = reason
        if member.failed_starts < STARTS:
            self._seat(member)
        else:
            self.notice(
                f"worker {member.number} was lost {STARTS} times before it was ready: nobody takes its seat"
            )


def check_alike(one: Facts, other: Facts) -> None:
    """Raises UserError where two workers would give different answers under one identity."""
    for what in ("identity", "dtype", "positions", "code"):
        values = getattr(one, what), getattr(other, what)
        if values[0] != values[1]:
            whose = "deltamem-eval" if what == "code" else one.name
            raise UserError(
                f"workers differ in {what} of {whose}: {values[0]} on {one.node}, {values[1]} on {other.node}"
            )
    for name in sorted({*one.versions, *other.versions}):
        pair = [facts.versions.get(name, "none") for facts in (one, other)]
        if pair[0] != pair[1]:
            raise UserError(f"workers differ in {name}: {pair[0]} on {one.node}, {pair[1]} on {other.node}")


def reason_of(error: RayError) -> str:
    """Why a worker was lost, in a line, from ray's paragraphs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = ("The actor is dead because", "The actor died because")
    telling = [line for line in lines if line.startswith(causes)] or lines
    first = telling[0] if telling else ""
    return f"{type(error).__name__}: {first.partition(' Some common causes')[0]}"
