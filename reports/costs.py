"""What answers cost, over those that ended well: one that failed holds zeros for what it never spent."""

from __future__ import annotations

from collections import defaultdict

from deltamem_eval.reports.groups import Members
from deltamem_eval.store import Sample


def answered(members: Members) -> list[Sample]:
    """The samples that ended well."""
    return [sample for _, sample in members if sample.status == "ok"]


def written(members: Members) -> list[Sample]:
    """Of each context one sample that ended well; none of a context that has none."""
    return list(
        {(scope, sample.cluster): sample for scope, sample in members if sample.status == "ok"}.values()
    )


def held(members: Members) -> list[float]:
    """Bytes of memory of each context, the most that any of its questions that ended well recorded."""
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for scope, sample in members:
        if sample.status == "ok":
            place = scope, sample.cluster
            found[place] = max(found[place], float(sum(sample.memory_bytes.values())))
    return list(found.values())
