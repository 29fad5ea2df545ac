"""What launched processes do in the tests of training together, `together.py OUT METHOD...`, and its rows.

Every method's trainer, each into a folder of its name; then token-write, interrupted before its third update,
into `stopped`. A process writes how much it holds of the decoder's matrices into `held-RANK`. Several
processes accumulate the gradients of their groups, one holds all groups until the end.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from deltamem_eval import processes
from deltamem_eval.backbone import Backbone
from deltamem_eval.methods.delta_mem import DeltaMemConfig, detach
from deltamem_eval.methods.delta_mem.train import train
from deltamem_eval.methods.examples import examples_from_rows
from deltamem_eval.methods.training import Example, Fixed, TrainSettings
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from deltamem_eval.trainers import TRAINERS
from tiny import tiny_backbone
from torch.distributed.tensor import DTensor

SETTINGS = TrainSettings(steps=4, batch=5, lr=1e-3, write_length=64, save_every=2, parts=2)


def rows() -> list[dict[str, Any]]:
    """Contexts and answers of unlike length, one question or two: no process has the mean's share."""
    return [
        {
            "context": "".join(f"fact {n} is {37 * n * index}.\n" for n in range(2 + index)),
            "questions": ["What is fact 1?", "And fact 2?"][: 1 + index % 2],
            "answers": [[str(index)], [str(3737 * index)]][: 1 + index % 2],
            "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b"][: 1 + index % 2]},
        }
        for index in range(5)
    ]


def settings() -> TrainSettings:
    """Those of this process, or of the several that it is one of."""
    return replace(SETTINGS, accumulate=processes.size() > 1)


def fresh() -> Backbone:
    """A tiny backbone of its own: one whose layers are shared out stays so.

    In double precision: Adam turns the rounding of a gradient near zero into a whole step.
    """
    backbone = tiny_backbone()
    return Backbone(copy.deepcopy(backbone.model).double(), backbone.tokenizer, "tiny", "tiny")


@contextmanager
def doubles() -> Iterator[None]:
    """Within the block, what is trained is made in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def train_on(backbone: Backbone, name: str, out: Path) -> None:
    """Train a method on the rows."""
    episodes = [episode_from_row(row, split="t", index=index) for index, row in enumerate(rows())]
    with nullcontext() if name == "mlp-memory" else doubles():  # its datastore holds single precision
        TRAINERS[name](backbone, episodes, settings(), out, lambda _: None)
    detach(backbone.model)


def train_all(out: Path, methods: Sequence[str]) -> None:
    """Train each method on the rows, from the same tiny backbone."""
    for name in methods:
        backbone = fresh()
        train_on(backbone, name, out / name)
        (out / f"held-{processes.rank()}").write_text(str(held(backbone)))


def held(backbone: Backbone) -> int:
    """Numbers of the decoder's matrices that this process holds."""
    own = [item for item in backbone.model.get_decoder().layers.parameters() if item.dim() > 1]
    return sum((item.to_local() if isinstance(item, DTensor) else item).numel() for item in own)


class Stopping(Fixed):
    """A source that ends the training before its third update."""

    def batch(self, step: int) -> Sequence[Example]:
        """As Fixed, up to there."""
        if step == 2:
            raise KeyboardInterrupt
        return super().batch(step)


def token_write(out: Path, kind: type[Fixed]) -> None:
    """Train token-write on the rows as a source of some kind hands them out."""
    backbone = fresh()
    episodes = [episode_from_row(row, split="t", index=index) for index, row in enumerate(rows())]
    source = kind(examples_from_rows(backbone, episodes), SETTINGS.batch, SETTINGS.seed)
    with doubles(), suppress(KeyboardInterrupt):
        train(backbone.model, DeltaMemConfig(), source, settings(), out)
    detach(backbone.model)


def main() -> None:
    """Join the others, and do it."""
    processes.start("cpu")
    out = Path(sys.argv[1])
    train_all(out, sys.argv[2:])
    token_write(out / "stopped", Stopping)


if __name__ == "__main__":
    main()
