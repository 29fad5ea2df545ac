"""`python -m deltamem_eval.profiling.worker TASK RESULT`: one task of a profile in a process of its own.

TASK is a JSON file: the request, points, and the folder of random trained weights. RESULT is written when the
task ends: the points' fields; without points, after everything was made once, what tables must say of it; or
the user's mistake.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError
from deltamem_eval.files import write_atomic
from deltamem_eval.profiling.request import Point, ProfileRequest

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone


def main(task_file: Path, result_file: Path) -> None:
    """Do the task and write its result; before anything is measured a user's mistake is one too."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    task = json.loads(task_file.read_text(encoding="utf-8"))
    request = ProfileRequest.from_record(task["request"])
    points, parts = [Point(*point) for point in task["points"]], Path(task["parts"])
    gc.freeze()  # what imports made is not searched for tensors again and again
    try:
        made = {"points": points_of(request, points, parts)} if points else _facts(request, parts)
    except UserError as error:
        made = {"mistake": str(error)}
    finally:
        gc.unfreeze()
    write_atomic(result_file, json.dumps(made))


def points_of(request: ProfileRequest, points: Sequence[Point], parts: Path) -> list[dict[str, Any]]:
    """Fields of every point; a failure is one for all of them."""
    from deltamem_eval.profiling.estimate import estimate
    from deltamem_eval.profiling.measure import measure

    try:
        if request.estimate:
            found = estimate(request, points, parts)
        else:
            found = [measure(request, point, parts) for point in points]
    except Exception as error:  # whatever a method raises is this point's end and nobody else's
        return [_failure(error)] * len(points)
    status = "estimate" if request.estimate else "ok"
    return [{"status": status, **fields} for fields in found]


def _failure(error: Exception) -> dict[str, Any]:
    from deltamem_eval.phases import is_out_of_memory

    lines = str(error).strip().splitlines() or [""]
    out = is_out_of_memory(error) or isinstance(error, MemoryError)
    return {"status": "oom" if out else "failed", "error": f"{type(error).__name__}: {lines[0]}"}


def _facts(request: ProfileRequest, parts: Path) -> dict[str, Any]:
    """What there is to say of machine and model. Raises UserError for a method that cannot be made."""
    import torch
    from deltamem_eval.profiling.estimate import without_values
    from deltamem_eval.profiling.machine import machine_line
    from deltamem_eval.profiling.subject import check_fit, make_backbone, own_positions, random_parts

    with without_values() if request.estimate else nullcontext():
        backbone = make_backbone(request)
        check_fit(request, backbone)
        _try_out(request, backbone, parts)
        source = request.random_weights
        return {
            "device": f"shapes alone, torch {torch.__version__}"
            if request.estimate
            else machine_line(backbone.device),
            "model": backbone.name,
            "dtype": backbone.dtype,
            "parameters": backbone.parameters(),
            "positions": backbone.positions,
            "own_positions": own_positions(source) if source is not None else backbone.positions,
            "random": random_parts(request),
        }


def _try_out(request: ProfileRequest, backbone: Backbone, parts: Path) -> None:
    """Make every method once; one that needs more memory than there is will be a point that says so."""
    from deltamem_eval.profiling.subject import make_method

    for name, mode in request.pairs():
        try:
            make_method(request, name, mode, backbone, parts).close()
        except UserError:
            raise
        except Exception as error:  # a plug-in may raise anything
            failure = _failure(error)
            if failure["status"] != "oom":
                raise UserError(f"{name} cannot be made: {failure['error']}") from error


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
