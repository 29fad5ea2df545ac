"""Training MemGen's weaver: cross-entropy on the answer through the frozen reasoner (arXiv 2509.24704).

Latents are woven at the prompt's end and at the first delimiters inside the answer; what follows a weave is
predicted from its last latent. The trigger is not trained (the authors do so by reinforcement learning):
its parameters are saved as they were drawn and counted, and a folder made here weaves at every place. Unlike
the authors' adapters these have no dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from deltamem_eval import processes
from deltamem_eval.methods.memgen.config import MemGenConfig, Place
from deltamem_eval.methods.memgen.model import MemGenModel
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
from deltamem_eval.sharding import refuse_sharding
from torch import Tensor


def train_memgen(
    model: Any,
    decode: Callable[[list[int]], str],
    config: MemGenConfig,
    source: Source,
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
) -> None:
    """Train a weaver on `source`, whose messages stand in the prompt, and save it to `out`.

    Raises UserError as `training.fit` does, and where the backbone is to be shared out: how often latents are
    woven in, and so the number of forwards, depends on a process's answers. The model is left as it was.
    """
    refuse_sharding("memgen")
    model.requires_grad_(False)
    torch.manual_seed(settings.seed)
    parts = MemGenModel(model, config)
    trained = parts.weaver_parameters()
    for parameter in trained:
        parameter.requires_grad_(True)

    def loss_at(step: int) -> Losses:
        return in_turn(
            in_parts(source.batch(step), settings),
            lambda group: weaving_loss(parts, decode, group, settings.answer_length),
            settings,
        )

    identity = {"memgen": repr(config), "data": source.identity()}
    try:
        fit(trained, loss_at, settings, out, identity, report)
        processes.on_main(lambda: parts.save(out))
    finally:
        parts.remove()


def weaving_loss(
    parts: MemGenModel,
    decode: Callable[[list[int]], str],
    examples: Sequence[Example],
    answer_length: int = TrainSettings.answer_length,
) -> Tensor:
    """Mean cross-entropy of the answers' tokens, latents woven in before and inside them.

    An example's messages stand before each of its questions.
    """
    rows = [
        [_Row(parts, prompt, answer[:answer_length], decode) for prompt, answer in example.questions]
        for example in examples
    ]
    trunks = [embedded(parts.model, list(chain(*example.messages))) for example in examples]
    for stage in range(max(len(row.places) for row in chain(*rows))):
        live = [[row for row in listed if stage < len(row.places)] for listed in rows]
        for row in chain(*live):
            row.grow(row.places[stage])
        streams = [
            Tree(trunk, tuple(row.embeds() for row in listed))
            for trunk, listed in zip(trunks, live, strict=True)
            if listed
        ]
        woven = weave(parts, streams, "inner" if stage else "prompt")
        for row, latents in zip(chain(*live), woven, strict=True):
            row.insert(latents)
    for row in chain(*rows):
        row.grow(len(row.answer))
    trees = [
        Tree(trunk, tuple(row.embeds() for row in listed)) for trunk, listed in zip(trunks, rows, strict=True)
    ]
    states = chain(*branch_states(parts.model, trees))
    found = torch.cat([hidden[row.sources] for hidden, row in zip(states, chain(*rows), strict=True)])
    return answers_loss(parts.model, found, [token for row in chain(*rows) for token in row.answer])


def places(decode: Callable[[list[int]], str], answer: Sequence[int], config: MemGenConfig) -> list[int]:
    """Where latents come: 0, the prompt's end, then after the answer's first tokens that end at a delimiter.

    The answer's last token ends it: nothing is woven after that.
    """
    inner = [
        count for count in range(1, len(answer)) if decode(list(answer[:count])).endswith(config.delimiters)
    ]
    return [0, *inner[: config.most]]


def weave(parts: MemGenModel, streams: Sequence[Tree], place: Place) -> list[Tensor]:
    """Latents [latents, width] for every branch of the streams so far, in order."""
    count = parts.config.latents
    trees = [
        Tree(
            parts.project(tree.trunk[None], place)[0, :-count],
            tuple(parts.project(branch[None], place)[0] for branch in tree.branches),
        )
        for tree in streams
    ]
    with parts.acting("weaver"):
        states = branch_states(parts.model, trees)
    return [parts.back(hidden[-count:]) for hidden in chain(*states)]


class _Row:
    """One question's stream, without what stands before it, while latents are put in.

    places: where they come. sources: for each answer token so far, the position in the stream that predicts
    it.
    """

    def __init__(
        self,
        parts: MemGenModel,
        prompt: Sequence[int],
        answer: Sequence[int],
        decode: Callable[[list[int]], str],
    ) -> None:
        self._parts, self.answer = parts, list(answer)
        self.places = places(decode, answer, parts.config)
        self.sources: list[int] = []
        self._pieces = [embedded(parts.model, prompt)]
        self._length, self._done = len(prompt), 0

    def grow(self, count: int) -> None:
        """Append the answer's tokens up to `count`."""
        new = self.answer[self._done : count]
        if new:
            self.sources += range(self._length - 1, self._length - 1 + len(new))
            self.insert(embedded(self._parts.model, new))
            self._done = count

    def insert(self, piece: Tensor) -> None:
        """Append embeddings [tokens, width]."""
        self._pieces.append(piece)
        self._length += len(piece)

    def embeds(self) -> Tensor:
        """The stream so far [tokens, width]."""
        return torch.cat(self._pieces)
