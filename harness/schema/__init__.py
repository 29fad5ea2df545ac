"""JSON Schemas of a run's files, published beside this module: `run.json`, `cell.json`, a sample's line."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def published() -> dict[str, str]:
    """Text of each schema by file name, as the records in `store` define it now."""
    from deltamem_eval.store import SCHEMA_VERSION, SCHEMAS

    return {
        f"{name}.json": json.dumps(
            {"$id": f"deltamem-eval/{name}/{SCHEMA_VERSION}", **kind.model_json_schema()}, indent=2
        )
        + "\n"
        for name, kind in SCHEMAS.items()
    }
