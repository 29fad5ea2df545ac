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

POLICIES = ("multi-write", "token-write", "sequence-write")
LR, WARMUP, PARTS = 5e-3, 0.03, 4
# The first layer's queries come from single tokens, which never know what was asked.
LAYERS, GAIN = (1, 2, 3), 0.5


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


COUNTS = (2, 3, 4, 6, 8)
BOUND = tuple(kind for kind in KINDS if kind != "topics")  # those that bind a key to a value
LABELS = ("labels",) * 3  # learnt last: their questions share no word with what was said
WARM = Rung(300, 16, Drawing((*BOUND, *LABELS), COUNTS, questions=10), (120,))


DRAWN = Drawing((*KINDS, *LABELS), COUNTS)
# Every policy and every baseline sees these same episodes. Questions beside a window are among them, or what
# is read from the state disturbs the copying that the window alone allows.
RUNGS = (
    Rung(1080, 20, DRAWN, (80,), windowed=0.25),
    Rung(240, 16, DRAWN, (120, 240, 460), windowed=0.5),
)


class FreshEpisodes:
    """Training episodes drawn anew for every update: the same step gives the same episodes.

    in_prompt: the messages are what stands in the prompt, the context or its end, and questions follow it.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        seed: int,
        rungs: Sequence[Rung],
        in_prompt: bool = False,
    ) -> None:
        self._encode, self._seed, self._rungs, self._in_prompt = encode, seed, rungs, in_prompt

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
        rungs = [asdict(rung) for rung in self._rungs]
        return json.dumps(["embedded", GENERATOR_VERSION, self._seed, self._in_prompt, rungs])

    def _example(self, rng: Random, drawing: Drawing, longest: int, windowed: bool) -> Example:
        from deltamem_eval.methods.training import Example

        row = training_row(rng, longest, drawing)
        lines = row["context"].splitlines(keepends=True)
        messages = tuple(tuple(self._encode(line)) for line in lines)
        tokens = [token for message in messages for token in message]
        window = tokens[-rng.randint(1, len(tokens) // 2) :] if windowed else []
        questions = tuple(
            ((*window, *self._encode(question)), tuple(self._encode(f" {golds[0]}\n")))
            for question, golds in zip(row["questions"], row["answers"], strict=True)
        )
        if self._in_prompt:
            skipped = len(window)
            alone = tuple((prompt[skipped:], answer) for prompt, answer in questions)
            return Example((tuple(window or tokens),), alone)
        evidence = tuple(tuple(map(lines.index, passages)) for passages in row["metadata"]["evidence"])
        return Example(messages, questions, evidence)


def train_adapter(
    policy: str,
    backbone: Path,
    out: Path,
    device: str,
    seed: int,
    rungs: Sequence[Rung] = RUNGS,
    warm: Rung = WARM,
) -> None:
    """Train one adapter on the frozen backbone by the code of `deltamem-eval train`; resumable."""
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.methods.delta_mem.method import POLICIES as METHODS
    from deltamem_eval.methods.delta_mem.train import train
    from deltamem_eval.methods.delta_mem.warm_start import WarmStart
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
        parts=PARTS,
        backbone=loaded.weights,
    )

    def report(row: dict[str, Any]) -> None:
        if row["step"] % 25 == 0:
            print(json.dumps({"policy": policy, **row}), flush=True)

    config = replace(METHODS[policy].adapter_config(), target_layers=LAYERS, online_gain=GAIN)
    start = FreshEpisodes(loaded.encode, seed + 1, (warm,)), WarmStart(updates=warm.updates)
    train(loaded.model, config, FreshEpisodes(loaded.encode, seed, rungs), settings, out, report, start)
    (out / CHECKPOINT).unlink()
