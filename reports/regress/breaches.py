"""Which rules a row breaks, each told in one line."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.reports.compare.difference import Difference
from deltamem_eval.reports.regress.facts import Facts
from deltamem_eval.reports.regress.rules import KINDS, Metric, Rule
from deltamem_eval.reports.table import Cell, Kind, show

_ROUNDING = 1e-9  # sums of floats may differ by so much without anything being worse
_WITHOUT_QUESTIONS = ("added_parameters",)  # metrics that do not depend on which questions were asked


def breaches(
    rules: Sequence[Rule], difference: Difference, before: Facts, after: Facts, *, same_questions: bool
) -> list[str]:
    """What each broken rule found, most telling first.

    difference: the run less the baseline, its p-value adjusted. same_questions: whether both numbers are of
    the same questions; where they are not, only what does not depend on them is held to a bound.
    """
    found = []
    for rule in rules:
        if rule.kind == "statistical":
            text = _statistical(rule, difference)
        elif rule.metric == "prompts":
            text = _prompts(difference)
        elif same_questions or rule.metric in _WITHOUT_QUESTIONS:
            text = _bounded(rule, before.get(rule.metric), after.get(rule.metric))
        else:
            text = None
        if text is not None:
            found.append(text)
    return found


def _statistical(rule: Rule, difference: Difference) -> str | None:
    loss = -difference.change
    if loss <= 0 or loss < rule.least - _ROUNDING or difference.adjusted >= rule.alpha:
        return None
    p = show(Cell(difference.adjusted), "probability")
    return f"{_moved('accuracy', difference.a, difference.b)}, p {_sign(p)} by {difference.p.test}, Holm"


def _sign(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _prompts(difference: Difference) -> str | None:
    contexts = {pair.cluster for pair in difference.pairs}
    changed = {
        pair.cluster
        for pair in difference.pairs
        if "" not in (pair.a.prompt_hash, pair.b.prompt_hash) and pair.a.prompt_hash != pair.b.prompt_hash
    }
    return f"prompts changed on {len(changed)} of {len(contexts)} contexts" if changed else None


def _bounded(rule: Rule, before: float | None, after: float | None) -> str | None:
    """A rule on one number of either side; what the baseline does not know is not held to anything."""
    if before is None:
        return None
    if after is None:
        return f"{rule.metric} is no longer known, was {show(Cell(before), KINDS[rule.metric])}"
    worse = before - after if rule.metric == "accuracy" else after - before
    if rule.kind == "exact":
        return _moved(rule.metric, before, after) if abs(worse) > _ROUNDING else None
    bound = (rule.limit or 0.0) * (abs(before) if rule.kind == "relative" else 1.0)
    if worse <= bound + _ROUNDING:
        return None
    return f"{_moved(rule.metric, before, after)}, more than {_limit(rule)} worse"


def _moved(metric: Metric, before: float, after: float) -> str:
    unit = " %" if metric == "accuracy" else ""
    left, right = (show(Cell(value), KINDS[metric]) for value in (before, after))
    return f"{metric} {left}{unit} → {right}{unit}"


def _limit(rule: Rule) -> str:
    if rule.kind == "relative":
        return f"{100 * (rule.limit or 0.0):g} %"
    kind: Kind = KINDS[rule.metric]
    if kind == "percent":
        return f"{100 * (rule.limit or 0.0):g} points"
    return show(Cell(rule.limit), kind)
