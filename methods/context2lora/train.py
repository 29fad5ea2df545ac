"""Training the static adapter: the context in the prompt, cross-entropy on the answers' tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deltamem_eval.methods.context2lora.lora import Lora
from deltamem_eval.methods.training import (
    Report,
    Source,
    TrainSettings,
    answer_batch,
    answer_loss,
    fit,
)
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
    """Train adapters on `source`, whose prompts hold their context, and save a peft folder to `out`.

    Raises UserError as `training.fit` and `Lora.fresh` do; the model is left as it was.
    """
    model.requires_grad_(False)
    torch.manual_seed(settings.seed)
    lora = Lora.fresh(model, rank, targets)

    def loss_at(step: int) -> Tensor:
        pairs = [pair for example in source.batch(step) for pair in example.questions]
        return answer_loss(model, *answer_batch(pairs, settings.answer_length, model.device))

    try:
        identity = {"lora": [rank, list(targets)], "data": source.identity()}
        fit(lora.parameters(), loss_at, settings, out, identity, report)
        lora.save(out)
    finally:
        lora.remove()
