"""Choosing the mixture's λ, and how likely a mixture makes the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from deltamem_eval.methods.mlp_memory.model import MlpMemory, mix
from deltamem_eval.methods.mlp_memory.tap import Tap
from deltamem_eval.methods.training import Example
from torch import Tensor

# The paper mixes at most weights; 0 is vanilla and stands in the log for comparison only.
WEIGHTS = (0.05, 0.1, 0.15, 0.25, 0.4, 0.6)


@torch.no_grad()
def answer_costs(model: Any, memory: MlpMemory, examples: Sequence[Example]) -> Mapping[float, float]:
    """Mean negative log-likelihood (nats) of the answers' tokens at every λ of WEIGHTS and at 0.

    An example's messages stand before each of its questions.
    """
    totals, count = dict.fromkeys((0.0, *WEIGHTS), 0.0), 0
    tap = Tap(model, memory.config.layer, last_only=False)
    try:
        for example in examples:
            shown = list(chain(*example.messages))
            for prompt, answer in example.questions:
                logits, own = _logits(model, memory, tap, [*shown, *prompt, *answer], len(answer))
                wanted = torch.tensor(answer, device=logits.device)[:, None]
                count += len(answer)
                for weight in totals:
                    totals[weight] -= float(mix(logits, own, weight).gather(-1, wanted).sum())
    finally:
        tap.remove()
    return {weight: total / max(count, 1) for weight, total in totals.items()}


def _logits(model: Any, memory: MlpMemory, tap: Tap, ids: list[int], last: int) -> tuple[Tensor, Tensor]:
    """Logits [last, vocab] of backbone and network for the last tokens of a sequence."""
    output = model(torch.tensor([ids], device=model.device), use_cache=False)
    if tap.input is None:
        raise RuntimeError("the hook on the feed-forward part saw nothing")
    own = memory(tap.input[0, -last - 1 : -1].to(memory.head.weight))
    return output.logits[0, -last - 1 : -1], own.to(output.logits.device)


def best_weight(costs: Mapping[float, float]) -> float:
    """The λ above 0 that makes the answers likeliest."""
    return min((weight for weight in costs if weight > 0), key=lambda weight: costs[weight])
