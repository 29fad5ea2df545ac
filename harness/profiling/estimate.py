"""What a GPU would hold at its peaks, worked out on any machine from shapes alone.

The method's own code runs on tensors without values (see `shapes_only`), and what its operations would
allocate is added up as it is when it is measured. Few tokens are decoded: caches grow by the same bytes with
every token, so that the peak of a longer decode follows from the last steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deltamem_eval.interface import MemoryMethod
from deltamem_eval.profiling.meters import TensorMeter
from deltamem_eval.profiling.passes import Measures, TokenWatch, one_pass, token_counts
from deltamem_eval.profiling.request import Point, ProfileRequest
from deltamem_eval.profiling.shapes_only import META, Ledger, shapes_only
from deltamem_eval.profiling.subject import make_backbone, make_method
from deltamem_eval.profiling.watched import WatchedBackbone
from deltamem_eval.profiling.workload import workload

_STEPS = 6  # tokens decoded; the first steps may differ from those that follow


@contextmanager
def without_values() -> Iterator[Ledger]:
    """Within the block everything is made as shapes alone, and loading weights into them is no matter."""
    with warnings.catch_warnings(), shapes_only() as ledger, META:
        warnings.filterwarnings("ignore", message=".*is a no-op.*")
        yield ledger


def estimate(request: ProfileRequest, points: Sequence[Point], parts: Path) -> list[dict[str, Any]]:
    """Fields as `measure` gives them, without seconds and with one number a measure, for points that differ
    in lengths alone. Raises whatever the method raises.
    """
    with without_values() as ledger:
        meter = TensorMeter(ledger, META.type)
        backbone = make_backbone(request)
        method = make_method(request, points[0].method, points[0].mode, backbone, parts)
        weights = meter.now()
        longest = max(point.decode_tokens for point in points)
        prompts = dict.fromkeys(point.prompt_tokens for point in points)
        found = {size: _short_pass(size, longest, method, backbone, meter) for size in prompts}
        return [
            {"weights": weights, **_fields(*found[point.prompt_tokens], point.decode_tokens)}
            for point in points
        ]


def _short_pass(
    prompt: int, decode: int, method: MemoryMethod, backbone: WatchedBackbone, meter: TensorMeter
) -> tuple[dict[str, int], Measures, list[int]]:
    """Tokens, measures, and the peaks of the first decoding steps."""
    work = workload(backbone.encode, prompt, min(decode, _STEPS), 0)
    watch = TokenWatch(meter, steps=True)
    measures, answer = one_pass(method, backbone, work, meter, watch)
    return token_counts(work, answer), measures, [step["allocated"] for step in watch.decode_peaks]


def _fields(
    tokens: Mapping[str, int], measures: Measures, steps: Sequence[int], decode: int
) -> dict[str, Any]:
    bytes_alone = {name: [value] for name, value in measures.items() if not name.endswith("_seconds")}
    return {"tokens": tokens, "measures": {**bytes_alone, "decode_allocated": [decode_peak(steps, decode)]}}


def decode_peak(steps: Sequence[int], tokens: int) -> float:
    """The peak of decoding so many tokens from the peaks of the first steps, which go on as the last two did.

    The first token comes with prefill: n tokens take n - 1 steps. steps: bytes, at least one; three where
    there are more to come.
    """
    further = tokens - 1 - len(steps)
    if further <= 0:
        return max(steps[: tokens - 1])
    return max(steps) + further * (steps[-1] - steps[-3]) / 2
