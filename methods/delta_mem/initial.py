"""Where the parameters of a memory start."""

from __future__ import annotations

import math

import torch
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from torch import Tensor, nn
from torch.nn import functional

_EDGE = 1e-4  # a scale starts no nearer than this to 0 or to its greatest, as a share of it


def random_projection(rows: int, columns: int) -> nn.Parameter:
    """Kaiming-uniform, as a linear layer starts."""
    weight = torch.empty(rows, columns)
    nn.init.kaiming_uniform_(weight, a=5**0.5)
    return nn.Parameter(weight)


def initial_delta(config: DeltaMemConfig, base: Tensor) -> Tensor:
    """The start of an active correction [out, R].

    base_slice: the first `rank` columns are the base weight's first columns, each of unit length, times
    online_gain; the others are zero. base_slice_fixed: of those the first base_slice_ref_width at most.
    """
    out, width = base.shape[0], config.width
    start = torch.zeros(out, width)
    if config.output_init == "random":
        return random_projection(out, width).data * config.online_gain
    if config.output_init.startswith("base_slice"):
        fixed = config.output_init == "base_slice_fixed"
        count = min(config.base_slice_ref_width if fixed else config.rank, config.rank, base.shape[1])
        columns = functional.normalize(base.detach()[:, :count].float(), dim=0)
        start[:, :count] = config.online_gain * columns.cpu()
    return start


def initial_scale(config: DeltaMemConfig) -> Tensor:
    """The start of the learnt scales [1 or 4], before their sigmoid."""
    share = min(max(config.delta_scale_init / config.delta_scale_max, _EDGE), 1 - _EDGE)
    return torch.full((config.scales,), math.log(share / (1 - share)))
