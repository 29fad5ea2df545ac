"""How often the fact asked for stands in the prompt, on MemoryAgentBench's real rows of facts.

    python benchmarks/evidence.py Conflict_Resolution-00000-of-00001.parquet [--out FOLDER]

Two tables, counted by the embedded tokenizer: retrieval and compression at windows of 512 and 2,048 tokens on
the 6k rows, and BM25 as the benchmark has it, 10 passages (of 512 tokens), on the single-hop rows of 6k and
262k. The embedded backbone has 512 positions, so a copy with more of them reads the prompts; its answers say
nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common import publish
from deltamem_eval.backbone import embedded_folder
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.table import Table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.tasks.memory_agent_bench.rows import load_rows

COLUMNS = ("method", "window", "source", "evidence_recall", "gold_in_prompt", "prompt_tokens", "memory_bytes")


@dataclass(frozen=True)
class Setting:
    """What one table is of. name: of its CSV file. sources: patterns of the rows' sources. windows: tokens of
    context in the prompt; positions: of the backbone, enough for the largest prompt.
    """

    name: str
    sources: tuple[str, ...]
    methods: tuple[str, ...]
    windows: tuple[int, ...]
    positions: int
    options: Mapping[str, Any] = field(default_factory=dict)
    title: str = "Accuracy and cost"


SETTINGS = (
    Setting(
        "evidence",
        ("*_6k",),
        ("vanilla", "bm25-rag", "llmlingua2", "memorybank"),
        (512, 2048),
        4096,
        {"summaries": "none"},
    ),
    Setting(
        "evidence_bm25_k10",
        ("factconsolidation_sh_6k", "factconsolidation_sh_262k"),
        ("bm25-rag",),
        (5120,),
        8192,
        {"passage_tokens": 512, "top_k": 10},
        "Accuracy and cost, 10 passages of 512 tokens",
    ),
)


def longer_backbone(folder: Path, positions: int) -> None:
    """The embedded backbone with that many positions, in `folder`."""
    shutil.copytree(embedded_folder() / "backbone", folder)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["max_position_embeddings"] = positions
    file.write_text(json.dumps(config), encoding="utf-8")


def chosen_rows(file: Path, setting: Setting) -> list[dict[str, Any]]:
    """The rows of a file of MemoryAgentBench that a setting is of.

    Raises UserError for a file that is none, and for one without such rows.
    """
    rows = [
        row
        for row in load_rows(file)
        if any(fnmatchcase(str(row["metadata"]["source"]), pattern) for pattern in setting.sources)
    ]
    if not rows:
        raise UserError(f"{file} holds no row of a source {' or '.join(setting.sources)}")
    return rows


def columns(table: Table, keys: tuple[str, ...]) -> Table:
    """The table with those columns alone."""
    kept = [index for index, column in enumerate(table.columns) if column.key in keys]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
    )


def measure(setting: Setting, rows: list[dict[str, Any]], limit: int | None = None) -> Table:
    """A setting's table on those rows. limit: episodes a category."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        longer_backbone(place / "backbone", setting.positions)
        (place / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        request = Request(
            methods=setting.methods,
            model=str(place / "backbone"),
            rows=str(place / "rows.json"),
            windows=setting.windows,
            limit=limit,
            controls=False,
            device="cpu",
            options={"classifier": str(embedded_folder() / "llmlingua2"), **setting.options},
        )
        with Display(len(setting.methods) * len(setting.windows), quiet=True) as display:
            execute(check(request), place / "run", display)
        made = columns(summary_table([place / "run"], ("source",)), COLUMNS)
        caption = made.caption.replace(str(place / "backbone"), "embedded")
        return replace(made, title=setting.title, caption=caption)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rows", type=Path, help="the benchmark's Conflict_Resolution file")
    parser.add_argument("--limit", type=int, help="episodes a category, for trying out")
    parser.add_argument("--out", type=Path, help="folder to write each table to as CSV")
    arguments = parser.parse_args()
    try:
        rows = [chosen_rows(arguments.rows, setting) for setting in SETTINGS]
    except UserError as error:
        parser.error(str(error))
    for setting, chosen in zip(SETTINGS, rows, strict=True):
        table = measure(setting, chosen, arguments.limit)
        publish(table, arguments.out and arguments.out / f"{setting.name}.csv")


if __name__ == "__main__":
    main()
