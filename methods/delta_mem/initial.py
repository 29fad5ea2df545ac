"""Where the parameters of a memory start."""

from __future__ import annotations

import torch
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from torch import Tensor, nn
from torch.nn import functional


def random_projection(rows: int, columns: int) -> nn.Parameter:
    """Kaiming-uniform, as a linear layer starts."""
    weight = torch.empty(rows, columns)
    nn.init.kaiming_uniform_(weight, a=5**0.5)
    return nn.Parameter(weight)


def initial_delta(config: DeltaMemConfig, base: Tensor) -> Tensor:
    """The start of an active correction [out, R].

    base_slice_fixed: the first min(base_slice_ref_width, rank) columns are the base weight's first columns,
    each of unit length, times online_gain; the others are zero. base_slice: the same for all R columns.
    """
    out, width = base.shape[0], config.width
    start = torch.zeros(out, width)
    if config.output_init == "random":
        return random_projection(out, width).data * config.online_gain
    if config.output_init.startswith("base_slice"):
        fixed = config.output_init == "base_slice_fixed"
        count = min(config.base_slice_ref_width, config.rank) if fixed else width
        count = min(count, base.shape[1])
        columns = functional.normalize(base.detach()[:, :count].float(), dim=0)
        start[:, :count] = config.online_gain * columns.cpu()
    return start
