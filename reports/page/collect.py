"""From runs on disk to what the sample browser shows: settings, questions, and each setting's samples."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.exhibits import Clipped, QuestionRecord, read_contexts, read_prompts
from deltamem_eval.hashing import hash_json
from deltamem_eval.reports.groups import Group, setting_of, task_of
from deltamem_eval.store import (
    CellRecord,
    RunRecord,
    Sample,
    cell_hash,
    read_cells,
    read_run,
)

# What of a cell's identity says which questions were asked; the rest says how they were answered.
_SCOPE = ("task", "data", "seed", "limit")
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Run:
    """A run as the page names it."""

    name: str
    record: RunRecord


@dataclass(frozen=True)
class Setting:
    """One way of answering, in one run: a method or control at a window, over all its seeds.

    run: its index. key: equal for the same setting in another run. task: the task's name. about: facts for
    the reader.
    """

    run: int
    label: str
    window: str
    key: str
    task: str
    about: tuple[tuple[str, str], ...]


@dataclass
class Question:
    """A question, whatever answered it. record: its text and excerpt, None where no run stored them."""

    seed: int
    sample: Sample
    record: QuestionRecord | None = None


@dataclass(frozen=True)
class Block:
    """The samples of one cell. questions: their indices; prompts: by query, as `read_prompts` gives them."""

    setting: int
    questions: list[int]
    samples: list[Sample]
    prompts: Mapping[str, Clipped | None]


@dataclass
class Collected:
    """All that runs hold for the sample browser."""

    runs: list[Run] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


def collect(paths: Sequence[Path]) -> Collected:
    """Everything in the finished cells of runs, settings in the order in which tables list them.

    Raises UserError for a folder that is no run, a damaged one, and runs without a finished cell.
    """
    found = Collected()
    cells: list[tuple[int, CellRecord, list[Sample]]] = []
    for index, path in enumerate(paths):
        found.runs.append(Run(path.resolve().name, read_run(path)))
        cells += [(index, record, _in_order(samples)) for record, samples in read_cells(path)]
    if paths and not cells:
        raise UserError(f"no finished cell in {', '.join(map(str, paths))}: let the run end first")
    cells.sort(key=lambda cell: _order(cell[0], cell[1].identity))
    known: dict[tuple[str, ...], int] = {}
    texts = [read_contexts(path) for path in paths]
    for index, record, samples in cells:
        prompts = read_prompts(paths[index] / "cells" / cell_hash(record.identity))
        questions = [_question(found, known, record.identity, sample) for sample in samples]
        for number, sample in zip(questions, samples, strict=True):
            question = found.questions[number]
            question.record = question.record or texts[index].get((sample.cluster, sample.query))
        found.blocks.append(Block(_setting(found, index, record), questions, samples, prompts))
    return found


def _in_order(samples: Sequence[Sample]) -> list[Sample]:
    """Samples as their questions are numbered, episode by episode: they are stored as they are answered."""
    places = {name: place for place, name in enumerate(dict.fromkeys(sample.episode for sample in samples))}
    return sorted(samples, key=lambda sample: (places[sample.episode], _numbered(sample.query)))


def _numbered(name: str) -> list[Any]:
    """A name with its numbers as such, so that q9 comes before q10."""
    return [int(part) if index % 2 else part for index, part in enumerate(_NUMBER.split(name))]


def _order(run: int, identity: Mapping[str, Any]) -> tuple[int, int, str, str, int, int]:
    """Controls of the backbone alone first, then by window, method, control; runs and seeds within."""
    control, window = identity["control"], identity["window"]
    alone = {"closed-book": 0, "full-context": 1}.get(control, 2)
    size = -1 if window is None else window
    return alone, size, identity["method"], control or "", run, identity["seed"]


def _setting(found: Collected, run: int, record: CellRecord) -> int:
    """Index of the cell's setting, added where it is new."""
    how = {name: value for name, value in record.identity.items() if name not in _SCOPE}
    how |= setting_of(record.identity)  # with what the task says of how it asks
    group = Group(record.identity, (), record.effective)
    setting = Setting(
        run,
        group.label,
        group.window_text,
        hash_json(how),
        task_of(record.identity),
        tuple(_about(record)),
    )
    own = run, setting.key, setting.task
    alike = (index for index, other in enumerate(found.settings) if (other.run, other.key, other.task) == own)
    index = next(alike, len(found.settings))
    if index == len(found.settings):
        found.settings.append(setting)
    return index


def _about(record: CellRecord) -> Iterator[tuple[str, str]]:
    """What a reader may ask about a setting, as name and text."""
    identity, effective = record.identity, record.effective
    yield "backbone", f"{identity['model']} ({identity['dtype']})"
    overhead = effective.get("overhead", {})
    if overhead.get("trainable") is not None:
        yield "added parameters", f"{overhead['trainable']:,} trained, {overhead['stored']:,} stored"
    for name in ("adapter", "options", "parts"):
        if identity.get(name):
            yield name, as_text(identity[name])
    for name in ("device", "batch_size", "notices"):
        if effective.get(name):
            yield name.replace("_", " "), as_text(effective[name])


def as_text(value: Any) -> str:
    """A JSON value for a reader."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={as_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _question(
    found: Collected, known: dict[tuple[str, ...], int], identity: Mapping[str, Any], sample: Sample
) -> int:
    """Index of the sample's question, added where it is new: two runs may have asked the same one."""
    seed = identity["seed"]
    scope = f"{identity['task']}/{hash_json(identity['data'])}/{seed}"
    key = (scope, sample.cluster, sample.query, sample.target_hash)
    if key not in known:
        known[key] = len(found.questions)
        found.questions.append(Question(seed, sample))
    return known[key]


def pools(found: Collected) -> list[tuple[str, list[int]]]:
    """What can be compared, by name: each setting, and settings of several runs of one task that share no
    question.

    A pooled setting stands before its parts.
    """
    asked: defaultdict[int, list[int]] = defaultdict(list)
    for block in found.blocks:
        asked[block.setting] += block.questions
    alike: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, setting in enumerate(found.settings):
        alike[setting.key, setting.task].append(index)
    made: list[tuple[str, list[int]]] = []
    for members in alike.values():
        every = [question for index in members for question in asked[index]]
        if len(members) > 1 and len(set(every)) == len(every):
            made.append((f"{name_of(found, members[0], '')} · {len(members)} runs", members))
        made += [(name_of(found, index), [index]) for index in members]
    return made


def name_of(found: Collected, index: int, run: str | None = None) -> str:
    """A setting's whole name; with its run's, or the one given, where there are several."""
    setting = found.settings[index]
    window = setting.window if setting.window == "all that fits" else f"window {setting.window}"
    run = found.runs[setting.run].name if run is None and len(found.runs) > 1 else run
    return " · ".join(part for part in (setting.label, window, run) if part)
