"""Makes everything the embedded default ships: tokenizer, backbone, adapters, and the model card."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from deltamem_eval.tasks.embedded.episodes import training_row
from deltamem_eval.tasks.embedded.pretrain import pretrain

if TYPE_CHECKING:
    from deltamem_eval.methods.delta_mem.train import Example

POLICIES = ("token-write", "sequence-write", "multi-write")
STEPS, BATCH, QUESTIONS, LR, WARMUP = 1500, 20, 12, 5e-3, 0.03
LONGEST = 240


class FreshEpisodes:
    """Training episodes drawn anew for every update: the same step gives the same episodes."""

    def __init__(self, encode: Callable[[str], list[int]], seed: int, batch: int = BATCH) -> None:
        self._encode, self._seed, self._batch = encode, seed, batch

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update."""
        rng = Random(f"adapter/{self._seed}/{step}")
        return [self._example(rng) for _ in range(self._batch)]

    def _example(self, rng: Random) -> Example:
        from deltamem_eval.methods.delta_mem.train import Example

        row = training_row(rng, LONGEST, QUESTIONS)
        messages = tuple(tuple(self._encode(line)) for line in row["context"].splitlines(keepends=True))
        questions = tuple(
            (tuple(self._encode(question)), tuple(self._encode(f" {golds[0]}\n")))
            for question, golds in zip(row["questions"], row["answers"], strict=True)
        )
        return Example(messages, questions)


def train_adapter(policy: str, backbone: Path, out: Path, device: str, seed: int, steps: int = STEPS) -> None:
    """Train one adapter on the frozen backbone by the code of `deltamem-eval train`."""
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.methods.delta_mem.method import POLICIES as CLASSES
    from deltamem_eval.methods.delta_mem.train import CHECKPOINT, TrainSettings, train

    loaded = load_backbone(str(backbone), device, "float32")
    settings = TrainSettings(
        steps=steps, batch=BATCH, lr=LR, warmup=WARMUP, write_length=512, seed=seed, save_every=100
    )

    def report(row: dict[str, Any]) -> None:
        if row["step"] % 25 == 0:
            print(json.dumps({"policy": policy, **row}), flush=True)

    source = FreshEpisodes(loaded.encode, seed)
    train(loaded.model, CLASSES[policy].adapter_config(), source, settings, out, report)
    (out / CHECKPOINT).unlink()


def build(out: Path, device: str, seed: int, only: Sequence[str]) -> None:
    """Make what `only` names: backbone first, then adapters; it replaces what was there."""
    if "backbone" in only:
        shutil.rmtree(out / "backbone", ignore_errors=True)
        pretrain(out / "backbone", device, seed)
    for policy in POLICIES:
        if policy in only:
            train_adapter(policy, out / "backbone", out / policy, device, seed)


def main() -> None:
    """Command line: `python -m deltamem_eval.tasks.embedded.build --out DIR`."""
    from deltamem_eval.tasks.embedded.pretrain import SEED

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=["backbone", *POLICIES])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    build(arguments.out, arguments.device, arguments.seed, arguments.only)


if __name__ == "__main__":
    main()
