"""Training the static adapter: the context in the prompt, cross-entropy on the answers' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from deltamem_eval import processes
from deltamem_eval.methods.context2lora.lora import Lora
from deltamem_eval.methods.packing import Tree, branch_states, embedded
from deltamem_eval.methods.training import (
    Example,
    Losses,
    Report,
    Source,
    TrainSettings,
    answers_loss,
    fit,
    in_parts,
    in_turn,
)
from deltamem_eval.sharding import shard
from torch import Tensor


def train_static(
    model: Any,
    rank: int,
    targets: tuple[str, ...],
    source: Source,
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
) -> None:
    """Train adapters on `source`, whose messages stand in the prompt, and save a peft folder to `out`.

    Raises UserError as `training.fit` and `Lora.fresh` do; the model is left as it was.
    """
    model.requires_grad_(False)
    torch.manual_seed(settings.seed)
    lora = Lora.fresh(model, rank, targets)

    def loss_at(step: int) -> Losses:
        groups = in_parts(source.batch(step), settings)
        return in_turn(groups, lambda group: reading_loss(model, group, settings.answer_length), settings)

    try:
        identity = {"lora": [rank, list(targets)], "data": source.identity()}
        shard(model, lora.parameters())
        fit(lora.parameters(), loss_at, settings, out, identity, report)
        processes.on_main(lambda: lora.save(out))
    finally:
        lora.remove()


def reading_loss(model: Any, examples: Sequence[Example], answer_length: int) -> Tensor:
    """Mean cross-entropy of the answers' tokens, each example's messages before each of its questions."""
    cut = [[(prompt, answer[:answer_length]) for prompt, answer in example.questions] for example in examples]
    trees = [
        Tree(
            embedded(model, list(chain(*example.messages))),
            tuple(embedded(model, [*prompt, *answer]) for prompt, answer in pairs),
        )
        for example, pairs in zip(examples, cut, strict=True)
    ]
    states = chain(*branch_states(model, trees))
    pairs = list(chain(*cut))
    found = [hidden[len(prompt) - 1 : -1] for hidden, (prompt, _) in zip(states, pairs, strict=True)]
    return answers_loss(model, torch.cat(found), [token for _, answer in pairs for token in answer])
