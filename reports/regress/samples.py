"""The questions behind a tracked table, one file beside it: scores, digests of prompts, costs; no answers.

JSON lines: what it is and which runs it came from; each task, data and seed with its contexts and questions;
each setting on each of these, its numbers in the order of the questions. Nothing measured in seconds is kept,
so that another run of the same code gives the same bytes but for its own provenance.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.reports.groups import UNJUDGED, Group, accuracy_of, judge_of, task_of
from deltamem_eval.store import CellRecord, RunRecord, Sample
from pydantic import BaseModel, ConfigDict, ValidationError

VERSION = 1
_ATTRIBUTES = ("category", "source")  # breakdowns that samples hold as fields of their own
_SCOPE_LINE = '{"contexts":'  # keys are sorted, and only a scope begins so
Line = TypeVar("Line", bound=BaseModel)


class Header(BaseModel):
    """The first line. by: the table's breakdown. runs: `run.json` of every run the table pools."""

    kind: Literal["deltamem-eval baseline"] = "deltamem-eval baseline"
    schema_version: int = VERSION
    by: list[str]
    runs: list[RunRecord]


class Context(BaseModel):
    """One episode: its context and its questions in order. extras: of each question, what breakdowns need."""

    episode: str
    source: str
    category: str
    cluster: str
    queries: list[str]
    targets: list[str]
    extras: list[dict[str, Any]] = []


class Scope(BaseModel):
    """One task, data and seed. prompts: version of the prompts' wording."""

    model_config = ConfigDict(extra="forbid")
    scope: str
    task: str
    data: dict[str, Any]
    seed: int
    limit: int | None
    prompts: int | None
    contexts: list[Context]


class Setting(BaseModel):
    """One setting's numbers on one scope: by context and question, or by context alone (digests, bytes).

    setting: but for the task, which the scope names. judges: by question, as `judge_of`, where not None.
    """

    model_config = ConfigDict(extra="forbid")
    scope: str
    setting: dict[str, Any]
    effective: dict[str, Any]
    told: str = ""
    scores: list[list[float]]
    statuses: dict[str, str] = {}
    judges: dict[str, str] = {}
    prompts: list[str]
    prompt_tokens: list[list[int]]
    memory_bytes: list[int]


@dataclass(frozen=True)
class Stored:
    """A samples file as it was read: groups whose samples hold what it keeps and no more."""

    header: Header
    scopes: tuple[Scope, ...]
    groups: tuple[Group, ...]


def with_context_prompts(groups: Iterable[Group]) -> list[Group]:
    """The groups with every prompt hash replaced by the digest of its context's prompts, as stored here.

    A context on which some question has no prompt, having failed before, has none.
    """
    made = []
    for group in groups:
        found = _by_context(group.samples)
        digests = {place: _digest(samples) for place, samples in found.items()}
        samples = tuple(
            (scope, sample.model_copy(update={"prompt_hash": digests[scope, sample.episode]}))
            for scope, sample in group.samples
        )
        made.append(replace(group, samples=samples))
    return made


def _by_context(members: Iterable[tuple[str, Sample]]) -> dict[tuple[str, str], list[Sample]]:
    found: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    for scope, sample in members:
        found[scope, sample.episode].append(sample)
    return {place: sorted(samples, key=lambda sample: sample.query) for place, samples in found.items()}


def _digest(samples: Sequence[Sample]) -> str:
    hashes = [sample.prompt_hash for sample in samples]
    return "" if "" in hashes else hash_json(hashes)


def samples_text(
    groups: Sequence[Group], cells: Sequence[CellRecord], runs: Sequence[RunRecord], by: Sequence[str]
) -> str:
    """The file's text. Raises UserError where a setting lacks questions that another one answered."""
    scopes = _scopes(groups, cells, by)
    lines: list[BaseModel] = [Header(by=list(by), runs=list(runs)), *scopes.values()]
    for group in groups:
        by_scope: defaultdict[str, dict[str, list[Sample]]] = defaultdict(dict)
        for (scope, episode), samples in _by_context(group.samples).items():
            by_scope[scope][episode] = samples
        lines += [_setting(group, scopes[scope], by_scope[scope]) for scope in sorted(by_scope)]
    return "".join(_line(line) for line in lines)


def _line(line: BaseModel) -> str:
    plain = line.model_dump(mode="json", exclude_defaults=not isinstance(line, Header))
    return json.dumps(_short(plain), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def _short(value: Any) -> Any:
    """Whole numbers without their point, which most scores are."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_short(item) for item in value]
    return {name: _short(item) for name, item in value.items()} if isinstance(value, dict) else value


def _scopes(groups: Sequence[Group], cells: Sequence[CellRecord], by: Sequence[str]) -> dict[str, Scope]:
    """Every task, data and seed with all questions that any group answered there, by name."""
    asked: dict[tuple[str, str], list[Sample]] = {}
    for group in groups:
        for place, samples in _by_context(group.samples).items():
            if len(samples) > len(asked.get(place, ())):
                asked[place] = samples
    extras = ["context_tokens" if name == "window_share" else name for name in by if name not in _ATTRIBUTES]
    made = {}
    for cell in sorted(cells, key=lambda cell: str(cell.identity["seed"])):
        name = scope_of(cell.identity)
        contexts = [
            _context(samples, extras) for (scope, _), samples in sorted(asked.items()) if scope == name
        ]
        made[name] = Scope.model_validate({**_asked(cell.identity), "scope": name, "contexts": contexts})
    return {name: made[name] for name in sorted(made)}


def _asked(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {field: identity.get(field) for field in ("task", "data", "seed", "limit", "prompts")}


def scope_of(identity: Mapping[str, Any]) -> str:
    """How groups name a cell's task, data and seed."""
    return f"{identity['task']}/{hash_json(identity['data'])}/{identity['seed']}"


def _context(samples: Sequence[Sample], extras: Sequence[str]) -> Context:
    first = samples[0]
    return Context(
        episode=first.episode,
        source=first.source,
        category=first.category,
        cluster=first.cluster,
        queries=[sample.query for sample in samples],
        targets=[sample.target_hash for sample in samples],
        extras=[{name: sample.extras.get(name) for name in extras} for sample in samples] if extras else [],
    )


def _setting(group: Group, scope: Scope, found: Mapping[str, list[Sample]]) -> Setting:
    held = [found.get(context.episode, []) for context in scope.contexts]
    lacking = sum(
        len(context.queries) - len(samples) for context, samples in zip(scope.contexts, held, strict=True)
    )
    if lacking:
        raise UserError(
            f"{group.label}, window {group.window_text}, lacks {lacking} questions of seed {scope.seed} that "
            "others answered: a baseline is made of whole runs"
        )
    return Setting(
        scope=scope.scope,
        setting={name: value for name, value in group.setting.items() if name != "task"},
        effective={name: group.effective[name] for name in ("label", "overhead") if name in group.effective},
        told=group.told,
        scores=[[accuracy_of(sample) for sample in samples] for samples in held],
        statuses={
            sample.query: sample.status for samples in held for sample in samples if sample.status != "ok"
        },
        judges={sample.query: judge for samples in held for sample in samples if (judge := judge_of(sample))},
        prompts=[_digest(samples) for samples in held],
        prompt_tokens=[[sample.prompt_tokens for sample in samples] for samples in held],
        memory_bytes=[
            max((sum(sample.memory_bytes.values()) for sample in samples if sample.status == "ok"), default=0)
            for samples in held
        ],
    )


def read_stored(file: Path) -> Stored:
    """A samples file. Raises UserError for one that cannot be read, is damaged, or is of a newer schema."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not lines:
        raise UserError(f"{file} is empty: make it again by --update")
    header = _parsed(Header, lines[0], file)
    if header.schema_version > VERSION:
        raise UserError(
            f"{file} has schema version {header.schema_version}, newer than {VERSION}: update deltamem-eval"
        )
    scopes: dict[str, Scope] = {}
    joined: dict[str, Group] = {}
    for line in lines[1:]:
        if line.startswith(_SCOPE_LINE):
            scope = _parsed(Scope, line, file)
            scopes[scope.scope] = scope
            continue
        setting = _parsed(Setting, line, file)
        try:
            samples = _samples(scopes[setting.scope], setting)
        except (KeyError, ValueError):
            raise UserError(f"{file} is damaged: the numbers of {setting.scope} do not fit it") from None
        scope = scopes[setting.scope]
        own = {**setting.setting, "task": task_of({"task": scope.task, "data": scope.data})}
        key = hash_json(own)
        group = joined.get(key, Group(own, (), setting.effective, setting.told))
        joined[key] = replace(group, samples=group.samples + samples)
    return Stored(header, tuple(scopes.values()), tuple(joined.values()))


def _parsed(kind: type[Line], line: str, file: Path) -> Line:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file} is damaged: {where} {first['msg']}") from None


def _samples(scope: Scope, setting: Setting) -> tuple[tuple[str, Sample], ...]:
    """The setting's samples, as far as the file keeps them."""
    columns = zip(
        scope.contexts,
        setting.scores,
        setting.prompts,
        setting.prompt_tokens,
        setting.memory_bytes,
        strict=True,
    )
    found = []
    for context, scores, prompt, tokens, held in columns:
        extras = context.extras or [{}] * len(context.queries)
        for query, target, score, count, more in zip(
            context.queries, context.targets, scores, tokens, extras, strict=True
        ):
            judge = setting.judges.get(query)
            sample = Sample(
                episode=context.episode,
                query=query,
                source=context.source,
                category=context.category,
                cluster=context.cluster,
                status=setting.statuses.get(query, "ok"),
                targets=[],
                metrics={"accuracy": score} | ({"unjudged": 1.0} if judge == UNJUDGED else {}),
                prompt_hash=prompt,
                target_hash=target,
                prompt_tokens=count,
                memory_bytes={"stored": held},
                extras=more,
            )
            found.append((scope.scope, sample.with_judge(judge)))
    return tuple(found)
