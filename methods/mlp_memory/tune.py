"""Choosing the mixture's λ, and how likely a mixture makes the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from deltamem_eval.methods.mlp_memory.model import MlpMemory, mix
from deltamem_eval.methods.mlp_memory.tap import Tap
from deltamem_eval.methods.packing import Tree, branch_states, embedded
from deltamem_eval.methods.training import Example, answers_logits
from torch import Tensor

# The paper mixes at most weights; 0 is vanilla and stands in the log for comparison only.
WEIGHTS = (0.05, 0.1, 0.15, 0.25, 0.4, 0.6)


@torch.no_grad()
def answer_costs(model: Any, memory: MlpMemory, examples: Sequence[Example]) -> Mapping[float, float]:
    """Mean negative log-likelihood (nats) of the answers' tokens at every λ of WEIGHTS and at 0.

    An example's messages stand before each of its questions, and are read once for all of them.
    """
    totals, count = dict.fromkeys((0.0, *WEIGHTS), 0.0), 0
    tap = Tap(model, memory.config.layer, last_only=False)
    try:
        for example in (item for item in examples if item.questions):
            for logits, own, answer in _answers(model, memory, tap, example):
                wanted = torch.tensor(answer, device=logits.device)[:, None]
                count += len(answer)
                for weight in totals:
                    totals[weight] -= float(mix(logits, own, weight).gather(-1, wanted).sum())
    finally:
        tap.remove()
    return {weight: total / max(count, 1) for weight, total in totals.items()}


def _answers(
    model: Any, memory: MlpMemory, tap: Tap, example: Example
) -> Iterator[tuple[Tensor, Tensor, Sequence[int]]]:
    """Logits [tokens, vocab] of backbone and network for each answer of an example, and the answer."""
    branches = tuple(embedded(model, [*prompt, *answer]) for prompt, answer in example.questions)
    tree = Tree(embedded(model, list(chain(*example.messages))), branches)
    (states,) = branch_states(model, [tree])
    for hidden, seen, (_, answer) in zip(states, _seen(tap, tree), example.questions, strict=True):
        last = slice(-len(answer) - 1, -1)
        logits = answers_logits(model, hidden[last])
        yield logits, memory(seen[last].to(memory.head.weight)).to(logits.device), answer


def _seen(tap: Tap, tree: Tree) -> list[Tensor]:
    """What went into the feed-forward part [tokens, hidden] at every branch: all of them in one row, or each
    in a row of its own behind the trunk (see `branch_states`).
    """
    if tap.input is None:
        raise RuntimeError("the hook on the feed-forward part saw nothing")
    lengths = [len(branch) for branch in tree.branches]
    if tap.input.shape[:2] == (1, sum(lengths)):
        return list(torch.split(tap.input[0], lengths))
    return [row[len(tree.trunk) :][:length] for row, length in zip(tap.input, lengths, strict=True)]


def best_weight(costs: Mapping[float, float]) -> float:
    """The λ above 0 that makes the answers likeliest."""
    return min((weight for weight in costs if weight > 0), key=lambda weight: costs[weight])
