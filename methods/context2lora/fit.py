"""Fitting a low-rank adapter to the pairs of one context, at write time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from deltamem_eval.methods.training import TrainSettings, answer_batch, answer_loss, rate

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.context2lora.lora import Lora

_WARMUP = 0.1
_ANSWER = 512


def fit_pairs(
    backbone: Backbone,
    lora: Lora,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """AdamW on `pairs` (prompt ids, answer ids), loss on the answers; the last loss.

    Raises FloatingPointError where the loss is not finite: the context then counts as failed.
    """
    import torch

    parameters = lora.parameters()
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    rng = Random(f"context2lora/{seed}")
    value, settings = 0.0, TrainSettings(steps=steps, warmup=_WARMUP)
    with torch.enable_grad():
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = lr * rate(step, settings)
            chosen = [pairs[rng.randrange(len(pairs))] for _ in range(batch)]
            loss = answer_loss(backbone.model, *answer_batch(chosen, _ANSWER, backbone.device))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss of the context's adapter became {value} at step {step}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
    return value
