"""Training of the embedded adapters: δ-mem's own training code, fed by a ladder of fresh episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from deltamem_eval.tasks.embedded.episodes import GENERATOR_VERSION, KINDS, Drawing, training_row

if TYPE_CHECKING:
    from deltamem_eval.methods.training import Example

LR, WARMUP = 5e-3, 0.03
# The first layer's queries come from single tokens, which never know what was asked; a gain of 0.05 leaves
# the plateau of the first rung twice as late.
LAYERS, GAIN = (1, 2, 3), 0.5
BOUND = tuple(kind for kind in KINDS if kind != "topics")  # those that bind a key to a value


@dataclass(frozen=True)
class Rung:
    """A stretch of training: how many updates, contexts an update, and what is drawn.

    longest: one is drawn for each update. windowed: share of updates whose questions follow the end of their
    context, up to half of it, as in a run with a window; those have windowed_questions questions.
    """

    updates: int
    batch: int
    drawing: Drawing
    longest: tuple[int, ...]
    windowed: float = 0.0
    windowed_questions: int = 4


# Trained on all wordings and values at once, every policy learns which values stand in a context and, for
# thousands of updates, not which key each belongs to. Between the same two values that choice earns nothing.
RUNGS = (
    Rung(700, 60, Drawing(BOUND, (2,), questions=2, values=2), (0,)),
    Rung(300, 40, Drawing(BOUND, (2, 3, 4), questions=4, values=4), (0,)),
    Rung(1000, 20, Drawing((*KINDS, "labels"), (2, 4, 4, 6, 8)), (80,)),
    Rung(500, 20, Drawing((*KINDS, "labels"), (2, 3, 4, 4, 6, 8)), (120, 240, 480), windowed=0.3),
)


class FreshEpisodes:
    """Training episodes drawn anew for every update: the same step gives the same episodes."""

    def __init__(self, encode: Callable[[str], list[int]], seed: int, rungs: Sequence[Rung] = RUNGS) -> None:
        self._encode, self._seed, self._rungs = encode, seed, rungs

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update."""
        rng = Random(f"adapter/{self._seed}/{step}")
        rung = self._rung(step)
        longest, windowed = rng.choice(rung.longest), rng.random() < rung.windowed
        drawing = replace(rung.drawing, questions=rung.windowed_questions) if windowed else rung.drawing
        return [self._example(rng, drawing, longest, windowed) for _ in range(rung.batch)]

    def _rung(self, step: int) -> Rung:
        for rung in self._rungs:
            if step < rung.updates:
                return rung
            step -= rung.updates
        return self._rungs[-1]

    def identity(self) -> str:
        """The generator's version and what it is asked for."""
        return json.dumps(["embedded", GENERATOR_VERSION, self._seed, [asdict(rung) for rung in self._rungs]])

    def _example(self, rng: Random, drawing: Drawing, longest: int, windowed: bool) -> Example:
        from deltamem_eval.methods.training import Example

        row = training_row(rng, longest, drawing)
        messages = tuple(tuple(self._encode(line)) for line in row["context"].splitlines(keepends=True))
        tokens = [token for message in messages for token in message]
        window = tokens[-rng.randint(1, len(tokens) // 2) :] if windowed else []
        questions = tuple(
            ((*window, *self._encode(question)), tuple(self._encode(f" {golds[0]}\n")))
            for question, golds in zip(row["questions"], row["answers"], strict=True)
        )
        return Example(messages, questions)


def train_adapter(
    policy: str, backbone: Path, out: Path, device: str, seed: int, rungs: Sequence[Rung] = RUNGS
) -> None:
    """Train one adapter on the frozen backbone by the code of `deltamem-eval train`; resumable."""
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.methods.delta_mem.method import POLICIES
    from deltamem_eval.methods.delta_mem.train import train
    from deltamem_eval.methods.training import CHECKPOINT, TrainSettings

    loaded = load_backbone(str(backbone), device, "float32")
    settings = TrainSettings(
        steps=sum(rung.updates for rung in rungs),
        batch=rungs[-1].batch,
        lr=LR,
        warmup=WARMUP,
        write_length=512,
        seed=seed,
        save_every=100,
    )

    def report(row: dict[str, Any]) -> None:
        if row["step"] % 25 == 0:
            print(json.dumps({"policy": policy, **row}), flush=True)

    config = replace(POLICIES[policy].adapter_config(), target_layers=LAYERS, online_gain=GAIN)
    train(loaded.model, config, FreshEpisodes(loaded.encode, seed, rungs), settings, out, report)
    (out / CHECKPOINT).unlink()
