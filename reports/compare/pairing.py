"""Which questions of two rows are the same, and in what the rows differ where they are not.

Two methods never show the same prompt, so what makes a question the same is its task, data, seed, name,
context, acceptable answers and, where runs stored it, its wording. The prompt's hash must agree as well where
nothing that was asked for explains another prompt: the same method and control at the same window, with the
same options, parts and backbone, as when two versions of the code are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.reports.compare.rows import Row
from deltamem_eval.reports.groups import Group, accuracy_of, unlike_judges
from deltamem_eval.store import Sample

_DATA = ("task", "data", "seed", "limit", "prompts")
_READING = ("method", "control", "window", "options", "parts", "weights")


@dataclass(frozen=True)
class Pair:
    """One question answered twice. cluster: its context, with task, data and seed. wording: the question as
    asked, empty where no run stored it.
    """

    cluster: str
    a: Sample
    b: Sample
    wording: str = ""

    @property
    def change(self) -> float:
        """Accuracy of b less that of a."""
        return accuracy_of(self.b) - accuracy_of(self.a)


Wordings = Mapping[tuple[str, str], str]


def unlike_data(
    a: Iterable[Mapping[str, Any]], b: Iterable[Mapping[str, Any]], sides: tuple[str, str] = ("A", "B")
) -> dict[str, str]:
    """The fields of cells' identities that decide the questions and whose values differ, as one text each."""
    values_a, values_b = _values(a), _values(b)
    return {
        name: f"{name} ({beside(_listed(values_a.get(name)), _listed(values_b.get(name)), sides)})"
        for name in {**values_a, **values_b}
        if values_a.get(name) != values_b.get(name)
    }


def beside(left: object, right: object, sides: tuple[str, str] = ("A", "B")) -> str:
    """Two values with the sides they are of."""
    return f"{left} in {sides[0]}, {right} in {sides[1]}"


def _values(identities: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Every value of every field that decides the questions; nested fields by dotted names."""
    found: dict[str, set[str]] = {}
    for identity in identities:
        plain = {name: identity.get(name) for name in _DATA}
        nested = plain.pop("data") or {}
        plain |= {f"data.{name}": value for name, value in nested.items()}
        for name, value in plain.items():
            found.setdefault(name, set()).add(str(value))
    return found


def _listed(values: set[str] | None) -> str:
    return ", ".join(sorted(values)) if values else "none"


def same_reading(a: Group, b: Group) -> bool:
    """Whether nothing that was asked for explains that the two show different prompts."""
    return all(a.setting.get(name) == b.setting.get(name) for name in _READING)


def pairs_of(a: Row, b: Row, wordings: Sequence[Wordings] = ({}, {})) -> list[Pair]:
    """The questions that both rows hold, in the order of a."""
    partners = {(scope, sample.query): sample for scope, sample in b.members}
    found = []
    for scope, sample in a.members:
        partner = partners.get((scope, sample.query))
        if partner is not None:
            key = sample.cluster, sample.query
            wording = wordings[0].get(key) or wordings[1].get(key) or ""
            found.append(Pair(f"{scope}/{sample.cluster}", sample, partner, wording))
    return found


def unlike_questions(
    a: Row,
    b: Row,
    pairs: Sequence[Pair],
    wordings: Sequence[Wordings] = ({}, {}),
    sides: tuple[str, str] = ("A", "B"),
) -> list[str]:
    """In what two rows' questions differ, as one text for each field; empty where they are the same."""
    found = [
        f"questions ({len(row.members) - len(pairs)} of {len(row.members)} only in {side})"
        for side, row in zip(sides, (a, b), strict=True)
        if len(row.members) > len(pairs)
    ]
    for field in ("cluster", "target_hash"):
        found += _counted(field, [getattr(pair.a, field) != getattr(pair.b, field) for pair in pairs])
    asked = [tuple(side.get((pair.a.cluster, pair.a.query)) for side in wordings) for pair in pairs]
    return found + _counted("question", [None not in both and both[0] != both[1] for both in asked])


def unlike_prompts(pairs: Sequence[Pair]) -> list[str]:
    """Whether prompts differ, as a text in a list; a question that failed before its prompt was made does not
    count.
    """
    hashes = [(pair.a.prompt_hash, pair.b.prompt_hash) for pair in pairs]
    return _counted("prompt_hash", ["" not in both and both[0] != both[1] for both in hashes])


def refuse_judges(
    pairs: Sequence[Pair], where: str, sides: tuple[str, str] = ("A", "B"), hint: str = ""
) -> None:
    """Raises UserError for pairs whose answers were not scored by the same judge."""
    unlike = unlike_judges(((pair.a, pair.b) for pair in pairs), sides)
    if unlike:
        raise UserError(
            f"the answers of {where} were not judged alike: {'; '.join(unlike)}; have both judged by one "
            f"judge{hint}"
        )


def _counted(field: str, differ: Sequence[bool]) -> list[str]:
    return [f"{field} ({sum(differ)} of {len(differ)} questions)"] if any(differ) else []
