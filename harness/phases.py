"""What the device tells of a phase of a run: the most memory it took, and how fast it decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch


@dataclass
class DecodeClock:
    """Seconds spent on decoding, and the steps made in them, since it was last read.

    A step is a forward after the one that read the prompt, for all rows decoded together.
    """

    seconds: float = 0.0
    steps: int = 0
    _began: float | None = field(default=None, repr=False)

    @contextmanager
    def generation(self) -> Iterator[DecodeClock]:
        """Within the block one batch is generated; what is before its first `token` does not count."""
        self._began = None
        try:
            yield self
        finally:
            if self._began is not None:
                self.seconds += perf_counter() - self._began
            self._began = None

    def token(self) -> None:
        """A token of every row is known on the host. The first one ends the reading of the prompt."""
        if self._began is None:
            self._began = perf_counter()
        else:
            self.steps += 1

    def read(self) -> float | None:
        """The seconds since the last call; None where no step was made."""
        seconds = self.seconds if self.steps else None
        self.seconds, self.steps = 0.0, 0
        return seconds


class PeakMemory:
    """The most bytes that PyTorch handed out on a model's GPUs, all together, since the last look.

    Nothing is known of a CPU, where no allocator counts: `deltamem-eval profile` measures there.
    """

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._gpus = [device for device in dict.fromkeys(devices) if device.type == "cuda"]

    def start(self) -> None:
        """Forget what was before."""
        for gpu in self._gpus:
            torch.cuda.reset_peak_memory_stats(gpu)

    def read(self, phase: str) -> dict[str, int]:
        """The bytes under the phase's name, and a new start; empty without a GPU."""
        if not self._gpus:
            return {}
        found = sum(torch.cuda.max_memory_allocated(gpu) for gpu in self._gpus)
        self.start()
        return {phase: found}
