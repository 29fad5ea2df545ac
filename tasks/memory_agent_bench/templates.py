"""The benchmark's own prompts, imported from a checkout: checking, filling, and the user's copy of them.

A source's templates are `system`, `memorize` (a chunk as a turn) and `query` (a question, by kind of agent),
all for `str.format`. None of them is part of this package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.hashing import hash_json
from deltamem_eval.tasks.memory_agent_bench.hub import CODE, own_cache
from deltamem_eval.tasks.memory_agent_bench.protocols import STAMP
from deltamem_eval.tasks.memory_agent_bench.sources import Source

IMPORT = "deltamem-eval data import-prompts CHECKOUT"
OWN = "own"
PROMPTS = {  # values of the option, and the agents whose questions they are
    OWN: "",
    "official": "long_context_agent",
    "official-rag": "rag_agent",
    "official-agentic": "agentic_memory_agent",
}

_KEYS = {  # the benchmark's names of our families of sources
    "ruler_qa": "ruler_qa",
    "longmemeval_": "longmemeval",
    "eventqa_": "eventqa",
    "icl_": "in_context_learning",
    "recsys_": "recsys_redial",
    "infbench_sum": "infbench_sum",
    "detective_": "detective_qa",
    "factconsolidation_": "factconsolidation",
}
_NEEDED = {"system": "", "memorize": "context", "query": "question"}
_FORMAT = 1
_GOLD = re.compile(r"label|answer|gold|target|truth|solution|output|keypoint", re.IGNORECASE)

Templates = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class OfficialPrompts:
    """Checked templates by the benchmark's name of a family. commit: None where it is not known."""

    templates: Templates
    commit: str | None

    @cached_property
    def hash(self) -> str:
        """Content hash of the templates alone."""
        return hash_json(self.templates)


@dataclass(frozen=True)
class Wording:
    """Official prompts as one kind of agent uses them; `name` is a key of PROMPTS."""

    prompts: OfficialPrompts
    name: str

    @property
    def system(self) -> str:
        """The message that opens every prompt, the same for all sources."""
        return str(next(iter(self.prompts.templates.values()))["system"]).format()

    def question(self, source: Source, question: str) -> str:
        """A question as its source's template puts it."""
        template: str = self._of(source)["query"][PROMPTS[self.name]]
        return template.format(question=question, time_stamp=STAMP)

    def turn(self, source: Source) -> tuple[str, str]:
        """What stands before and after a chunk in its turn; turns are joined by newlines."""
        mark = "\0"
        before, _, after = self._of(source)["memorize"].format(context=mark, time_stamp=STAMP).partition(mark)
        return before, after

    def identity(self) -> dict[str, str]:
        """What tells these prompts from others."""
        return {"name": self.name, "templates": self.prompts.hash}

    def _of(self, source: Source) -> dict[str, Any]:
        if source.prefix not in _KEYS:
            raise UserError(
                f"the benchmark has no templates for {source.prefix} sources: leave out --prompts {self.name}"
            )
        return self.prompts.templates[_KEYS[source.prefix]]


def wording_of(name: str) -> Wording | None:
    """The prompts an option names; None for our own.

    Raises UserError for an unknown name, and for official prompts that were not imported.
    """
    if name not in PROMPTS:
        raise unknown("prompts", name, PROMPTS)
    return None if name == OWN else Wording(load_prompts(name), name)


def check_templates(value: Any, where: str) -> Templates:
    """The eight families' templates out of the benchmark's dict, and nothing else of it.

    Raises UserError, naming the template, for one that is missing, lacks the field it is for, or has a field
    that nobody fills, a gold answer's above all; and for system messages that differ between families.
    """
    made: Templates = {}
    for key in _KEYS.values():
        family = _entry(value, key, dict, where)
        made[key] = {
            "system": _checked(family, "system", f"{where}: {key}"),
            "memorize": _checked(family, "memorize", f"{where}: {key}"),
            "query": _queries(family, f"{where}: {key}"),
        }
    if len({family["system"] for family in made.values()}) > 1:
        raise UserError(f"{where}: one system message is expected, but families have different ones")
    return made


def _queries(family: Mapping[str, Any], where: str) -> dict[str, str]:
    """A family's question by kind of agent."""
    given = _entry(family, "query", dict, where)
    return {
        agent: _checked(given, agent, f"{where} query", kind="query") for agent in PROMPTS.values() if agent
    }


def _entry(value: Any, key: str, kind: type, where: str) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if found is None:
        raise UserError(f"{where}: {key} is missing; a newer checkout of the benchmark may have it")
    if not isinstance(found, kind):
        wanted = "text" if kind is str else "dict of templates"
        raise UserError(f"{where}: {key} must be a {wanted}, and is {type(found).__name__}")
    return found


def _checked(family: Mapping[str, Any], key: str, where: str, kind: str = "") -> str:
    """A template with the fields its kind needs and none that nobody fills."""
    template = str(_entry(family, key, str, where))
    where, needed = f"{where} {key}", _NEEDED[kind or key]
    fields = list(_fields(template, where))
    filled = {needed, "time_stamp"} if needed else set()
    for field in fields:
        if field not in filled:
            gold = _GOLD.search(field)
            reason = "would print the gold answer into the prompt" if gold else "is a field that nobody fills"
            raise UserError(f"{where}: {{{field}}} {reason}")
    if needed and needed not in fields:
        raise UserError(f"{where}: lacks {{{needed}}}")
    if needed == "context" and fields.count(needed) > 1:
        raise UserError(f"{where}: must hold {{context}} once, not {fields.count(needed)} times")
    return template


def _fields(template: str, where: str) -> Iterator[str]:
    """The fields of a format string, as they are written."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"{where} is no format string: {error}") from None
    for _, field, specification, conversion in parts:
        if field is not None:
            yield (
                field
                + (f"!{conversion}" if conversion else "")
                + (f":{specification}" if specification else "")
            )


def prompts_file() -> Path:
    """Where the user's copy lies."""
    return own_cache() / "official_prompts.json"


def store_prompts(prompts: OfficialPrompts) -> Path:
    """Replace the user's copy; where it lies. Raises UserError where it cannot be written."""
    from deltamem_eval.files import write_atomic

    file = prompts_file()
    value = {
        "format": _FORMAT,
        "commit": prompts.commit,
        "hash": prompts.hash,
        "templates": prompts.templates,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {file}: {error.strerror or error}") from None
    return file


def load_prompts(name: str) -> OfficialPrompts:
    """The user's copy. Raises UserError where there is none or it is damaged, with the command to run."""
    file = prompts_file()
    if not file.is_file():
        raise UserError(
            f"--prompts {name} needs the benchmark's own templates: run {IMPORT}, with a checkout of {CODE}"
        )
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        prompts = OfficialPrompts(check_templates(value["templates"], str(file)), value["commit"])
        whole = value["format"] == _FORMAT and value["hash"] == prompts.hash
    except (OSError, ValueError, KeyError, TypeError, UserError):
        whole = False
    if not whole:
        raise UserError(f"{file} is damaged: run {IMPORT} again")
    return prompts
