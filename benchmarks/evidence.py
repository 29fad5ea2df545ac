"""How often the fact asked for stands in the prompt, on MemoryAgentBench's real 6k rows of facts.

    python benchmarks/evidence.py Conflict_Resolution-00000-of-00001.parquet

Retrieval and compression at windows of 512 and 2,048 tokens, counted by the embedded tokenizer. The embedded
backbone has 512 positions, so a copy with more of them reads the prompts; its answers say nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from deltamem_eval.backbone import embedded_folder
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.reports.render import to_markdown
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.table import Table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.tasks.memory_agent_bench.rows import load_rows

METHODS = ("vanilla", "bm25-rag", "llmlingua2", "memorybank")
WINDOWS = (512, 2048)
POSITIONS = 4096
COLUMNS = ("method", "window", "source", "evidence_recall", "gold_in_prompt", "prompt_tokens", "memory_bytes")


def longer_backbone(folder: Path) -> None:
    """The embedded backbone with more positions, in `folder`."""
    shutil.copytree(embedded_folder() / "backbone", folder)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["max_position_embeddings"] = POSITIONS
    file.write_text(json.dumps(config), encoding="utf-8")


def short_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of MemoryAgentBench whose contexts are the shortest of their kind (6k).

    Raises UserError for a file that is none, and for one without such rows.
    """
    rows = [row for row in load_rows(file) if str(row["metadata"]["source"]).endswith("_6k")]
    if not rows:
        raise UserError(f"{file} holds no row of a source that ends in _6k")
    return rows


def columns(table: Table, keys: tuple[str, ...]) -> Table:
    """The table with those columns alone."""
    kept = [index for index, column in enumerate(table.columns) if column.key in keys]
    return Table(
        table.title,
        tuple(table.columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in table.rows),
        table.caption,
        table.footnotes,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rows", type=Path, help="the benchmark's Conflict_Resolution file")
    parser.add_argument("--limit", type=int, help="episodes a category, for trying out")
    arguments = parser.parse_args()
    try:
        rows = short_rows(arguments.rows)
    except UserError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        longer_backbone(place / "backbone")
        (place / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        request = Request(
            methods=METHODS,
            model=str(place / "backbone"),
            rows=str(place / "rows.json"),
            windows=WINDOWS,
            limit=arguments.limit,
            controls=False,
            device="cpu",
            options={"classifier": str(embedded_folder() / "llmlingua2"), "summaries": "none"},
        )
        with Display(len(METHODS) * len(WINDOWS), quiet=True) as display:
            execute(check(request), place / "run", display)
        table = summary_table([place / "run"], ("source",))
    print(to_markdown(columns(table, COLUMNS)).replace(str(place / "backbone"), "embedded"))


if __name__ == "__main__":
    main()
