"""An lm-eval task, by name, as cells of our grid: its prompts and its scores, our methods and records."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, ClassVar

from deltamem_eval.errors import UnavailableError, UserError, unknown
from deltamem_eval.hashing import hash_json, hash_text
from deltamem_eval.interface import Answer, Chunk, Episode, Query, Task, TokenCounter
from deltamem_eval.lm_eval_bridge.mistakes import in_a_line
from deltamem_eval.lm_eval_bridge.split import Splitter
from deltamem_eval.tasks.lm_eval_tasks import choices
from deltamem_eval.tasks.memory_agent_bench.protocols import split_context

_FEWSHOT_SEED = 1234  # lm-eval's own, for our seed 0
_LOOK = "; look at its YAML and at the functions it names"
_RESOURCES = {"ifeval": "tokenizers/punkt_tab"}  # what scoring reads besides the task's documents


@dataclass(frozen=True)
class _Request:
    """A document's requests of an lm-eval task: one, or one a choice. instances: they hold the prompts."""

    task: Any
    instances: Sequence[Any]


class LmEvalTask(Task):
    """A task or group of lm-eval, run with our methods and stored as our records.

    Answers are generated; of a multiple_choice task the likeliest choice is the answer, each choice being
    measured after the prompt and the memory that the method would answer from.

    Options. task: lm-eval's name for it. include_path: a folder of YAML tasks, searched instead of lm-eval's
    own. split: a rule of the lm-eval bridge by which each request is cut into context and question; `auto`
    cuts at the end of the document's own `context` where the prompt holds it, else at the last blank line, so
    that few-shot examples are context too, and `none` leaves no context. filter: the name of the task's
    filter that answers go through, its first one where empty. max_new_tokens: the answer's budget in tokens;
    0, the default, is the task's own, and lm-eval's 256 where it names none; where there are choices nothing
    is generated. Documents in a row with one context are one episode, which is written once. `accuracy` is
    the first metric of lm-eval's `process_results`. The seed draws the few-shot examples (seed 0 draws
    lm-eval's); limit counts documents a task. Raises UserError for a task that is not there, cannot be loaded
    or is of another output type.
    """

    name: ClassVar[str] = "lm-eval"
    summary: ClassVar[str] = "any generate_until or multiple_choice task of lm-eval, by its name"
    defaults: ClassVar[Mapping[str, Any]] = {
        "task": "",
        "include_path": "",
        "split": "auto",
        "filter": "",
        "max_new_tokens": 0,
    }

    def __init__(
        self,
        task: str = "",
        include_path: str = "",
        split: str = "auto",
        filter: str = "",  # noqa: A002 - lm-eval's word for it
        max_new_tokens: int = 0,
    ) -> None:
        from deltamem_eval.lm_eval_bridge import require_lm_eval

        require_lm_eval()
        if not task:
            raise UserError("task lm-eval needs the name of one of lm-eval's tasks: give --task lm-eval:NAME")
        if type(max_new_tokens) is not int or max_new_tokens < 0:
            raise UserError(
                "option max_new_tokens of lm-eval is a whole number of tokens, or 0 for the task's own, not "
                f"{max_new_tokens!r}"
            )
        self._budget = max_new_tokens
        self._name = task
        self._split = Splitter(split)
        self._tasks = _load(task, include_path)
        self._filter = filter
        for found in self._tasks.values():
            _filter_of(found, filter)
        if max_new_tokens and all(found.OUTPUT_TYPE == choices.OUTPUT_TYPE for found in self._tasks.values()):
            raise UserError(
                f"option max_new_tokens has no effect on lm-eval task {task}: its choices are measured, "
                "nothing is generated"
            )
        self._requests: dict[str, _Request] = {}
        self._length: Callable[[str], int] = len

    def prepare(self, backbone: TokenCounter) -> None:
        """Choices are measured in the backbone's tokens."""
        self._length = backbone.length

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """Documents with the same context, in a row, as one episode; at most `limit` documents a task.

        Raises UserError where a task's YAML or functions do not fit its documents.
        """
        for name, task in sorted(self._tasks.items()):
            with in_a_line(f"requests of lm-eval task {name} cannot be built", _LOOK):
                task.set_fewshot_seed(_FEWSHOT_SEED + seed)
                task.build_all_requests(limit=limit)
                groups = groupby(task.instances, key=lambda instance: instance.doc_id)
                made = [self._request(name, task, list(group)) for _, group in groups]
            for index, (context, group) in enumerate(groupby(made, key=lambda item: item[0])):
                chunks = tuple(Chunk(text, place) for place, text in enumerate(split_context(context)))
                queries = tuple(query for _, query in group)
                yield Episode(f"{name}/{index}", self._name, name, chunks, queries)

    def _request(self, name: str, task: Any, instances: Sequence[Any]) -> tuple[str, Query]:
        """A document's context, and its question as a query; the requests are kept for scoring."""
        parts = [self._split.split(instance.args[0], instance.doc) for instance in instances]
        key = f"{name}/{instances[0].doc_id}"
        self._requests[key] = _Request(task, instances)
        prompts = [part.question for part in parts]
        if task.OUTPUT_TYPE == choices.OUTPUT_TYPE:
            query = self._choice(key, task, instances, prompts)
        else:
            query = self._question(key, task, instances[0], prompts[0])
        return choices.shared_context(task, [part.context for part in parts]), query

    def _question(self, key: str, task: Any, instance: Any, prompt: str) -> Query:
        """A question whose answer is generated. Raises UserError where the task would have it sampled."""
        from deltamem_eval.lm_eval_bridge.model import answer_budget
        from deltamem_eval.lm_eval_bridge.texts import stops_of

        given = instance.args[1]
        own = answer_budget(given)  # refuses sampling, whatever the budget
        return Query(
            id=key,
            prompt=prompt,
            targets=_targets(task, instance.doc),
            max_new_tokens=self._budget or own,
            stop=stops_of(given.get("until")),
            metadata={"source": self._name},
        )

    def _choice(self, key: str, task: Any, instances: Sequence[Any], prompts: Sequence[str]) -> Query:
        """A question with choices, which has room beside it for the longest."""
        return Query(
            id=key,
            prompt=max(prompts, key=len),
            targets=choices.targets(task, instances[0].doc),
            max_new_tokens=max(self._length(instance.args[1]) for instance in instances),
            metadata={"source": self._name, **choices.metadata(task, instances, prompts)},
        )

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """The task's own metrics of one answer, without white space around it; of a choice by its text alone
        the accuracy.

        Raises UserError where the first is not a number in 0..1.
        """
        if "choices" in query.metadata:
            return {"accuracy": float(answer.strip() in query.targets)}
        return self._metrics(query, [answer.strip()])

    def score_answer(self, query: Query, answer: Answer) -> dict[str, float]:
        """As `score`; of a choice the task's own metrics, from the log-probabilities of all choices."""
        if answer.choices:
            return self._metrics(query, answer.choices)
        return self.score(query, answer.text)

    def _metrics(self, query: Query, replies: Sequence[Any]) -> dict[str, float]:
        request = self._requests[query.id]
        found = _scored(request, replies, self._filter)
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
        """Versions of lm-eval and of the task, hashes of its settings and of every document, and options."""
        from importlib.metadata import version

        options = {"split": self._split.rule, "filter": self._filter, "max_new_tokens": self._budget}
        return {
            **{name: value for name, value in options.items() if value != self.defaults[name]},
            "lm_eval": version("lm_eval"),
            "task": self._name,
            "versions": {name: str(task.VERSION) for name, task in sorted(self._tasks.items())},
            "settings": {name: _settings_hash(task) for name, task in sorted(self._tasks.items())},
            "documents": {name: _documents_hash(task) for name, task in sorted(self._tasks.items())},
        }


def _load(name: str, include_path: str) -> dict[str, Any]:
    """lm-eval's tasks of a name, checked.

    Raises UserError for an unknown name, another output type, or YAML that does not fit the task's documents
    and functions, UnavailableError where their data or the packages and data that their scores need are not
    to be had.
    """
    manager = _manager(include_path)
    if name not in manager.all_tasks:
        raise unknown("lm-eval task", name, manager.all_tasks)
    _check_resource(name)
    with in_a_line(f"lm-eval task {name} cannot be loaded", _LOOK):
        tasks = _loaded(manager, name)
    for found, task in tasks.items():
        if task.OUTPUT_TYPE not in ("generate_until", choices.OUTPUT_TYPE):
            raise UserError(
                f"lm-eval task {found} is of output type {task.OUTPUT_TYPE}; generate_until and "
                f"{choices.OUTPUT_TYPE} run here (the others by: deltamem-eval lm-eval --tasks {found})"
            )
        choices.check(task)
        if task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
    return tasks


def _loaded(manager: Any, name: str) -> dict[str, Any]:
    """lm-eval's tasks of a name. Raises UnavailableError where data or packages are not to be had."""
    try:
        with redirect_stdout(sys.stderr), _seeded():
            tasks: dict[str, Any] = manager.load([name])["tasks"]
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"lm-eval task {name} needs the module {error.name}: pip install {_package_of(name, error)}"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UnavailableError(
            f"lm-eval task {name} cannot be loaded: {type(error).__name__}: {first}; its data must be in the "
            "local cache or to be had online"
        ) from error
    return tasks


@cache
def _manager(include_path: str) -> Any:
    """lm-eval's index of tasks; making it takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include_path or None, include_defaults=not include_path)


@contextmanager
def _seeded() -> Iterator[None]:
    """Random numbers as lm-eval's evaluator seeds them: tasks that shuffle choices draw from Python's."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


def _package_of(name: str, error: ModuleNotFoundError) -> str:
    """What pip must be given: lm-eval's own extra for the task, where it has one."""
    from importlib.metadata import metadata

    extras = metadata("lm_eval").get_all("Provides-Extra") or []
    return f"'lm-eval[{name}]'" if name in extras else str(error.name)


def _check_resource(name: str) -> None:
    """Raises UnavailableError where a task's scores need data of nltk that are absent.

    lm-eval would try to download them while it loads the task, and go on without them.
    """
    if name in _RESOURCES:
        import nltk

        try:
            nltk.data.find(_RESOURCES[name])
        except LookupError:
            short = _RESOURCES[name].rpartition("/")[2]
            raise UnavailableError(
                f"lm-eval task {name} needs nltk's {short}: python -m nltk.downloader {short}"
            ) from None


def _filter_of(task: Any, name: str) -> Any:
    """A task's filter of a name, its first one for an empty name. Raises UserError for an unknown one."""
    filters = {item.name: item for item in task._filters}
    if name and name not in filters:
        raise unknown(f"filter of lm-eval task {task.config.task}", name, filters)
    return filters[name] if name else task._filters[0]


def _targets(task: Any, doc: Mapping[str, Any]) -> tuple[str, ...]:
    """Acceptable answers as texts."""
    found = task.doc_to_target(doc)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)


def _scored(request: _Request, replies: Sequence[Any], name: str) -> dict[str, Any]:
    """What the task's process_results says of replies that went through its filter of that name.

    replies: one text, or the log-probability of each choice and whether greedy decoding gives it.
    """
    instances = request.instances
    for instance, reply in zip(instances, replies, strict=True):
        instance.resps, instance.filtered_resps = [reply], {}
    _filter_of(request.task, name).apply(instances)
    filtered = [next(iter(instance.filtered_resps.values())) for instance in instances]
    found: dict[str, Any] = request.task.process_results(instances[0].doc, filtered)
    return found


def _is_share(value: Any) -> bool:
    return hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0 and 0 <= float(value) <= 1


def _settings_hash(task: Any) -> str:
    """Hash of a task's configuration; functions count by their source, paths not at all."""
    config = {name: value for name, value in task.dump_config().items() if name != "metadata"}
    return hash_text(json.dumps(config, sort_keys=True, default=str))


def _documents_hash(task: Any) -> str:
    return hash_json([hash_text(json.dumps(doc, sort_keys=True, default=str)) for doc in task.eval_docs])
