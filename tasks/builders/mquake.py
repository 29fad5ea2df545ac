"""Rows of FactConsolidation made from MQuAKE cases: numbered facts, the newer with the larger serial.

A case (Zhong et al. 2023) is a chain of facts, rewrites of some of them, and the chain that follows from the
rewrites. Contexts hold both chains; a question's answer is what the newest facts say. Aliases are left out as
in MemoryAgentBench: some are two letters long and stand in almost any reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.common import EMPTY, Built, Settings, listed, read_json
from deltamem_eval.tasks.memory_agent_bench.rows import Row

BUILDER_VERSION = 1
_FULL = 0.9  # share of the budget from which on a context has the budget's size
_FREE = 0.3  # share of single-hop questions with nothing to resolve; 21 to 35 % in the benchmark's rows
_SIZES = {32_768: "32k", 65_536: "64k"}  # the benchmark's names of budgets that are not their thousands
HEADER = "Here is a list of facts:\n"
_ODD = "without a question, or with a new chain that lacks a rewrite or does not end at the new answer"


@dataclass(frozen=True)
class Hop:
    """One fact: its statement up to the value, the value, and the question that asks for it."""

    slot: str
    value: str
    question: str


@dataclass(frozen=True)
class Case:
    """old: the chain before the rewrites; new: after; questions: wordings of one multi-hop question."""

    questions: tuple[str, ...]
    answer: str
    old: tuple[Hop, ...]
    new: tuple[Hop, ...]


@dataclass
class World:
    """What a context says. earlier: each slot's values before the last; final: the values cases rest on."""

    earlier: dict[str, list[str]] = field(default_factory=dict)
    final: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)

    def agrees(self, case: Case) -> bool:
        """Whether no earlier case rests on another value of a slot in the case's new chain."""
        return all(self.final.get(hop.slot, hop.value) == hop.value for hop in case.new)

    def unsaid(self, case: Case) -> list[str]:
        """The statements the case would add, without full stops."""
        known = {(slot, value) for slot in self.earlier for value in self.history(slot)}
        added = {(hop.slot, hop.value) for hop in (*case.old, *case.new)} - known
        return [f"{slot} {value}" for slot, value in sorted(added)]

    def add(self, case: Case) -> None:
        """Take a case in."""
        for hop in case.old:
            values = self.earlier.setdefault(hop.slot, [])
            if hop.value not in values:
                values.append(hop.value)
        for hop in case.new:
            self.earlier.setdefault(hop.slot, [])
            self.final[hop.slot] = hop.value
        self.asked |= {hop.slot: hop.question for hop in (*case.old, *case.new)}
        self.cases.append(case)

    def history(self, slot: str) -> list[str]:
        """A slot's values, each once, the newest last."""
        final = self.final.get(slot)
        values = [value for value in self.earlier[slot] if value != final]
        return values if final is None else [*values, final]


@dataclass(frozen=True)
class _Asked:
    question: str
    answer: str
    evidence: tuple[str, ...]
    updates: int


@dataclass(frozen=True)
class _Draft:
    context: str
    single: list[_Asked]
    multi: list[_Asked]
    unfit: int


def factconsolidation(paths: Sequence[Path], settings: Settings) -> Built:
    """A single-hop and a multi-hop row a seed over one context; see the module's text.

    Sources `factconsolidation_sh_{size}` and `_mh_{size}`, size in thousands of tokens as the benchmark names
    them (65,536 are 64k, 262,144 are 262k): the budget, or what the cases fill where they do not reach it.
    Raises UserError for files of another form, a budget that holds no case, or too few questions.
    """
    cases, notes = _read(paths)
    drafts = [_draft(cases, settings, seed) for seed in settings.seeds]
    used = min(settings.count(draft.context) for draft in drafts)
    full = used > _FULL * settings.tokens
    size = size_name(settings.tokens if full else used)
    rows = []
    for seed, draft in zip(settings.seeds, drafts, strict=True):
        for hops, asked in (("sh", draft.single), ("mh", draft.multi)):
            rows.append(_row(f"factconsolidation_{hops}_{size}", draft.context, asked, settings, seed))
    if unfit := max(draft.unfit for draft in drafts):
        notes.append(f"up to {unfit} cases a row left out: they contradict others")
    if not full:
        notes.append(f"all cases together fill {used} of {settings.tokens} tokens")
    return Built(rows, notes)


def size_name(tokens: int) -> str:
    """What a source of so many tokens is called."""
    return _SIZES.get(tokens, f"{max(1, tokens // 1000)}k")


def _draft(cases: Sequence[Case], settings: Settings, seed: int) -> _Draft:
    rng = Random(f"factconsolidation/{BUILDER_VERSION}/{seed}")
    world, unfit = _world(rng.sample(cases, len(cases)), settings)
    context, lines = _context(world, rng)
    # A tokenizer may take the whole otherwise than its lines.
    while (over := settings.count(context) - settings.tokens) > 0:
        if len(world.cases) == 1:
            raise UserError(f"{settings.tokens} tokens hold no case of MQuAKE: raise --tokens")
        drop = max(1, over * len(world.cases) // (2 * settings.tokens))
        world = _rebuilt(world.cases[: max(1, len(world.cases) - drop)])
        context, lines = _context(world, rng)
    single = _single(world, lines, settings.questions, rng)
    return _Draft(context, single, _multi(world, lines, rng), unfit)


def _read(paths: Sequence[Path]) -> tuple[list[Case], list[str]]:
    """The cases of all files that rows can be made of, and a note of how many others there are, if any.

    Raises UserError where there are none, or for a file of another form.
    """
    found = [case for path in listed(paths) if path.suffix == ".json" for case in _cases(path)]
    cases = [case for case in found if case is not None]
    odd = len(found) - len(cases)
    notes = [f"{odd} of {len(found)} cases left out: {_ODD}"] if odd else []
    if not cases:
        told = "".join(f" ({note})" for note in notes)
        raise UserError(f"--source gives no MQuAKE cases: a .json file that holds a list of them{told}")
    return cases, notes


def _cases(file: Path) -> Iterator[Case | None]:
    """A file's cases in order, None for one that no rows can be made of (see _ODD)."""
    value = read_json(file)
    if not isinstance(value, list) or not value:
        raise UserError(f"{file} must hold a list of MQuAKE cases")
    for number, item in enumerate(value):
        try:
            old, new = (tuple(map(_hop, item[name])) for name in ("single_hops", "new_single_hops"))
            questions = tuple(str(text) for text in item["questions"])
            answer = str(item["new_answer"]).strip()
            rewrites = {_rewrite(edit) for edit in item["requested_rewrite"]}
        except (KeyError, TypeError, AttributeError, IndexError):
            raise UserError(
                f"{file} case {number}: lacks requested_rewrite, questions, single_hops, new_single_hops or "
                "new_answer, or holds them in another form"
            ) from None
        fits = new and new[-1].value == answer and rewrites <= {(hop.slot, hop.value) for hop in new}
        yield Case(questions, answer, old, new) if questions and fits else None


def _hop(item: Mapping[str, Any]) -> Hop:
    return Hop(str(item["cloze"]).strip(), str(item["answer"]).strip(), str(item["question"]).strip())


def _rewrite(edit: Mapping[str, Any]) -> tuple[str, str]:
    """A rewrite's slot and value, as `_hop` has them."""
    slot = str(edit["prompt"]).replace("{}", str(edit["subject"])).strip()
    return slot, str(edit["target_new"]["str"]).strip()


def _world(order: Sequence[Case], settings: Settings) -> tuple[World, int]:
    """Cases in order up to the budget, and how many were passed over since they contradict others."""
    world = World()
    left = serial = 0
    used = settings.count(HEADER)
    for case in order:
        if not world.agrees(case):
            left += 1
            continue
        lines = [f"{serial + n}. {text}.\n" for n, text in enumerate(world.unsaid(case))]
        used += sum(settings.count(line) for line in lines)
        if used > settings.tokens:
            break
        serial += len(lines)
        world.add(case)
    if not world.cases:
        raise UserError(f"{settings.tokens} tokens hold no case of MQuAKE: raise --tokens")
    return world, left


def _rebuilt(cases: Sequence[Case]) -> World:
    world = World()
    for case in cases:
        world.add(case)
    return world


def _context(world: World, rng: Random) -> tuple[str, dict[str, str]]:
    """The context, and each slot's newest line; slots are mixed, each one's values in their order."""
    histories = {slot: world.history(slot) for slot in world.earlier}
    order = [slot for slot, values in histories.items() for _ in values]
    rng.shuffle(order)
    told = dict.fromkeys(histories, 0)
    newest: dict[str, str] = {}
    lines = []
    for serial, slot in enumerate(order):
        newest[slot] = f"{serial}. {slot} {histories[slot][told[slot]]}."
        told[slot] += 1
        lines.append(newest[slot])
    return HEADER + "".join(f"{line}\n" for line in lines), newest


def _single(world: World, lines: Mapping[str, str], count: int, rng: Random) -> list[_Asked]:
    """Questions of a slot each, shuffled: of the first `count`, 30 % about slots of one value, as far as
    there are enough of both kinds. Wordings that ask for two slots at once are left out.
    """
    slots: dict[str, list[str]] = {}
    for slot, question in world.asked.items():
        slots.setdefault(question, []).append(slot)
    pool = [
        _Asked(question, world.history(slot)[-1], (lines[slot],), len(world.history(slot)) - 1)
        for question, (slot, *others) in slots.items()
        if not others
    ]
    rng.shuffle(pool)
    free = [item for item in pool if not item.updates]
    updated = [item for item in pool if item.updates]
    wanted = round(_FREE * count)
    first = updated[: count - wanted] + free[:wanted]
    rest = updated[count - wanted :] + free[wanted:]
    first += rest[: max(0, count - len(first))]
    rng.shuffle(first)
    return first


def _multi(world: World, lines: Mapping[str, str], rng: Random) -> list[_Asked]:
    """Each case's wordings, the first of every case before any second, cases and wordings shuffled."""
    shuffled = [(case, rng.sample(case.questions, len(case.questions))) for case in world.cases]
    made: dict[str, _Asked] = {}
    for turn in range(max(len(wordings) for _, wordings in shuffled)):
        for case, wordings in shuffled:
            if turn < len(wordings):
                evidence = tuple(lines[hop.slot] for hop in case.new)
                updates = sum(len(world.history(hop.slot)) - 1 for hop in case.new)
                made.setdefault(wordings[turn], _Asked(wordings[turn], case.answer, evidence, updates))
    return list(made.values())


def _row(source: str, context: str, asked: list[_Asked], settings: Settings, seed: int) -> Row:
    count = settings.questions
    if len(asked) < count:
        raise UserError(
            f"{source}: {count} questions asked for, but the facts of {settings.tokens} tokens give "
            f"{len(asked)}: raise --tokens, lower --questions, or give more cases"
        )
    asked = asked[:count]
    facts = context.count("\n") - 1
    return {
        "context": context,
        "questions": [item.question for item in asked],
        "answers": [[item.answer] for item in asked],
        "metadata": {
            **dict.fromkeys(EMPTY),
            "source": source,
            "qa_pair_ids": [f"{source}_no{index}" for index in range(count)],
            "evidence": [list(item.evidence) for item in asked],
            "associations": [facts] * count,
            "updates": [item.updates for item in asked],
            "seed": seed,
        },
    }
