"""The samples of runs, pooled by setting over seeds, and how they are broken down."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.reports.table import Cell, Column
from deltamem_eval.store import CellRecord, Sample, cell_hash, read_cells

BREAKDOWNS = {
    "task": "task",
    "category": "category",
    "source": "source",
    "associations": "associations",
    "updates": "updates",
    "context_tokens": "context tokens",
    "question_types": "question type",
    "window_share": "window / context",
}
UNJUDGED = "unjudged"
Members = list[tuple[str, Sample]]
_SETTING = ("method", "control", "window", "model", "weights", "dtype", "adapter", "options", "parts")
_IF_TOLD = ("package", "prompts")  # of the setting where a cell's identity has them; cells of before had none
_DATA = "data."  # begins the names of what a task's own identity adds, as `compare` names it
_ASKED = (  # of it, all that says how questions were asked, not which
    "protocol",
    "protocol_version",
    "prompts",
    "counted_by",
    "chunk_size",
    "input_limit",
    "buffer",
    "context",
)


@dataclass(frozen=True)
class Group:
    """All samples of one setting, over seeds, with what its cells recorded.

    setting: what `setting_of` says of each of its cells. samples: each with its task, data and seed. told:
    what must be said of the setting because another group is called the same.
    """

    setting: dict[str, Any]
    samples: tuple[tuple[str, Sample], ...]
    effective: dict[str, Any]
    told: str = ""
    runs: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The task's name, as `task_of` gives it."""
        return str(self.setting["task"])

    @property
    def method(self) -> str:
        """The method's registered name."""
        return str(self.setting["method"])

    @property
    def control(self) -> str | None:
        """The control, None for the method itself."""
        found: str | None = self.setting["control"]
        return found

    @property
    def window(self) -> int | None:
        """Context tokens in the prompt; None for as many as fit."""
        found: int | None = self.setting["window"]
        return found

    @property
    def backbone(self) -> tuple[str, str]:
        """Weights and type: lifts and differences never cross them."""
        return str(self.setting["weights"]), str(self.setting["dtype"])

    def asked_as(self, other: Group) -> bool:
        """Whether nothing that both are known to have been asked by differs: wording, protocol, limits."""
        mine, theirs = _asked(self.setting), _asked(other.setting)
        return all(theirs.get(name, value) == value for name, value in mine.items())

    @property
    def window_text(self) -> str:
        """The window as tables print it."""
        return "all that fits" if self.window is None else str(self.window)

    @property
    def label(self) -> str:
        """Method, what tells it from another of its name, and control in brackets."""
        name = str(self.effective.get("label", self.method)) + self.told
        return name if self.control is None else f"{name} [{self.control}]"


def task_of(identity: Mapping[str, Any]) -> str:
    """The name of a cell's task; lm-eval's tasks have names of their own: "lm-eval:ifeval"."""
    name = str(identity["task"])
    return f"{name}:{identity['data'].get('task')}" if name == "lm-eval" else name


def setting_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What of a cell's identity says how which task was answered: cells that share it are pooled."""
    data = identity["data"] or {}
    return {
        **{name: identity.get(name) for name in _SETTING},
        **{name: identity[name] for name in _IF_TOLD if name in identity},
        **{f"{_DATA}{name}": data[name] for name in _ASKED if name in data},
        "task": task_of(identity),
    }


def _asked(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Of a setting, how its questions were asked."""
    return {name: value for name, value in setting.items() if name == "prompts" or name.startswith(_DATA)}


def load_groups(paths: Sequence[Path]) -> tuple[list[Group], list[CellRecord]]:
    """The finished cells of runs, pooled over seeds; a cell that several runs hold counts once.

    Of a cell that was judged in one run and less, or not, in another the judged one counts. Files that did
    not change since the last call are not read again. Raises UserError where there is no finished cell, and
    where runs answered the same cell, or had it judged, differently.
    """
    groups, records = _load(tuple(paths), tuple(stamp for path in paths for stamp in _stamps(path)))
    return list(groups), list(records)


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Name, time and size of every file that a run's samples are read from."""
    files = [file for kind in ("cell.json", "*.jsonl") for file in sorted(path.glob(f"cells/*/{kind}"))]
    return [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]


@lru_cache(maxsize=2)
def _load(
    paths: tuple[Path, ...], stamps: tuple[tuple[str, int, int], ...]
) -> tuple[tuple[Group, ...], tuple[CellRecord, ...]]:
    """What `load_groups` gives; `stamps` tell one state of the files from another."""
    found: defaultdict[str, list[tuple[str, Sample]]] = defaultdict(list)
    settings: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    records: list[CellRecord] = []
    runs: defaultdict[str, list[str]] = defaultdict(list)
    for name, (path, record, samples) in _cells(paths).items():
        identity = record.identity
        setting = setting_of(identity)
        scope = f"{identity['task']}/{hash_json(identity['data'])}/{identity['seed']}"
        found[hash_json(setting)] += [(scope, sample) for sample in samples]
        settings[hash_json(setting)] = setting, record.effective
        runs[hash_json(setting)].append(f"{path.name}/{name}")
        records.append(record)
    for key, members in found.items():
        _check_once(members, str(settings[key][0]["method"]))
    if not found:
        raise UserError(f"no finished cell in {', '.join(map(str, paths))}: let the run end first")
    groups = [
        Group(setting, tuple(found[key]), effective, runs=tuple(runs[key]))
        for key, (setting, effective) in settings.items()
    ]
    return tuple(sorted(_told_apart(groups), key=_order)), tuple(records)


def _told_apart(groups: Sequence[Group]) -> list[Group]:
    """The groups, those of one name and window saying in what they differ but for their task."""
    alike: defaultdict[tuple[str, int | None], list[Group]] = defaultdict(list)
    for group in groups:
        alike[group.label, group.window].append(group)
    return [replace(group, told=_difference_of(group, alike[group.label, group.window])) for group in groups]


def _difference_of(group: Group, alike: Sequence[Group]) -> str:
    """In what a group differs from others. Two tasks are asked each in its own way: that is no difference."""
    own, others = _flat(group.setting), [(other.task, _flat(other.setting)) for other in alike]
    found = [
        f"{name}={_said(value)}"
        for name, value in own.items()
        if any(
            other.get(name) != value
            for task, other in others
            if task == group.task or not name.startswith(_DATA)
        )
    ]
    return f" ({', '.join(found)})" if found else ""


def _flat(setting: dict[str, Any]) -> dict[str, Any]:
    nested = {**(setting["options"] or {}), **(setting["parts"] or {})}
    plain = {name: value for name, value in setting.items() if name not in ("options", "parts", "task")}
    return {**plain, **nested}


def _said(value: Any) -> str:
    """A value as a label shows it; of an object its values alone."""
    return " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)


_Cell = tuple[Path, CellRecord, list[Sample]]


def _cells(paths: Sequence[Path]) -> dict[str, _Cell]:
    """The cells of runs by hash, each once, in the order in which they are met."""
    found: dict[str, _Cell] = {}
    for path in paths:
        for record, samples in read_cells(path):
            name, cell = cell_hash(record.identity), (path, record, samples)
            found[name] = _more_judged(name, found[name], cell) if name in found else cell
    return found


def _more_judged(name: str, known: _Cell, other: _Cell) -> _Cell:
    """Of two runs' same cell the one that leaves fewer answers unjudged, the first of equals."""
    first, second = (_by_question(cell[2]) for cell in (known, other))
    if {key: (one.status, one.answer) for key, one in first.items()} != {
        key: (one.status, one.answer) for key, one in second.items()
    }:
        raise UserError(f"{other[0]} answered cell {name} unlike a run before it: report them apart")
    judges = [[judge_of(side[key]) for key in first] for side in (first, second)]
    for before, now in zip(*judges, strict=True):
        if UNJUDGED not in (before, now) and before != now:
            raise UserError(
                f"{other[0]} had cell {name} judged by {now}, a run before it by {before}: report them apart"
            )
    return other if judges[1].count(UNJUDGED) < judges[0].count(UNJUDGED) else known


def _by_question(samples: Sequence[Sample]) -> dict[tuple[str, str], Sample]:
    """A cell's samples by episode and query: several workers store them in the order in which they end."""
    return {(sample.episode, sample.query): sample for sample in samples}


def _check_once(members: Members, method: str) -> None:
    """Raises UserError for a question that a setting holds twice: of other data, another limit, or a newer
    version of the task. It would count twice.
    """
    held: set[tuple[str, str, str]] = set()
    for scope, sample in members:
        task, _, seed = scope.rsplit("/", 2)
        question = task, seed, sample.query
        if question in held:
            raise UserError(
                f"{method} answered {sample.query} of task {task} (seed {seed}) twice, of other data or "
                "under another --limit or version: report the runs apart"
            )
        held.add(question)


def _order(group: Group) -> tuple[str, int, int, str, str]:
    ranks = {"closed-book": 0, "full-context": 1}
    window = -1 if group.window is None else group.window
    return group.task, ranks.get(group.control or "", 2), window, group.method, group.control or ""


def accuracy_of(sample: Sample) -> float:
    """The sample's accuracy; whatever did not end well counts as wrong."""
    return sample.metrics.get("accuracy", 0.0) if sample.status == "ok" else 0.0


def judge_of(sample: Sample) -> str | None:
    """Who scored an answer that a language model is to judge, UNJUDGED where none has; None for any other
    answer, and for what did not end well, which counts as wrong with any judge.
    """
    if sample.status != "ok":
        return None
    return UNJUDGED if sample.metrics.get("unjudged") else sample.judge


def judges_line(samples: Iterable[Sample]) -> str:
    """A sentence that names every judge of some samples, after a space; nothing where there is none."""
    judges = {judge_of(sample) for sample in samples} - {None, UNJUDGED}
    return f" Judged by {', '.join(sorted(map(str, judges)))}." if judges else ""


def unlike_judges(pairs: Iterable[tuple[Sample, Sample]], sides: tuple[str, str] = ("A", "B")) -> list[str]:
    """In what the judges of paired answers differ, as one text for each two; empty where they do not."""
    found = Counter((judge_of(a), judge_of(b)) for a, b in pairs if a.status == b.status == "ok")
    return [
        f"{a or 'no judge needed'} in {sides[0]}, {b or 'no judge needed'} in {sides[1]} ({count} questions)"
        for (a, b), count in sorted(found.items(), key=str)
        if a != b
    ]


def key_of(scope: str, sample: Sample) -> tuple[str, str]:
    return scope, sample.query


def broken_down(group: Group, by: tuple[str, ...]) -> list[tuple[tuple[str, ...], Members]]:
    """The group's samples by their values of `by`, numbers in the order of their size."""
    found: defaultdict[tuple[str | float, ...], list[tuple[str, Sample]]] = defaultdict(list)
    for scope, sample in group.samples:
        found[tuple(_value(sample, group, name) for name in by)].append((scope, sample))
    ordered = sorted(found.items(), key=lambda item: [(isinstance(part, str), part) for part in item[0]])
    return [(tuple(_text(part) for part in values), members) for values, members in ordered]


def _value(sample: Sample, group: Group, name: str) -> str | float:
    if name == "task":
        return group.task
    if name in ("category", "source"):
        return str(getattr(sample, name))
    length = sample.extras.get("context_tokens")
    if name == "window_share":
        return "–" if group.window is None or not length else group.window / length
    found = sample.extras.get(name)
    return "–" if found is None else found if isinstance(found, str) else float(found)


def tasks_of(groups: Iterable[Group]) -> list[str]:
    """Names of the tasks that groups are of."""
    return sorted({group.task for group in groups})


def with_task(groups: Iterable[Group], by: Sequence[str]) -> tuple[str, ...]:
    """A breakdown, by the task first where the groups are of several: unlike benchmarks are not pooled."""
    several = len(tasks_of(groups)) > 1 and "task" not in by
    return ("task", *by) if several else tuple(by)


def task_columns(groups: Iterable[Group]) -> tuple[Column, ...]:
    """The column that names the task, where the groups are of several."""
    return tuple(Column(name, BREAKDOWNS[name]) for name in with_task(groups, ()))


def task_cells(group: Group, groups: Iterable[Group]) -> tuple[Cell, ...]:
    """The group's cell of that column."""
    return tuple(Cell(group.task) for _ in with_task(groups, ()))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def caption_of(groups: list[Group], records: list[CellRecord]) -> str:
    """n, contexts, windows, seeds, model and limits of everything in the table."""
    questions = {key_of(scope, sample) for group in groups for scope, sample in group.samples}
    contexts = {(scope, sample.cluster) for group in groups for scope, sample in group.samples}
    seeds = sorted({record.identity["seed"] for record in records})
    windows = sorted({group.window for group in groups if group.control is None and group.window is not None})
    models = sorted({f"{record.identity['model']} ({record.identity['dtype']})" for record in records})
    limits = sorted({str(record.identity["limit"]) for record in records if record.identity["limit"]})
    tasks = "".join(f"tasks {', '.join(tasks_of(groups))}; " for _ in with_task(groups, ()))
    text = (
        f"{len(questions)} questions on {len(contexts)} contexts; {tasks}window "
        f"{', '.join(map(str, windows)) or 'none'} tokens; seeds {', '.join(map(str, seeds))}; "
        f"backbone {', '.join(models)}."
    )
    text += judges_line(sample for group in groups for _, sample in group.samples)
    return text + (f" Limited to {', '.join(limits)} episodes a category." if limits else "")


def controls_of(rows: Sequence[tuple[Cell, ...]]) -> frozenset[int]:
    """Indices of the rows whose first cell is the label of a control."""
    return frozenset(number for number, row in enumerate(rows) if str(row[0].value).endswith("]"))
