"""Numbers that the δ-mem paper prints (arXiv 2605.12357v1), for a column beside ours."""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import NamedTuple


class PrintedParameters(NamedTuple):
    """Added parameters, as a number, and as a share of the backbone; both as rounded by the paper."""

    added: float
    share: float


BACKBONE = "Qwen/Qwen3-4B-Instruct-2507"


def printed() -> dict[tuple[str, str, str], float]:
    """`results/paper.csv`: (backbone, method, measure) to the number as printed, in its printed unit.

    Measures of tables 1 and 2 are percentages; `trainable_millions` and `percent_of_backbone` are figure 4's.
    """
    text = (files("deltamem_eval.results") / "paper.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(row["backbone"], row["method"], row["measure"]): float(row["value"]) for row in rows}


def _parameters() -> dict[str, PrintedParameters]:
    numbers = printed()
    return {
        method: PrintedParameters(
            round(value * 1e6), round(numbers[backbone, method, "percent_of_backbone"] / 100, 6)
        )
        for (backbone, method, measure), value in numbers.items()
        if measure == "trainable_millions"
    }


# Figure 4: trainable parameters on Qwen3-4B-Instruct.
PARAMETERS = _parameters()
