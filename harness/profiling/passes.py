"""One pass: a context written into an empty memory and one question answered, with time and memory by phase.

Prefill lasts from the empty memory to the first token of the answer: whatever a method does with a context,
and its reading of the question. Decode lasts from there to the last token.
"""

from __future__ import annotations

import time

from deltamem_eval.interface import Answer, MemoryMethod
from deltamem_eval.profiling.meters import Meter, Reading
from deltamem_eval.profiling.watched import WatchedBackbone
from deltamem_eval.profiling.workload import Workload

Measures = dict[str, float]


class TokenWatch:
    """Sees the answer's tokens come and looks at the meter between the phases.

    A method may generate other texts before its answer; everything before the last generation's first token
    is prefill. decode_peaks: by token after the first, where steps are to be seen; else one for all.
    """

    def __init__(self, meter: Meter, steps: bool = False) -> None:
        self._meter, self._steps = meter, steps
        self.prefill: Reading = {}
        self.decode_peaks: list[Reading] = []
        self.tokens = 0
        self.first = self.resumed = self.last = 0.0

    def generation(self) -> None:
        """Whatever was generated before belongs to prefill."""
        if self.tokens:
            self.prefill = _most(self.prefill, *self.decode_peaks, self._meter.peak())
            self.tokens, self.decode_peaks = 0, []

    def token(self) -> None:
        """Tell the time; after the first token the time that reading the meter takes is left out."""
        self.last = time.perf_counter()
        self.tokens += 1
        if self.tokens == 1:
            self.first = self.last
            self.prefill = _most(self.prefill, self._meter.peak())
            self.resumed = time.perf_counter()
        elif self._steps:
            self.decode_peaks.append(self._meter.peak())

    def end(self) -> None:
        """The answer is there."""
        if not self._steps:
            self.decode_peaks.append(self._meter.peak())


def one_pass(
    method: MemoryMethod, backbone: WatchedBackbone, work: Workload, meter: Meter, watch: TokenWatch
) -> tuple[Measures, Answer]:
    """Write, answer, measure: bytes of prefill's and decode's peaks and of what is held afterwards, seconds
    of writing, prefill and decode.

    Raises RuntimeError for a method whose tokens cannot be seen or are not as many as asked for.
    """
    method.reset()
    meter.start()
    meter.wait()
    began = time.perf_counter()
    for chunk in work.chunks:
        method.write(chunk)
    method.snapshot()  # what is left of the writing is done here, as in a run
    meter.wait()
    written = time.perf_counter()
    backbone.watch = watch
    try:
        answer = method.answer([work.query])[0]
    finally:
        backbone.watch = None
    watch.end()
    wanted = work.query.max_new_tokens
    if watch.tokens != wanted or answer.new_tokens != wanted:
        raise RuntimeError(f"asked for {wanted} tokens, saw {watch.tokens}, was told of {answer.new_tokens}")
    measures: Measures = {
        "write_seconds": written - began,
        "prefill_seconds": watch.first - began,
        "decode_seconds": watch.last - watch.resumed,
    }
    readings = {"prefill": watch.prefill, "decode": _most(*watch.decode_peaks), "resident": meter.now()}
    for phase, reading in readings.items():
        measures.update({f"{phase}_{kind}": float(value) for kind, value in reading.items()})
    return measures, answer


def token_counts(work: Workload, answer: Answer) -> dict[str, int]:
    """Tokens as they were: of the context, of it in the prompt, of the question and what surrounds it."""
    return {
        "context": work.tokens,
        "shown": answer.context_tokens,
        "question": answer.prompt_tokens - answer.context_tokens,
    }


def _most(*readings: Reading) -> Reading:
    """By kind, the greatest number of bytes."""
    kinds = dict.fromkeys(kind for reading in readings for kind in reading)
    return {kind: max(reading[kind] for reading in readings if kind in reading) for kind in kinds}
