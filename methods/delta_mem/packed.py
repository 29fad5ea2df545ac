"""Several parameters as the rows of one matrix, so that one product serves them all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Packed:
    """One tensor whose consecutive rows are the tensors given: they become views of it.

    Whatever changes one of them in place (an optimiser, a loaded adapter) changes the whole too, so there is
    no copy that could be out of date. One that was given storage of its own is noticed.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.together = torch.cat([part.detach() for part in parts])
        rows = torch.split(self.together, [len(part) for part in parts])
        for part, own in zip(parts, rows, strict=True):
            part.data = own
        self._addresses = [part.data_ptr() for part in parts]

    def of(self, parts: Sequence[Tensor]) -> Tensor:
        """The parts one below the other: the tensor itself, or where gradients are to reach them, or they
        are its rows no longer, a new one. Compiled code takes it that they are.
        """
        if torch.is_grad_enabled():
            return torch.cat(list(parts))
        if torch.compiler.is_compiling() or [part.data_ptr() for part in parts] == self._addresses:
            return self.together
        return torch.cat(list(parts))
