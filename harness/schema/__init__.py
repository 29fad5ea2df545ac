"""JSON Schemas of the files of a run and of a profile, published beside this module, one a kind of record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

FOLDER = Path(__file__).parent


def records() -> Mapping[str, type[BaseModel]]:
    """What each schema is of, by its name: a whole file, or one line of a `.jsonl` file."""
    from deltamem_eval.profiling.store import PointRecord, ProfileRecord
    from deltamem_eval.store import SCHEMAS, Notice
    from deltamem_eval.tracing import TraceRecord
    from deltamem_eval.verdicts import VerdictRecord

    beside: dict[str, type[BaseModel]] = {"notice": Notice, "verdict": VerdictRecord, "trace": TraceRecord}
    return {**SCHEMAS, **beside, "profile": ProfileRecord, "point": PointRecord}


def published() -> dict[str, str]:
    """Text of each schema by file name, as the records define it now."""
    from deltamem_eval.store import SCHEMA_VERSION

    return {
        f"{name}.json": json.dumps(
            {"$id": f"deltamem-eval/{name}/{SCHEMA_VERSION}", **kind.model_json_schema()}, indent=2
        )
        + "\n"
        for name, kind in records().items()
    }
