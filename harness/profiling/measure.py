"""Measuring one point on a real device."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from deltamem_eval.backbone import pick_device
from deltamem_eval.interface import MemoryMethod
from deltamem_eval.profiling.allocations import Allocations
from deltamem_eval.profiling.meters import (
    CudaMeter,
    Meter,
    NoMeter,
    TensorMeter,
    Waiter,
    tensor_bytes,
)
from deltamem_eval.profiling.passes import TokenWatch, one_pass, token_counts
from deltamem_eval.profiling.request import Point, ProfileRequest
from deltamem_eval.profiling.subject import make_backbone, make_method
from deltamem_eval.profiling.watched import WatchedBackbone
from deltamem_eval.profiling.workload import workload


def measure(request: ProfileRequest, point: Point, parts: Path) -> dict[str, Any]:
    """What was measured: bytes of weights, tokens as they were, and by measure one number a repeat.

    Time is taken from passes of its own: on a CPU counting slows everything down, on a GPU each counted pass
    begins with an empty allocator, and the driver is asked between the phases. Every pass has another
    context, so that nothing is remembered from the last. Raises whatever the method raises.
    """
    device = pick_device(request.device)
    backbone = make_backbone(request)
    method = make_method(request, point.method, point.mode, backbone, parts)
    if device.type == "cuda":
        meter = CudaMeter(device)
        weights = meter.now()
        counted = _repeats(request, point, method, backbone, meter)
        timed = _repeats(request, point, method, backbone, Waiter(device))
    else:
        weights = {"allocated": tensor_bytes(device.type)}
        timed = _repeats(request, point, method, backbone, NoMeter())
        with Allocations() as allocations:
            counted = _repeats(request, point, method, backbone, TensorMeter(allocations, device.type))
    return {"weights": weights, **timed, "measures": {**counted["measures"], **timed["measures"]}}


def _repeats(
    request: ProfileRequest, point: Point, method: MemoryMethod, backbone: WatchedBackbone, meter: Meter
) -> dict[str, Any]:
    """Warm-up passes, whose numbers are dropped, and the repeats."""
    measures: defaultdict[str, list[float]] = defaultdict(list)
    tokens: dict[str, int] = {}
    for number in range(request.warmup + request.repeats):
        work = workload(backbone.encode, point.prompt_tokens, point.decode_tokens, number)
        found, answer = one_pass(method, backbone, work, meter, TokenWatch(meter))
        if number < request.warmup:
            continue
        for name, value in found.items():
            measures[name].append(value)
        tokens = token_counts(work, answer)
    return {"tokens": tokens, "measures": dict(measures)}
