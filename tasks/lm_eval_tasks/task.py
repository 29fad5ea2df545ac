"""An lm-eval task, by name, as cells of our grid: its prompts and its scores, our methods and records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.hashing import hash_json, hash_text
from deltamem_eval.interface import Chunk, Episode, Query, Task
from deltamem_eval.lm_eval_bridge.split import Splitter
from deltamem_eval.tasks.memory_agent_bench.protocols import split_context

_FEWSHOT_SEED = 1234  # lm-eval's own, for our seed 0


@dataclass(frozen=True)
class _Request:
    """One request of an lm-eval task: its task, its document, and the instance that holds the prompt."""

    task: Any
    instance: Any


class LmEvalTask(Task):
    """A task or group of lm-eval whose answers are generated, run with our methods and stored as our records.

    Options. task: lm-eval's name for it. include_path: a folder of YAML tasks, searched instead of lm-eval's
    own. Each request is cut into context and question by the rule `auto` of the lm-eval bridge: at the end of
    the document's own `context` where the prompt holds it, else at the last blank line, so that few-shot
    examples are context too. Documents in a row with one context are one episode, which is written once.
    `accuracy` is the first metric of lm-eval's `process_results`, after the task's first filter. The seed
    draws the few-shot examples (seed 0 draws lm-eval's); limit counts documents a task.
    """

    name: ClassVar[str] = "lm-eval"
    summary: ClassVar[str] = "any generate_until task of lm-eval, by its name"
    defaults: ClassVar[Mapping[str, Any]] = {"task": "", "include_path": ""}

    def __init__(self, task: str = "", include_path: str = "") -> None:
        from deltamem_eval.lm_eval_bridge import require_lm_eval

        require_lm_eval()
        if not task:
            raise UserError("task lm-eval needs the name of one of lm-eval's tasks: give --task lm-eval:NAME")
        self._name = task
        self._tasks = _load(task, include_path)
        self._split = Splitter("auto")
        self._requests: dict[str, _Request] = {}

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """Documents with the same context, in a row, as one episode; at most `limit` documents a task."""
        for name, task in sorted(self._tasks.items()):
            task.set_fewshot_seed(_FEWSHOT_SEED + seed)
            task.build_all_requests(limit=limit)
            made = [self._request(name, task, instance) for instance in task.instances]
            for index, (context, group) in enumerate(groupby(made, key=lambda item: item[0])):
                chunks = tuple(Chunk(text, place) for place, text in enumerate(split_context(context)))
                queries = tuple(query for _, query in group)
                yield Episode(f"{name}/{index}", self._name, name, chunks, queries)

    def _request(self, name: str, task: Any, instance: Any) -> tuple[str, Query]:
        """A request's context, and its question as a query; the request is kept for scoring."""
        from deltamem_eval.lm_eval_bridge.model import answer_budget
        from deltamem_eval.lm_eval_bridge.texts import stops_of

        text, given = instance.args
        parts = self._split.split(text, instance.doc)
        key = f"{name}/{instance.doc_id}"
        self._requests[key] = _Request(task, instance)
        query = Query(
            id=key,
            prompt=parts.question,
            targets=_targets(task, instance.doc),
            max_new_tokens=answer_budget(given),
            stop=stops_of(given.get("until")),
            metadata={"source": self._name},
        )
        return parts.context, query

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """The task's own metrics of one answer. Raises UserError where the first is not a number in 0..1."""
        request = self._requests[query.id]
        found = _scored(request, answer)
        metrics = {name: float(value) for name, value in found.items() if _is_share(value)}
        first = next(iter(found), None)
        if first is None or first not in metrics:
            raise UserError(
                f"lm-eval task {self._name}: its first metric {first!r} is no number in 0..1 for one answer, "
                "but an aggregate over all"
            )
        if request.task.higher_is_better().get(first) is False:
            raise UserError(f"lm-eval task {self._name}: its first metric {first!r} is better when lower")
        return {**metrics, "accuracy": metrics[first]}

    def identity(self) -> dict[str, Any]:
        """Versions of lm-eval and of the task, and hashes of its settings and of every document."""
        from importlib.metadata import version

        return {
            "lm_eval": version("lm_eval"),
            "task": self._name,
            "versions": {name: str(task.VERSION) for name, task in sorted(self._tasks.items())},
            "settings": {name: _settings_hash(task) for name, task in sorted(self._tasks.items())},
            "documents": {name: _documents_hash(task) for name, task in sorted(self._tasks.items())},
        }


def _load(name: str, include_path: str) -> dict[str, Any]:
    """lm-eval's tasks of a name, checked. Raises UserError for an unknown name or another output type."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include_path or None, include_defaults=not include_path)
    if name not in manager.all_tasks:
        raise unknown("lm-eval task", name, manager.all_tasks)
    try:
        tasks: dict[str, Any] = manager.load([name])["tasks"]
    except (OSError, ValueError, ImportError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"lm-eval task {name} cannot be loaded: {type(error).__name__}: {first}") from error
    for found, task in tasks.items():
        if task.OUTPUT_TYPE != "generate_until":
            raise UserError(
                f"lm-eval task {found} is of output type {task.OUTPUT_TYPE}; only generate_until runs here "
                f"(the others run by: deltamem-eval lm-eval --tasks {found})"
            )
        if task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
    return tasks


def _targets(task: Any, doc: Mapping[str, Any]) -> tuple[str, ...]:
    """Acceptable answers as texts."""
    found = task.doc_to_target(doc)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)


def _scored(request: _Request, answer: str) -> dict[str, Any]:
    """What the task's process_results says of an answer that went through its first filter."""
    instance = request.instance
    instance.resps, instance.filtered_resps = [answer], {}
    for item in request.task._filters:
        item.apply([instance])
    filtered = next(iter(instance.filtered_resps.values()))
    found: dict[str, Any] = request.task.process_results(instance.doc, [filtered])
    return found


def _is_share(value: Any) -> bool:
    return hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0 and 0 <= float(value) <= 1


def _settings_hash(task: Any) -> str:
    """Hash of a task's configuration; functions count by their source, paths not at all."""
    config = {name: value for name, value in task.dump_config().items() if name != "metadata"}
    return hash_text(json.dumps(config, sort_keys=True, default=str))


def _documents_hash(task: Any) -> str:
    return hash_json([hash_text(json.dumps(doc, sort_keys=True, default=str)) for doc in task.eval_docs])
