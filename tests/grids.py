"""Runs of methods × windows × seeds on two categories, each score known: for what compares runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deltamem_eval.hashing import hash_text
from deltamem_eval.store import Sample

from stored import sample, write_run

CATEGORIES = ("accurate-retrieval", "selective-forgetting")
Score = Callable[[str, str, int], float]


def question(method: str, category: str, seed: int, number: int, each: int, score: float) -> Sample:
    """One answered question, `each` of them to a context."""
    context = f"{category}/{seed}/{number // each}"
    return sample(
        number,
        False,
        episode=context,
        query=f"{context}/q{number % each}",
        source=f"source of {category}",
        category=category,
        cluster=hash_text(context),
        answer=f"{method} says {score}",
        targets=[f"t{number}"],
        metrics={"accuracy": score},
        prompt_hash=hash_text(f"{method}/{context}/{number}"),
        target_hash=hash_text(f"t{number}"),
        prompt_tokens=20 + number % each,
        memory_bytes={"state": 1000},
        write_seconds=0.5,
        answer_seconds=0.1,
    )


def make_run(
    folder: Path,
    score: Score,
    *,
    methods: Sequence[str] = ("vanilla", "token-write"),
    windows: Sequence[int] = (64,),
    seeds: Sequence[int] = (0,),
    contexts: int = 12,
    each: int = 3,
    finish: bool = True,
    added: int = 25,
    change: Callable[[Sample], Sample] = lambda sample: sample,
    arrange: Callable[[list[Sample]], list[Sample]] = lambda samples: samples,
    **identity: Any,
) -> Path:
    """A run without controls.

    score: of (method, category, number of the question). finish: whether its last cell ended. change,
    arrange: applied to every sample and to the list of a cell's. identity: fields of the cells' identities.
    """
    cells = []
    for seed in seeds:
        for window in windows:
            for method in methods:
                samples = [
                    change(question(method, category, seed, number, each, score(method, category, number)))
                    for category in CATEGORIES
                    for number in range(contexts * each)
                ]
                cell = {"method": method, "window": window, "seed": seed, "prompts": 1, **identity}
                overhead = {"trainable": added, "stored": added, "backbone": 1000}
                effective = {"label": method, "overhead": overhead}
                cells.append(({**cell, "effective": effective}, arrange(samples)))
    request = {
        "methods": list(methods),
        "task": "embedded",
        "seeds": list(seeds),
        "windows": list(windows),
        "controls": False,
    }
    write_run(folder, cells, request)
    if not finish:
        (_folder_of(folder, methods[-1], windows[-1], seeds[-1]) / "cell.json").unlink()
    return folder


def _folder_of(run: Path, method: str, window: int, seed: int) -> Path:
    """A finished cell's folder."""
    for file in run.glob("cells/*/cell.json"):
        identity = json.loads(file.read_text())["identity"]
        if (identity["method"], identity["window"], identity["seed"]) == (method, window, seed):
            return file.parent
    raise LookupError(method)


def halves(method: str, category: str, number: int) -> float:
    """Every second question right, whatever the method."""
    return float(number % 2 == 0)
