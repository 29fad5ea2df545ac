"""What the device tells of a phase of a run: memory, the speed of decoding, and whether it still works."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
from deltamem_eval.errors import UserError

_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class DeviceLostError(UserError):
    """A device that cannot be used any more by this process."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _NO_MEMORY)


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
        """Within the block one batch is generated; what is before its first `token` does not count, nor does
        any of it where an error ends it.
        """
        self._began = None
        with self.lost_on_error():
            try:
                yield self
            finally:
                self._end()

    @contextmanager
    def lost_on_error(self) -> Iterator[None]:
        """What is counted within the block does not count where an error ends it: its tokens are lost."""
        before = self.seconds, self.steps
        try:
            yield
        except BaseException:
            self.seconds, self.steps = before
            raise

    def _end(self) -> None:
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


class Gpus:
    """A model's GPUs: when they are done, the most bytes that PyTorch handed out, whether they still work.

    On a CPU there are none: nothing runs on after a call, no allocator counts (`deltamem-eval profile`
    measures there), and there is nothing to ask.
    """

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._gpus = [device for device in dict.fromkeys(devices) if device.type == "cuda"]

    def wait(self) -> None:
        """Return once they have done everything."""
        for gpu in self._gpus:
            torch.cuda.synchronize(gpu)

    def check(self) -> None:
        """Raises DeviceLostError where one answers no more: after some errors every later call fails too."""
        for gpu in self._gpus:
            try:
                torch.ones(1, device=gpu).add(1).item()
                torch.cuda.synchronize(gpu)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    continue
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise DeviceLostError(
                    f"{gpu} answers no more ({first}): what is answered is stored; the same command goes on"
                ) from None

    def start(self) -> None:
        """Forget the bytes of before."""
        for gpu in self._gpus:
            torch.cuda.reset_peak_memory_stats(gpu)

    def read(self, phase: str) -> dict[str, int]:
        """The bytes under the phase's name, and a new start; empty without a GPU."""
        if not self._gpus:
            return {}
        found = sum(torch.cuda.max_memory_allocated(gpu) for gpu in self._gpus)
        self.start()
        return {phase: found}
