"""Runs on disk whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from deltamem_eval.schema import FOLDER
from deltamem_eval.store import RunStore, Sample

SCHEMA_OF = {
    "run.json": "run",
    "cell.json": "cell",
    "profile.json": "profile",
    "contexts.jsonl": "context",
    "samples.jsonl": "sample",
    "prompts.jsonl": "prompt",
    "notices.jsonl": "notice",
    "verdicts.jsonl": "verdict",
    "points.jsonl": "point",
}


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


def assert_published(folder: Path, *expected: str) -> None:
    """Every file of a run or a profile holds to its published schema; those expected are among them."""
    seen = set()
    for file in sorted(folder.rglob("*.json*")):
        name = "trace" if file.parent.name == "traces" else SCHEMA_OF.get(file.name)
        if name is None:
            continue
        seen.add(name)
        schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        text = file.read_text(encoding="utf-8")
        for record in text.splitlines() if file.suffix == ".jsonl" else [text]:
            jsonschema.validate(json.loads(record), schema)
    assert set(expected) <= seen
