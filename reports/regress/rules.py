"""What counts as a regression: rules, each on one metric, from a TOML file or by default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from deltamem_eval.errors import UserError
from deltamem_eval.reports.table import Kind
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Metric = Literal[
    "accuracy",
    "not_ok",
    "prompts",
    "added_parameters",
    "memory_bytes",
    "prompt_tokens",
    "write_seconds",
    "answer_seconds",
    "ratio",
    "target",
    "median",
]
BENCH_METRICS: tuple[Metric, ...] = ("ratio", "target", "median")  # of a table of ratios, and of no other
_MORE_IS_BETTER: tuple[Metric, ...] = ("accuracy", "ratio", "median")  # a median as a rate
KINDS: Mapping[Metric, Kind] = {
    "accuracy": "percent",
    "not_ok": "count",
    "prompts": "count",
    "added_parameters": "count",
    "memory_bytes": "bytes",
    "prompt_tokens": "count",
    "write_seconds": "seconds",
    "answer_seconds": "seconds",
    "ratio": "ratio",
    "target": "ratio",
    "median": "ratio",
}


class Rule(BaseModel):
    """One condition under which a row is worse than its baseline.

    statistical: accuracy fell by at least `least` (0 to 1) with p < `alpha`, two-sided, by Holm over the rows
    in which anything differs. absolute: worse by more than `limit`, in the metric's own unit (accuracy: 0 to
    1). relative: worse by more than `limit` times the baseline. exact: any change, either way. More is better
    of accuracy, ratio and of a median that is a rate. prompts is the number of contexts on which a question's
    prompt changed; target, how far a ratio is below the one promised, whatever the baseline.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    metric: Metric
    kind: Literal["statistical", "absolute", "relative", "exact"]
    limit: float | None = Field(default=None, ge=0)
    alpha: float = Field(default=0.01, gt=0, lt=1)
    least: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        if self.kind == "statistical" and self.metric != "accuracy":
            raise ValueError("a statistical rule is for accuracy alone")
        if self.metric == "prompts" and self.kind != "exact":
            raise ValueError("a rule on prompts is an exact one")
        if (self.metric, self.kind) in (("median", "absolute"), ("median", "exact")):
            raise ValueError("a rule on a median is a relative one")
        if self.metric == "target" and self.kind != "absolute":
            raise ValueError("a rule on the target is an absolute one")
        if (self.kind in ("absolute", "relative")) != (self.limit is not None):
            raise ValueError("absolute and relative rules have a limit, the others none")
        if self.kind != "statistical" and {"alpha", "least"} & self.model_fields_set:
            raise ValueError("alpha and least belong to statistical rules")
        if self.metric == "accuracy" and max(self.limit or 0.0, self.least) >= 1:
            raise ValueError(
                "no fall is so large: limit and least are shares, not points (3 points are 0.03)"
            )
        if self.metric in _MORE_IS_BETTER and self.kind == "relative" and (self.limit or 0.0) >= 1:
            raise ValueError("no fall is so large: a relative limit is a share, not points (30 % are 0.3)")
        return self


class Rules(BaseModel):
    """Every rule, and the controls that are gated like a method; other controls are only shown."""

    model_config = ConfigDict(extra="forbid")
    controls: list[Literal["closed-book", "full-context", "wrong-memory"]] = ["full-context"]
    rule: list[Rule] = Field(min_length=1)


BENCH_DEFAULTS = Rules(
    rule=[
        Rule(metric="ratio", kind="relative", limit=0.3),
        Rule(metric="target", kind="absolute", limit=0),
    ]
)
DEFAULTS = Rules(
    rule=[
        Rule(metric="accuracy", kind="statistical", alpha=0.01, least=0.01),
        Rule(metric="accuracy", kind="absolute", limit=0.03),
        Rule(metric="not_ok", kind="absolute", limit=0),
        Rule(metric="prompts", kind="exact"),
        Rule(metric="added_parameters", kind="exact"),
        Rule(metric="memory_bytes", kind="relative", limit=0.01),
        Rule(metric="prompt_tokens", kind="relative", limit=0.01),
    ]
)


def read_rules(file: Path | None, *, bench: bool = False) -> Rules:
    """The rules of a TOML file, in place of all the default ones. bench: for a table of ratios.

    Raises UserError for what is none, and for a rule on a metric that the other kind of table has.
    """
    if file is None:
        return BENCH_DEFAULTS if bench else DEFAULTS
    try:
        rules = Rules.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file}: {where or 'rules'}: {first['msg'].removeprefix('Value error, ')}") from None
    other = [rule.metric for rule in rules.rule if (rule.metric in BENCH_METRICS) != bench]
    if other:
        table = "a table of ratios" if bench else "a table of `report`"
        raise UserError(f"{file}: {table} has no {other[0]} to hold to a rule")
    return rules
