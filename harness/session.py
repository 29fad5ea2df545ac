"""From what a user asked to a job of cells, everything checked before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltamem_eval.cells import Cell, plan
from deltamem_eval.deadline import check_timeout
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.hub import adapter_folder
from deltamem_eval.interface import Episode, Query, Task, TokenCounter
from deltamem_eval.registry import METHODS, TASKS

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.runner import Progress

EMBEDDED_WINDOW = 64
DEFAULT_WINDOW = 4096


@dataclass(frozen=True)
class Request:
    """A run as the user asked for it. windows: tokens; empty for the model's default. task: a registered
    name; `rows` where a file of rows is given. adapter: a folder or a hub name. timeout: seconds that writing
    a context, or answering a batch of questions, may take.
    """

    methods: tuple[str, ...]
    model: str = "embedded"
    task: str = "embedded"
    rows: str | None = None
    adapter: str | None = None
    windows: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    controls: bool = True
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 8
    timeout: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    task_options: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """What decides the run's cells, as JSON; device and batch size change no answer and are left out, and
        so is the timeout: what took too long is noted as such, question by question, and asked again where
        the same request comes with more time.
        """
        return {
            "methods": list(self.methods),
            "model": self.model,
            "task": self.task,
            "rows": self.rows,
            "adapter": self.adapter,
            "windows": list(self.windows),
            "seeds": list(self.seeds),
            "limit": self.limit,
            "controls": self.controls,
            "dtype": self.dtype,
            "options": dict(self.options),
            "task_options": dict(self.task_options),
        }

    def manner(self) -> dict[str, Any]:
        """How the work is done, which the record leaves out, as JSON."""
        return {"batch_size": self.batch_size, "timeout": self.timeout}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Request:
        """What `record` was taken of; entries of other versions are passed over."""
        fields = {name: value for name, value in record.items() if name in cls.__dataclass_fields__}
        lists = {name: tuple(fields[name]) for name in ("methods", "windows", "seeds")}
        return cls(**{**fields, **lists})

    @property
    def task_name(self) -> str:
        """The task as `--task` names it."""
        return f"lm-eval:{self.task_options.get('task')}" if self.task == "lm-eval" else self.task

    def default_folder(self) -> Path:
        """The folder a request goes to when none is named: the same request, the same folder."""
        return Path("runs") / f"{'+'.join(self.methods)}-{hash_json(self.record())[:8]}"


def check(request: Request) -> Request:
    """The request with defaults filled in. Raises UserError for names and numbers that cannot be."""
    for name in request.methods:
        METHODS.load(name)
    if not request.methods:
        raise UserError("no method: give --method NAME")
    for flag, given in (
        ("--method", request.methods),
        ("--window", request.windows),
        ("--seeds", request.seeds),
    ):
        _check_once(flag, given)
    request = _named_task(request)
    TASKS.load(request.task)
    if request.rows is not None and request.task not in ("embedded", "rows"):
        raise UserError(f"--rows FILE is a task of its own: leave out --task {request.task}")
    windows = request.windows or (EMBEDDED_WINDOW if request.model == "embedded" else DEFAULT_WINDOW,)
    for window in windows:
        if window < 0:
            raise UserError(f"--window is a number of tokens and cannot be negative: {window}")
        _check_window(request.methods, window)
    if request.limit is not None and request.limit < 1:
        raise UserError(f"--limit must be at least 1: {request.limit}")
    if request.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1: {request.batch_size}")
    check_timeout(request.timeout)
    _check_adapter(request)
    _check_rows(request.rows)
    task = request.task if request.rows is None else "rows"
    return replace(request, windows=windows, task=task)


def _check_once(flag: str, given: Sequence[object]) -> None:
    """Raises UserError for a value given more than once: its answers would count more than once."""
    for value, count in Counter(given).items():
        if count > 1:
            raise UserError(f"{flag} names {value} {count} times: give it once")


def _check_adapter(request: Request) -> None:
    if request.adapter is None:
        return
    trained = [name for name in request.methods if METHODS.load(name).trained]
    if not trained:
        raise UserError(f"--adapter is for trained methods: {', '.join(request.methods)} loads none")
    if len(trained) > 1:
        raise UserError(f"--adapter serves one trained method, not {', '.join(trained)}: run them one by one")


def _check_rows(rows: str | None) -> None:
    if rows is None or Path(rows).is_file():
        return
    if Path(rows).is_dir():
        raise UserError(f"{rows} is a folder: --rows takes one .json, .jsonl or .parquet file of it")
    raise UserError(f"{rows}: no such file")


def _named_task(request: Request) -> Request:
    """`--task lm-eval:NAME` is task lm-eval with NAME as its option."""
    kind, colon, name = request.task.partition(":")
    if not colon:
        return request
    return replace(request, task=kind, task_options={**request.task_options, "task": name})


def _check_window(methods: Sequence[str], window: int) -> None:
    """Raises UserError for a window that some method cannot use; 0, nothing in the prompt, is always one."""
    for name in methods:
        least = METHODS.load(name).least_window
        if 0 < window < least:
            raise UserError(f"{name} needs a window of at least {least} tokens, or 0: {window} is too small")


def execute(request: Request, out: Path, progress: Progress) -> None:
    """Run every cell of a checked request that `out` does not hold yet, in this process."""
    from deltamem_eval.executors.local import LocalExecutor

    with LocalExecutor() as executor:
        executor.execute(request, out, progress)


@dataclass(frozen=True)
class Job:
    """A checked request made ready: its task, the episodes of each seed, and its cells in order."""

    request: Request
    task: Task
    episodes: Mapping[int, Sequence[Episode]]
    cells: Sequence[Cell]

    @property
    def queries(self) -> Iterator[Query]:
        """Every question of every seed."""
        return (query for listed in self.episodes.values() for episode in listed for query in episode.queries)


def make_job(request: Request, task: Task, counter: TokenCounter) -> Job:
    """The job of a checked request.

    Raises UserError where the task gives no episode, or the same id to two episodes or questions of a seed.
    """
    task.prepare(counter)
    seeds = list(request.seeds if task.seeded else request.seeds[:1])
    episodes = {seed: list(task.episodes(seed, request.limit)) for seed in seeds}
    if not all(episodes.values()):
        raise UserError("the task gave no episode")
    for listed in episodes.values():
        _check_ids(request.task_name, "episode", (episode.id for episode in listed))
        _check_ids(request.task_name, "question", (query.id for item in listed for query in item.queries))
    grid = plan(list(request.methods), {request.task: seeds}, list(request.windows), request.controls)
    return Job(request, task, episodes, [with_adapter(cell, request) for cell in grid])


def _check_ids(task: str, kind: str, ids: Iterable[str]) -> None:
    """Raises UserError for an id that stands twice: samples are stored by it, and one would be lost."""
    for name, count in Counter(ids).items():
        if count > 1:
            raise UserError(f"task {task} gave {count} {kind}s the id {name!r}: each must have its own")


def make_task(request: Request) -> Task:
    """The task of a checked request. Raises UserError for options it does not have."""
    from deltamem_eval.methods.options import merge_options

    kind: Any = TASKS.load(request.task)
    given = dict(request.task_options)
    if request.rows is not None:
        given["path"] = request.rows
    task: Task = kind(**merge_options(request.task, kind.defaults, given))
    return task


def with_adapter(cell: Cell, request: Request) -> Cell:
    """The cell with the options its method knows, and the adapter that a trained method is to load.

    Raises UserError for an adapter that cannot be had.
    """
    kind = METHODS.load(cell.method)
    given = {name: value for name, value in request.options.items() if name in kind.defaults}
    if not kind.trained:
        return replace(cell, options=given)
    adapter = None if request.adapter is None else adapter_folder(request.adapter)
    if adapter is None and request.model == "embedded":
        from deltamem_eval.backbone import embedded_folder

        adapter = str(embedded_folder() / cell.method)
    return replace(cell, adapter=adapter, options=given)


def try_out(cells: Iterable[Cell], queries: Iterable[Query], backbone: Backbone) -> None:
    """Make each method and measure each question once, before anything is written.

    Raises UserError for a method that does not fit the backbone and for a question too long for it.
    """
    from deltamem_eval.methods.prompt import PromptBuilder

    tried = set()
    for cell in cells:
        if (cell.method, cell.window) not in tried:
            tried.add((cell.method, cell.window))
            _make_once(cell, backbone)
    prompts = PromptBuilder(backbone)
    for query in queries:
        prompts.room(query)


def _make_once(cell: Cell, backbone: Backbone) -> None:
    """Make a cell's method and take it off again; what a plug-in raises becomes a notice of the backbone's.

    Raises UserError where the method does not fit the backbone.
    """
    from deltamem_eval.answering import make_method, not_taken_off

    try:
        method = make_method(cell, backbone)
    except UserError:
        raise
    except Exception as error:  # a plug-in may raise anything; its cells will record it
        backbone.notices.append(f"{cell.method} cannot be made: {type(error).__name__}: {error}")
        return
    try:
        method.close()
    except UserError:
        raise
    except Exception as error:
        backbone.notices.append(not_taken_off(cell.method, error))
