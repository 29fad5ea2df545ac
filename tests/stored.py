"""Runs on disk whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deltamem_eval.store import RunStore, Sample


def sample(number: int, right: bool, **more: Any) -> Sample:
    """Question `number`; two of them share a context."""
    context = number // 2
    fields: dict[str, Any] = {
        "episode": f"e{context}",
        "query": f"e{context}/q{number}",
        "source": "embedded_codes",
        "category": "accurate-retrieval",
        "cluster": f"c{context}",
        "status": "ok",
        "targets": ["x"],
        "metrics": {"accuracy": float(right)},
        "target_hash": "t",
        "prompt_tokens": 10,
        "memory_bytes": {"state": 100},
    }
    return Sample(**(fields | more))


def write_run(
    folder: Path, cells: list[tuple[dict[str, Any], list[Sample]]], request: dict[str, Any] | None = None
) -> Path:
    """A run with a finished cell for each identity (merged into a plain one) and its samples."""
    store = RunStore.open(folder, request or {}, {})
    for identity, samples in cells:
        plain = {
            "method": "vanilla",
            "control": None,
            "task": "embedded",
            "data": {"generator": 1},
            "weights": "w",
            "model": "tiny",
            "dtype": "float32",
            "window": 8,
            "seed": 0,
            "limit": None,
        }
        effective = {"overhead": {"trainable": 25, "stored": 30, "backbone": 1000}} | identity.pop(
            "effective", {}
        )
        place = store.cell(plain | identity)
        place.append(samples)
        place.finish(effective)
    store.close()
    return folder


def stored_samples(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Every sample by cell and question, without what is measured; fails where a question stands twice."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in run.glob("cells/*/samples.jsonl"):
        for line in file.read_text().splitlines():
            sample = json.loads(line)
            key = (file.parent.name, sample["query"])
            assert key not in found
            found[key] = {name: value for name, value in sample.items() if not name.endswith("_seconds")}
    return found
