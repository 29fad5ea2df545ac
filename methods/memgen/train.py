"""Training MemGen's weaver: cross-entropy on the answer through the frozen reasoner (arXiv 2509.24704).

Latents are woven at the prompt's end and at the first delimiters inside the answer; what follows a weave is
predicted from its last latent. The trigger is not trained: a folder made here weaves at every place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from deltamem_eval.methods.memgen.config import MemGenConfig, Place
from deltamem_eval.methods.memgen.model import MemGenModel
from deltamem_eval.methods.training import IGNORED, Report, Source, TrainSettings, fit
from torch import Tensor, nn

Pair = tuple[Sequence[int], Sequence[int]]


def train_memgen(
    model: Any,
    decode: Callable[[list[int]], str],
    config: MemGenConfig,
    source: Source,
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
) -> None:
    """Train a weaver on `source`, whose prompts hold their context, and save it to `out`.

    Raises UserError as `training.fit` does.
    """
    model.requires_grad_(False)
    torch.manual_seed(settings.seed)
    parts = MemGenModel(model, config)
    trained = parts.weaver_parameters()
    for parameter in trained:
        parameter.requires_grad_(True)

    def loss_at(step: int) -> Tensor:
        pairs = [pair for example in source.batch(step) for pair in example.questions]
        cut = [(prompt, answer[: settings.answer_length]) for prompt, answer in pairs]
        return weaving_loss(parts, decode, cut)

    identity = {"memgen": repr(config), "data": source.identity()}
    fit(trained, loss_at, settings, out, identity, report)
    parts.save(out)
    parts.remove()


def weaving_loss(parts: MemGenModel, decode: Callable[[list[int]], str], pairs: Sequence[Pair]) -> Tensor:
    """Mean cross-entropy of the answers' tokens, latents woven in before and inside them."""
    rows = [_Row(parts, prompt, answer, places(decode, answer, parts.config)) for prompt, answer in pairs]
    for stage in range(max(len(row.places) for row in rows)):
        live = [row for row in rows if stage < len(row.places)]
        for row in live:
            row.grow(row.places[stage])
        woven = weave_rows(parts, [row.embeds() for row in live], "inner" if stage else "prompt")
        for row, latents in zip(live, woven, strict=True):
            row.insert(latents)
    for row in rows:
        row.grow(len(row.answer))
    embeds, mask = _padded([row.embeds() for row in rows], left=False)
    hidden = parts.model.get_decoder()(
        inputs_embeds=embeds, attention_mask=mask, use_cache=False
    ).last_hidden_state
    found = torch.cat([hidden[index, row.sources()] for index, row in enumerate(rows)])
    wanted = torch.tensor([token for row in rows for token in row.answer], device=found.device)
    logits = parts.model.get_output_embeddings()(found).float()
    return nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED)


def places(decode: Callable[[list[int]], str], answer: Sequence[int], config: MemGenConfig) -> list[int]:
    """Where latents come: 0, the prompt's end, then after the answer's first tokens that end at a delimiter.

    The answer's last token ends it: nothing is woven after that.
    """
    inner = [
        count for count in range(1, len(answer)) if decode(list(answer[:count])).endswith(config.delimiters)
    ]
    return [0, *inner[: config.most]]


def weave_rows(parts: MemGenModel, rows: Sequence[Tensor], place: Place) -> Tensor:
    """Latents [rows, latents, width] for streams [tokens, width] of any lengths."""
    width = parts.config.latents
    embeds, mask = _padded(rows, left=True)
    mask = torch.cat([mask, mask.new_ones(len(rows), width)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with parts.acting("weaver"):
        hidden = parts.model.get_decoder()(
            inputs_embeds=parts.project(embeds, place),
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
    return parts.back(hidden[:, -width:])


class _Row:
    """One example's stream while latents are put in."""

    def __init__(
        self, parts: MemGenModel, prompt: Sequence[int], answer: Sequence[int], at: list[int]
    ) -> None:
        self._parts, self.answer, self.places = parts, list(answer), at
        self._pieces = [parts.embed(prompt)[0].detach()]
        self._length, self._done = len(prompt), 0
        self._sources: list[int] = []

    def grow(self, count: int) -> None:
        """Append the answer's tokens up to `count`."""
        new = self.answer[self._done : count]
        if new:
            self._sources += range(self._length - 1, self._length - 1 + len(new))
            self._append(self._parts.embed(new)[0].detach())
            self._done = count

    def insert(self, latents: Tensor) -> None:
        """Append latents [latents, width]."""
        self._append(latents)

    def _append(self, piece: Tensor) -> None:
        self._pieces.append(piece)
        self._length += len(piece)

    def embeds(self) -> Tensor:
        """The stream so far [tokens, width]."""
        return torch.cat(self._pieces)

    def sources(self) -> list[int]:
        """The position that predicts each answer token."""
        return self._sources


def _padded(rows: Sequence[Tensor], left: bool) -> tuple[Tensor, Tensor]:
    """Streams of different lengths as [rows, tokens, width], and their mask."""
    longest = max(len(row) for row in rows)
    embeds = torch.stack(
        [
            nn.functional.pad(row, (0, 0, *((longest - len(row), 0) if left else (0, longest - len(row)))))
            for row in rows
        ]
    )
    count = torch.tensor([len(row) for row in rows], device=embeds.device)[:, None]
    place = torch.arange(longest, device=embeds.device)
    mask = (place >= longest - count) if left else (place < count)
    return embeds, mask.long()
