"""Several parameters as the rows of one matrix, so that one product serves them all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Packed:
    """One tensor whose consecutive rows are the parameters: they become views of it.

    Whatever changes a parameter in place (an optimiser, a loaded adapter) changes the tensor too, so there is
    no copy that could be out of date. A parameter that was given storage of its own is noticed.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.together = torch.cat([parameter.detach() for parameter in parameters])
        start = 0
        for parameter in parameters:
            parameter.data = self.together[start : start + len(parameter)]
            start += len(parameter)

    def of(self, parameters: Sequence[Tensor]) -> Tensor:
        """The parameters one below the other: the tensor itself, or where gradients are to reach them, or
        they no longer are its rows, a new one. Compiled code takes it that they are.
        """
        if torch.is_grad_enabled() or not (torch.compiler.is_compiling() or self._holds(parameters)):
            return torch.cat(list(parameters))
        return self.together

    def _holds(self, parameters: Sequence[Tensor]) -> bool:
        address, step = self.together.data_ptr(), self.together.stride(0) * self.together.element_size()
        for parameter in parameters:
            if parameter.data_ptr() != address:
                return False
            address += len(parameter) * step
        return True
