"""δ-mem's inside while it writes one episode: the gate and the state's norm after every write, a layer each.

The episode is written again with what the run recorded. Each layer's memory is stepped through its writes one
at a time beside the real forward, which then does its own, chunked, work undisturbed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from deltamem_eval.cells import Cell
from deltamem_eval.errors import UserError, unknown
from deltamem_eval.files import write_atomic
from deltamem_eval.hashing import hash_text
from deltamem_eval.registry import METHODS
from deltamem_eval.store import CellRecord, Sample, cell_hash, read_cells, read_run
from pydantic import BaseModel, FiniteFloat, ValidationError, model_validator

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.interface import Episode, MemoryMethod, Task
    from deltamem_eval.methods.delta_mem.hooks import Attachment
    from deltamem_eval.methods.delta_mem.memory import LayerMemory
    from deltamem_eval.session import Request
    from torch import Tensor, nn

TRACE_VERSION = 1
FOLDER = "traces"
_DIGITS = 6


class TraceRecord(BaseModel):
    """One trace: what was traced, and one number a layer and write.

    cell: hash of the run's cell that the episode and the adapter are of. unit: what writes once, a token or a
    message (or the part of one that fits a forward). layers: paths of the adapted attention modules. texts:
    of the writes, in order. beta: the write gate, mean over state rows and heads, [layer][write]. norm: the
    Frobenius norm of the layer's state after the write, all state heads together, [layer][write].
    """

    schema_version: int = TRACE_VERSION
    method: str
    episode: str
    cell: str
    model: str
    unit: Literal["token", "message"]
    rank: int
    state_heads: int
    layers: list[str]
    texts: list[str]
    beta: list[list[FiniteFloat]]
    norm: list[list[FiniteFloat]]

    @model_validator(mode="after")
    def _whole(self) -> TraceRecord:
        for numbers in (self.beta, self.norm):
            if [len(row) for row in numbers] != [len(self.texts)] * len(self.layers):
                raise ValueError("a trace needs one number for each layer and write")
        return self


def read_trace(file: Path) -> TraceRecord:
    """A stored trace. Raises UserError for a file that is none, or one of a newer version."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        found = TraceRecord.model_validate(value)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise UserError(f"{file} is no trace: {error.errors()[0]['msg']}") from None
    except ValueError:
        raise UserError(f"{file} is no trace: it is not JSON") from None
    if found.schema_version > TRACE_VERSION:
        raise UserError(
            f"{file} has version {found.schema_version}, newer than {TRACE_VERSION}: update deltamem-eval"
        )
    return found


def record_trace(run: Path, episode: str) -> list[Path]:
    """Trace an episode through every δ-mem method of a run; the files, `traces/<method>-<episode>.json`.

    A trace of the same cell that is there already is kept. Raises UserError, writing nothing, for a run
    without a δ-mem method, an episode that it did not hold, and a model, adapter or context that is no longer
    the run's.
    """
    wanted = _wanted(run, episode)
    files = {item.method: run / FOLDER / _file_name(item.method, episode) for item in wanted}
    missing = [item for item in wanted if not _is_there(files[item.method], item)]
    if missing:
        made = _trace_all(run, missing)
        try:
            (run / FOLDER).mkdir(exist_ok=True)
            for record in made:
                write_atomic(files[record.method], record.model_dump_json() + "\n")
        except OSError as error:
            raise UserError(f"cannot write to {run / FOLDER}: {error.strerror or error}") from None
    return [files[item.method] for item in wanted]


class _Wanted(NamedTuple):
    """A cell of the run, and the episode in it that is to be traced. cluster: content hash of its context."""

    identity: Mapping[str, Any]
    episode: str
    cluster: str

    @property
    def method(self) -> str:
        return str(self.identity["method"])

    @property
    def cell(self) -> str:
        return cell_hash(self.identity)


def _wanted(run: Path, episode: str) -> list[_Wanted]:
    """One cell a δ-mem method, in the order of the run's methods: what a memory holds is the same at every
    window, so the first window serves.
    """
    asked = [str(name) for name in read_run(run).request["methods"]]
    traced = [name for name in asked if is_delta_mem(name)]
    if not traced:
        raise UserError(f"{run} has no δ-mem method to trace: it ran {', '.join(asked)}")
    found: dict[str, _Wanted] = {}
    known: set[str] = set()
    for record, samples in sorted(read_cells(run), key=_by_seed_and_window):
        identity = record.identity
        if identity["method"] not in traced or identity["control"] is not None:
            continue
        clusters = {sample.episode: sample.cluster for sample in samples}
        known |= clusters.keys()
        if episode in clusters:
            found.setdefault(identity["method"], _Wanted(identity, episode, clusters[episode]))
    if not known:
        raise UserError(f"no finished cell of {', '.join(traced)} in {run}: let the run end first")
    if not found:
        raise unknown("episode", episode, known)
    return [found[name] for name in traced if name in found]


def _by_seed_and_window(item: tuple[CellRecord, list[Sample]]) -> tuple[int, float]:
    window = item[0].identity["window"]
    return int(item[0].identity["seed"]), float("inf") if window is None else float(window)


def is_delta_mem(name: str) -> bool:
    """Whether a registered method is one of δ-mem's; False for a plug-in that is not installed here."""
    from deltamem_eval.methods.delta_mem.method import DeltaMem

    try:
        return issubclass(METHODS.load(name), DeltaMem)
    except UserError:
        return False


def _file_name(method: str, episode: str) -> str:
    return f"{method}-{re.sub(r'[^0-9A-Za-z_.]+', '-', episode)}.json"


def _is_there(file: Path, wanted: _Wanted) -> bool:
    """Whether a file holds this very trace."""
    try:
        found = read_trace(file)
    except UserError:
        return False
    return (found.cell, found.episode) == (wanted.cell, wanted.episode)


def _trace_all(run: Path, wanted: Sequence[_Wanted]) -> list[TraceRecord]:
    """Load the run's model once and write the episode with each method."""
    from deltamem_eval.answering import make_method
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.session import make_task, with_adapter
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    request = _request_of(run)
    task = make_task(request)
    backbone = load_backbone(request.model, "auto", str(wanted[0].identity["dtype"]))
    task.prepare(backbone)
    backbone.system = task.system
    made = []
    for item in wanted:
        identity = item.identity
        cell = with_adapter(Cell(item.method, request.task, identity["seed"], identity["window"]), request)
        adapter = None if cell.adapter is None else METHODS.load(item.method).adapter_hash(cell.adapter)
        for name, now in (("weights", backbone.identity), ("adapter", adapter)):
            if now != identity[name]:
                raise UserError(
                    f"{run} ran {item.method} with other {name}: they were {identity[name]}, are {now}"
                )
        episode = _episode_of(run, task, item)
        method = make_method(cell, backbone)
        try:
            writes = watch_writes(method, backbone, episode)
        finally:
            method.close()
        told: dict[str, Any] = {
            "method": item.method,
            "episode": item.episode,
            "cell": item.cell,
            "model": request.model,
        }
        made.append(TraceRecord(**told, **writes._asdict()))
    return made


def _request_of(run: Path) -> Request:
    from deltamem_eval.session import Request

    return Request.from_record(read_run(run).request)


def _episode_of(run: Path, task: Task, wanted: _Wanted) -> Episode:
    """The episode as the run held it, made again from its data."""
    for episode in task.episodes(wanted.identity["seed"], wanted.identity["limit"]):
        if episode.id == wanted.episode:
            if hash_text(episode.context) != wanted.cluster:
                raise UserError(f"{run} read another context as {episode.id}: its data have changed since")
            return episode
    raise UserError(f"{run} held {wanted.episode}, which is no longer in its data")


class Writes(NamedTuple):
    """What `TraceRecord` holds of a method's writes."""

    unit: str
    rank: int
    state_heads: int
    layers: list[str]
    texts: list[str]
    beta: list[list[float]]
    norm: list[list[float]]


def watch_writes(method: MemoryMethod, backbone: Backbone, episode: Episode) -> Writes:
    """Write an episode's context with a δ-mem method on `backbone`, noting every layer's gate and state.

    Numbers are rounded to six decimals. The method's memory is what writing alone would have left.
    """
    from deltamem_eval.methods.delta_mem.hooks import attachment_of

    attachment = attachment_of(backbone.model)
    texts: list[str] = []
    notes = {path: _Notes([], []) for path in attachment.memories}
    with ExitStack() as stack:
        decoder = backbone.model.get_decoder()
        note = partial(_note_texts, attachment, backbone, texts)
        stack.callback(decoder.register_forward_pre_hook(note, with_kwargs=True).remove)
        for path, memory in attachment.memories.items():
            watch = partial(_note_writes, attachment, memory, notes[path])
            # Before δ-mem's own hook: the state is then still the one from before the forward.
            handle = backbone.model.get_submodule(path).register_forward_pre_hook(
                watch, with_kwargs=True, prepend=True
            )
            stack.callback(handle.remove)
        method.reset()
        for chunk in episode.chunks:
            method.write(chunk)
        method.footprint()  # what was still pending is written
    config = attachment.config
    unit = "token" if config.memory_write_granularity == "token" else "message"
    beta, norm = ([note[part] for note in notes.values()] for part in (0, 1))
    return Writes(unit, config.rank, config.num_state_heads, list(notes), texts, beta, norm)


class _Notes(NamedTuple):
    """One layer's numbers, one a write."""

    beta: list[float]
    norm: list[float]


def _note_texts(
    attachment: Attachment,
    backbone: Backbone,
    texts: list[str],
    _: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Keep the text of every write of a forward."""
    if not attachment.write:
        return
    ids = (kwargs["input_ids"] if "input_ids" in kwargs else args[0])[0].tolist()
    if attachment.config.memory_write_granularity == "token":
        texts += [backbone.decode([token]) for token in ids]
        return
    assert attachment.segments is not None
    messages = attachment.segments[0].tolist()
    for message in sorted({number for number in messages if number >= 0}):
        texts.append(
            backbone.decode([token for token, of in zip(ids, messages, strict=True) if of == message])
        )


def _note_writes(
    attachment: Attachment,
    memory: LayerMemory,
    notes: _Notes,
    _: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Step the memory through a forward's writes one at a time, then put its state back."""
    from deltamem_eval.methods.delta_mem.memory import message_means
    from torch.nn.functional import linear

    if not attachment.write:
        return
    x: Tensor = (kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]).float()
    if memory.config.memory_write_granularity != "token":
        assert attachment.segments is not None
        x, _present = message_means(x, attachment.segments, None)
    before = memory.state
    for index in range(x.shape[1]):
        memory.step(x[:, index : index + 1], None, None, True)
        assert memory.state is not None
        notes.norm.append(round(float(memory.state.norm()), _DIGITS))
    memory.state = before
    gates = linear(x, memory.beta_proj, memory.beta_bias).sigmoid().mean(-1)
    notes.beta.extend(round(gate, _DIGITS) for gate in gates[0].tolist())
