"""Training of the embedded compressor's classifier, on the contexts that the adapters see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltamem_eval.tasks.embedded.classifier import build_classifier_tokenizer, new_classifier, token_loss

if TYPE_CHECKING:
    from deltamem_eval.methods.training import Report, TrainSettings


def train_classifier(
    contexts: Callable[[int], Sequence[str]],
    identity: str,
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
) -> None:
    """Train a fresh classifier and save model, tokenizer and log to `out`.

    contexts: those of an update, by its number; identity: names all that decides them. Raises UserError as
    `training.fit` does.
    """
    import torch
    from deltamem_eval.methods.training import fit

    torch.manual_seed(settings.seed)
    tokenizer = build_classifier_tokenizer()
    model = new_classifier(tokenizer).train()
    fit(
        list(model.parameters()),
        lambda step: token_loss(model, tokenizer, contexts(step)),
        settings,
        out,
        {"classifier": model.config.to_diff_dict(), "data": identity},
        report,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def classifier_loss(folder: Path, contexts: Sequence[str]) -> float:
    """Mean cross-entropy of a saved classifier's labels on contexts."""
    import torch
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return float(token_loss(model, build_classifier_tokenizer(), contexts))
