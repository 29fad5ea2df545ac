"""Runs cells: asks a cell's method what the store does not hold yet, and stores each answer as it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from deltamem_eval.answering import Answered, CellWork, Event, Writing, Wrote, all_alike, nothing_known
from deltamem_eval.aside import Aside
from deltamem_eval.cells import Cell
from deltamem_eval.controls import donors
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, Episode, Query, Task
from deltamem_eval.provenance import device_line, versions
from deltamem_eval.registry import METHODS, OURS
from deltamem_eval.retries import reopen
from deltamem_eval.samples import make_sample
from deltamem_eval.store import CellStore, RunStore

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone


class Progress(Protocol):
    """What the runner tells while it works. Several cells may be under way at once."""

    def cell(self, cell: Cell, questions: int, done: int) -> None:
        """A cell begins; `done` of its questions were answered before."""

    def writing(self, cell: Cell, episode: Episode, tokens: int) -> None:
        """A context of that many tokens is being written."""

    def wrote(self, cell: Cell, episode: Episode, tokens: int, seconds: float) -> None:
        """It was written."""

    def answered(self, cell: Cell, episode: Episode, count: int) -> None:
        """Questions of a context were answered."""

    def notice(self, text: str) -> None:
        """Something the user should know."""


class Identified(Protocol):
    """What a cell's identity holds of a backbone: its name, what its files are, and their type."""

    @property
    def name(self) -> str:
        """As `--model` names it."""

    @property
    def identity(self) -> str:
        """Content hash of its files, or its name and commit."""

    @property
    def dtype(self) -> str:
        """As `--dtype` spells it."""


def cell_identity(cell: Cell, task: Task, backbone: Identified, limit: int | None) -> dict[str, Any]:
    """All that changes the cell's answers."""
    kind = METHODS.load(cell.method)
    return {
        "method": cell.method,
        "control": cell.control,
        "task": cell.task,
        "data": task.identity(),
        "model": backbone.name,
        "weights": backbone.identity,
        "dtype": backbone.dtype,
        **trained_parts(cell),
        "options": {**kind.defaults, **cell.options},
        "window": cell.window,
        "seed": cell.seed,
        "limit": limit,
        "prompts": _prompt_version(),
        **_foreign(METHODS.package(cell.method)),
    }


def _foreign(package: str) -> dict[str, str]:
    """Of a cell's identity, the package and version of a method that is not ours: new code, new answers."""
    known = versions([package]).get(package) if package not in ("", OURS) else None
    return {} if known is None else {"package": f"{package} {known}"}


def trained_parts(cell: Cell) -> dict[str, Any]:
    """Of a cell's identity, what its method's trained files decide; `broken`, what a plug-in raised instead.

    Raises UserError for files not there.
    """
    kind = METHODS.load(cell.method)
    try:
        return {
            "adapter": None if cell.adapter is None else kind.adapter_hash(cell.adapter),
            "parts": kind.parts(cell.options),
        }
    except UserError:
        raise
    except Exception as error:  # a plug-in may raise anything; its cells record it
        return {"adapter": None, "parts": {}, "broken": f"{type(error).__name__}: {error}"}


def _prompt_version() -> int:
    from deltamem_eval.methods.prompt import PROMPT_VERSION

    return PROMPT_VERSION


class CellRun:
    """One cell on its way into the store: what is still to ask, and the place of every answer.

    Answers may come in any order and more than once; each question is stored once.
    """

    def __init__(
        self, cell: Cell, task: Task, episodes: Sequence[Episode], place: CellStore, progress: Progress
    ) -> None:
        self.cell = cell
        self.episodes = episodes
        self._task = task
        self._place = place
        self._progress = progress
        self._notices = place.notices()
        self._others = donors(episodes) if cell.control == "wrong-memory" else None
        done = {sample.query for sample in place.samples()}
        asked = [query for episode in episodes for query in episode.queries]
        self._open = {query.id: query for query in asked if query.id not in done}
        progress.cell(cell, len(asked), len(asked) - len(self._open))

    def source(self, episode: Episode) -> Episode | None:
        """Whose context is written before this episode's questions; None where there is none."""
        return episode if self._others is None else self._others[episode.id]

    def waiting(self, episode: Episode) -> list[Query]:
        """The episode's questions that have no stored answer."""
        return [query for query in episode.queries if query.id in self._open]

    def take(self, episode: Episode, event: Event, device: str) -> None:
        """Store and show what an event tells. device: the line that names where it happened."""
        if isinstance(event, Writing):
            self._progress.writing(self.cell, episode, event.tokens)
        elif isinstance(event, Wrote):
            self._progress.wrote(self.cell, episode, event.tokens, event.seconds)
        else:
            self._store(episode, event, device)

    def _store(self, episode: Episode, batch: Answered, device: str) -> None:
        pairs = [
            (self._open[name], answer)
            for name, answer in zip(batch.queries, batch.answers, strict=True)
            if name in self._open
        ]
        samples = [make_sample(self._task, episode, query, answer, batch, device) for query, answer in pairs]
        shown = {query.id: answer.visible for query, answer in pairs if answer.status == "ok"}
        self._place.append(samples, shown)
        for query, _ in pairs:
            del self._open[query.id]
        self._progress.answered(self.cell, episode, len(pairs))

    def fail(self, episode: Episode, reason: str, device: str) -> None:
        """Store a failure for each of the episode's questions that is still open."""
        answer = Answer("", 0, 0, status="failed", error=reason)
        self._store(episode, all_alike(self.waiting(episode), answer), device)

    def fail_all(self, reason: str) -> None:
        """Store a failure for each open question, and the cell's end."""
        for episode in self.episodes:
            if self.waiting(episode):
                self.fail(episode, reason, "")
        self.finish(nothing_known(self.cell))

    def note(self, texts: Sequence[str]) -> None:
        """Show notices, each once, and keep them for the cell's end."""
        for text in texts:
            if text not in self._notices:
                self._notices.append(text)
                self._place.note(text)
                self._progress.notice(text)

    def finish(self, effective: Mapping[str, Any]) -> None:
        """Every question is stored: write the cell's end. effective: as `CellWork.effective` gives it."""
        devices = Counter(sample.device for sample in self._place.samples() if sample.device)
        if len(devices) > 1:
            shares = ", ".join(f"{line} ({count} questions)" for line, count in devices.items())
            self.note([f"{self.cell.label} was answered on different devices: {shares}"])
        self.note(effective["notices"])
        self._place.finish({**effective, "notices": self._notices})


def open_cell(
    cell: Cell,
    task: Task,
    episodes: Sequence[Episode],
    store: RunStore,
    identity: Mapping[str, Any],
    progress: Progress,
    timeout: float | None = None,
) -> CellRun | None:
    """The cell with its contexts stored, ready to be asked; None where it is finished.

    timeout: as `CellWork`'s; what ran out of less time is asked again. A cell whose trained files its method
    cannot tell (`trained_parts`) is finished here: all its questions fail.
    """
    place = store.cell(identity)
    again = reopen(place, timeout)
    if place.finished:
        return None
    store.keep_contexts(episodes)
    run = CellRun(cell, task, episodes, place, progress)
    if again:
        run.note([_asked_again(cell, again, timeout)])
    if "broken" in identity:
        run.fail_all(identity["broken"])
        return None
    return run


def _asked_again(cell: Cell, questions: int, timeout: float | None) -> str:
    now = "no limit" if timeout is None else f"{timeout:g} s"
    return f"{cell.label}: asked again, with {now}, having run out of time before: {questions} questions"


def run_cell(
    cell: Cell,
    task: Task,
    episodes: Sequence[Episode],
    backbone: Backbone,
    store: RunStore,
    identity: Mapping[str, Any],
    progress: Progress,
    timeout: float | None = None,
) -> None:
    """Answer whatever the store does not hold yet, and again what ran out of less time than there is now; a
    cell that is finished otherwise is left alone. timeout: as `CellWork`'s.
    """
    run = open_cell(cell, task, episodes, store, identity, progress, timeout)
    if run is None:
        return
    device = device_line(backbone.devices)
    store.note_worker("local", {"device": device})
    work = CellWork(cell, backbone, timeout)
    try:
        asked = [episode for episode in episodes if run.waiting(episode)]
        with Aside(thread=beside_device(backbone)) as aside:
            for episode, following in zip_longest(asked, asked[1:]):
                for event in work.ask(run.source(episode), run.waiting(episode)):
                    aside.do(run.take, episode, event, device)
                    if isinstance(event, Wrote) and beside_device(backbone):
                        _announce(backbone, following and run.source(following))
            effective = work.effective()
    finally:
        work.close()
    run.note(backbone.notices)  # of closing; they stay, since what was left concerns the next cell too
    run.finish(effective)


def _announce(backbone: Backbone, source: Episode | None) -> None:
    """Have the context that is written next encoded while this one's questions are answered."""
    if source is not None:
        backbone.announce([chunk.text for chunk in source.chunks], source.context)


def beside_device(backbone: Backbone) -> bool:
    """Whether threads encode the next context and score and store answers while the model works: where it is
    not on the processor.

    There they would compete with the answers, and the seconds that are told of them would be wrong.
    """
    return backbone.device.type != "cpu"
