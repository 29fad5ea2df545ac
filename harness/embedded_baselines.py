"""Training of the embedded baselines on the adapters' own episodes, with a small sweep of learning rates."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltamem_eval.embedded_adapters import PARTS, RUNGS, WARMUP, FreshEpisodes, Rung

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.training import Example, TrainSettings

BASELINES = ("context2lora", "memgen", "mlp-memory")
SWEEP, SWEEP_UPDATES = "sweep.json", 16
RATES = {"memgen": (1e-3, 3e-3, 1e-2), "context2lora": (5e-4, 2e-3, 8e-3), "mlp-memory": (1e-3, 3e-3, 1e-2)}
CORPUS_UPDATES = 60  # of the same episodes: about as many tokens as the datastore holds
MLP_UPDATES, MLP_POSITIONS, MLP_NEIGHBOURS, DATASTORE = 500, 256, 256, 100_000

# The adapters' episodes in their order, but fewer of them: with the context in the prompt an update takes two
# (Context2LoRA) and five times (MemGen) as long, and the backbone can already read prompts. The held-out loss
# of the short trainings and of the whole one is on record beside the weights.
STATIC_RUNGS = tuple(replace(rung, updates=rung.updates // 5) for rung in RUNGS["token-write"])
WEAVER_RUNGS = tuple(replace(rung, updates=rung.updates // 11) for rung in RUNGS["token-write"])

Train = Callable[[float, int, Path], None]
Judge = Callable[[Path], float]


def train_baseline(name: str, weights: Path, out: Path, device: str, seed: int) -> None:
    """Sweep the learning rate on training seeds, then train one baseline; `out` holds weights and logs."""
    import torch
    from deltamem_eval.backbone import load_backbone

    torch.set_num_threads(1)
    backbone = load_backbone(str(weights), device, "float32")
    _TRAINERS[name](backbone, out, seed)
    (out / "checkpoint.pt").unlink(missing_ok=True)


def train_swept(name: str, train: Train, judge: Judge, updates: int, out: Path) -> None:
    """Train at the rate whose short training gave the least loss on held-out training episodes.

    All rates' losses and the whole training's are recorded in `out`.
    """
    losses, began = {}, time.perf_counter()
    for rate in RATES[name]:
        with tempfile.TemporaryDirectory() as scratch:
            train(rate, SWEEP_UPDATES, Path(scratch))
            losses[rate] = judge(Path(scratch))
        print(json.dumps({"part": name, "rate": rate, "held_out_loss": losses[rate]}), flush=True)
    best = min(losses, key=lambda rate: losses[rate])
    record: dict[str, Any] = {
        "updates": SWEEP_UPDATES,
        "held_out_loss": {str(rate): loss for rate, loss in losses.items()},
        "chosen": best,
        "seconds": round(time.perf_counter() - began, 1),
    }
    train(best, updates, out)
    record["held_out_loss_trained"] = judge(out)
    (out / SWEEP).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _settings(rate: float, updates: int, rungs: Sequence[Rung], seed: int) -> TrainSettings:
    from deltamem_eval.methods.training import TrainSettings

    return TrainSettings(
        steps=updates,
        batch=rungs[-1].batch,
        lr=rate,
        warmup=WARMUP,
        seed=seed,
        save_every=100,
        parts=PARTS,
    )


def _report(name: str) -> Callable[[dict[str, Any]], None]:
    def report(row: dict[str, Any]) -> None:
        if row["step"] % 25 == 0:
            print(json.dumps({"part": name, **row}), flush=True)

    return report


def _held_out(backbone: Backbone, rungs: Sequence[Rung], seed: int) -> list[Example]:
    """Training episodes that no training draws, short and long ones."""
    source = FreshEpisodes(backbone.encode, seed + 2, rungs, in_prompt=True)
    first = sum(rung.updates for rung in rungs[:-1])
    return [item for step in (0, 1, first, first + 1) for item in source.batch(step)]


def _memgen(backbone: Backbone, out: Path, seed: int) -> None:
    import torch
    from deltamem_eval.methods.memgen.config import MemGenConfig
    from deltamem_eval.methods.memgen.model import load_memgen
    from deltamem_eval.methods.memgen.train import train_memgen, weaving_loss

    config = MemGenConfig(hidden=backbone.shape().hidden)
    source = FreshEpisodes(backbone.encode, seed, WEAVER_RUNGS, in_prompt=True)
    held_out = _held_out(backbone, WEAVER_RUNGS, seed)

    def train(rate: float, updates: int, folder: Path) -> None:
        settings = _settings(rate, updates, WEAVER_RUNGS, seed)
        train_memgen(backbone.model, backbone.decode, config, source, settings, folder, _report("memgen"))

    def judge(folder: Path) -> float:
        parts = load_memgen(backbone.model, folder)
        try:
            with torch.no_grad():
                return float(weaving_loss(parts, backbone.decode, held_out))
        finally:
            parts.remove()

    train_swept("memgen", train, judge, sum(rung.updates for rung in WEAVER_RUNGS), out)


def _context2lora(backbone: Backbone, out: Path, seed: int) -> None:
    import torch
    from deltamem_eval.methods.context2lora.lora import Lora
    from deltamem_eval.methods.context2lora.method import Context2Lora
    from deltamem_eval.methods.context2lora.train import reading_loss, train_static

    rank, targets = Context2Lora.defaults["rank"], tuple(Context2Lora.defaults["targets"].split(","))
    source = FreshEpisodes(backbone.encode, seed, STATIC_RUNGS, in_prompt=True)
    held_out = _held_out(backbone, STATIC_RUNGS, seed)

    def train(rate: float, updates: int, folder: Path) -> None:
        settings = _settings(rate, updates, STATIC_RUNGS, seed)
        train_static(backbone.model, rank, targets, source, settings, folder, _report("context2lora"))

    def judge(folder: Path) -> float:
        lora = Lora.load(backbone.model, folder)
        try:
            with torch.no_grad():
                return float(reading_loss(backbone.model, held_out, 512))
        finally:
            lora.remove()

    train_swept("context2lora", train, judge, sum(rung.updates for rung in STATIC_RUNGS), out)


def corpus(backbone: Backbone, seed: int) -> list[tuple[int, ...]]:
    """Contexts followed by their questions and answers, from the first updates' episodes of every rung."""
    source = FreshEpisodes(backbone.encode, seed, STATIC_RUNGS, in_prompt=True)
    first = STATIC_RUNGS[0].updates
    steps = chain(range(CORPUS_UPDATES // 2), range(first, first + CORPUS_UPDATES // 2))
    return [
        tuple(chain(*example.messages, *chain(*example.questions)))[: backbone.positions]
        for step in steps
        for example in source.batch(step)
    ]


def _mlp_memory(backbone: Backbone, out: Path, seed: int) -> None:
    from deltamem_eval.methods.mlp_memory.config import MlpConfig, layer_at
    from deltamem_eval.methods.mlp_memory.model import load_mlp
    from deltamem_eval.methods.mlp_memory.train import train_mlp, tune_weight
    from deltamem_eval.methods.mlp_memory.tune import answer_costs

    shape = backbone.shape()
    config = MlpConfig(shape.hidden, shape.intermediate, shape.layers, shape.vocab, layer_at(shape.layers))
    texts = corpus(backbone, seed)
    held_out = _held_out(backbone, STATIC_RUNGS, seed)

    def train(rate: float, updates: int, folder: Path) -> None:
        settings = replace(_settings(rate, updates, STATIC_RUNGS, seed), batch=MLP_POSITIONS)
        train_mlp(
            backbone.model,
            texts,
            config,
            settings,
            folder,
            _report("mlp-memory"),
            tokens=DATASTORE,
            neighbours=MLP_NEIGHBOURS,
        )

    def judge(folder: Path) -> float:
        return min(answer_costs(backbone.model, load_mlp(folder), held_out).values())

    train_swept("mlp-memory", train, judge, MLP_UPDATES, out)
    tune_weight(backbone.model, out, held_out)


_TRAINERS = {"memgen": _memgen, "context2lora": _context2lora, "mlp-memory": _mlp_memory}
