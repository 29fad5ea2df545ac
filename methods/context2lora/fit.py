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

Pair = tuple[Sequence[int], Sequence[int]]

_WARMUP = 0.1
_TOKENS = 4096  # of a forward, padding included: whole passages go through the backbone a few at a time


def fit_pairs(
    backbone: Backbone,
    lora: Lora,
    pairs: Sequence[Pair],
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """AdamW on `pairs` (prompt ids, answer ids), loss on the answers, which are learnt whole; the last loss.

    batch: pairs an update. Each pair must have an answer token and fit the backbone's positions.
    Raises FloatingPointError where the loss or its gradient is not finite: the context then counts as failed.
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
            optimiser.zero_grad(set_to_none=True)
            value = _backward(backbone, chosen)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
            for what, found in (("loss", value), ("gradient", norm)):
                if not math.isfinite(found):
                    raise FloatingPointError(
                        f"the {what} of the context's adapter became {found} at step {step}"
                    )
            optimiser.step()
    return value


def _backward(backbone: Backbone, pairs: Sequence[Pair]) -> float:
    """Add the gradient of the mean loss of all the pairs' answer tokens, group by group; that loss."""
    whole, total = sum(len(answer) for _, answer in pairs), 0.0
    for group in groups(pairs):
        count = sum(len(answer) for _, answer in group)
        batch = answer_batch(group, count, backbone.device)
        loss = answer_loss(backbone.model, *batch) * (count / whole)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def groups(pairs: Sequence[Pair], most: int = _TOKENS) -> list[list[Pair]]:
    """Pairs of like length together, at most `most` tokens with padding in each group, or a single pair."""
    made: list[list[Pair]] = [[]]
    for pair in sorted(pairs, key=_length):
        if made[-1] and (len(made[-1]) + 1) * _length(pair) > most:
            made.append([])
        made[-1].append(pair)
    return made


def _length(pair: Pair) -> int:
    return len(pair[0]) + len(pair[1])
