"""Training of the embedded baselines on the adapters' own episodes, with a sweep of learning rates each."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltamem_eval.embedded_adapters import PARTS, RUNGS, WARM, WARMUP, FreshEpisodes, Rung
from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.training import Example, TrainSettings

BASELINES = ("context2lora", "memgen", "mlp-memory", "llmlingua2")
SWEEP = "sweep.json"
# A sweep's trainings: few contexts an update, so that many updates cost little, of both rungs.
SWEEP_RUNGS = tuple(
    replace(rung, updates=updates, batch=5) for rung, updates in zip(RUNGS, (120, 40), strict=True)
)
# MemGen's latents do harm before they help: shorter trainings favour the rate that learns to do nothing.
SWEPT_LONGER = {"memgen": 3}
RATES = {
    "memgen": (1e-3, 3e-3, 1e-2),
    "context2lora": (1e-3, 3e-3, 1e-2),
    "mlp-memory": (1e-3, 3e-3, 1e-2),
    "llmlingua2": (3e-4, 1e-3, 3e-3),
}
STEP, MORE = 3.0, 2  # while the best of a sweep is at its end, so many rates more, each by this factor
# MLP Memory's datastore is a text of every second update, which spreads it over all stretches. The paper's
# temperature is for keys whose squared distances are in the hundreds; here the nearest are at 1 to 10.
STORED, DATASTORE, TEMPERATURE = 2, 200_000, 2.0
NEIGHBOURS, CELLS, PROBES = 128, 512, 3

Train = Callable[[float, bool, Path], None]
Judge = Callable[[Path], float]


def train_baseline(name: str, weights: Path, out: Path, device: str, seed: int) -> None:
    """Sweep the learning rate on training seeds, then train one baseline; `out` holds weights and logs."""
    import torch
    from deltamem_eval.backbone import load_backbone

    torch.set_num_threads(1)
    backbone = load_backbone(str(weights), device, "float32")
    _TRAINERS[name](backbone, out, seed)
    (out / "checkpoint.pt").unlink(missing_ok=True)


def train_swept(name: str, train: Train, judge: Judge, out: Path, **facts: float) -> None:
    """Train at the rate whose short training gave the least loss on held-out training episodes.

    train: at a rate, whole (True) or short. All rates' losses and the whole training's are recorded in `out`,
    and what else is to be told of the part.
    """

    def tried(rate: float) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                train(rate, False, Path(scratch))
                loss = judge(Path(scratch))
            except UserError:  # it diverged
                loss = math.inf
        print(json.dumps({"part": name, "rate": rate, "held_out_loss": loss}), flush=True)
        return loss

    began = time.perf_counter()
    losses = sweep(RATES[name], tried)
    best = min(losses, key=lambda rate: losses[rate])
    record: dict[str, Any] = {
        "held_out_loss": {f"{rate:g}": None if math.isinf(loss) else loss for rate, loss in losses.items()},
        "chosen": best,
        "seconds": round(time.perf_counter() - began, 1),
        **facts,
    }
    train(best, True, out)
    record["held_out_loss_trained"] = judge(out)
    (out / SWEEP).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def sweep(rates: Sequence[float], tried: Callable[[float], float]) -> dict[float, float]:
    """The loss of every rate, and of up to MORE beyond an end while the best one stands there."""
    losses = {rate: tried(rate) for rate in rates}
    for _ in range(MORE):
        best = min(losses, key=lambda rate: losses[rate])
        if min(losses) < best < max(losses):
            break
        further = float(f"{best * STEP if best == max(losses) else best / STEP:.1g}")
        losses[further] = tried(further)
    return dict(sorted(losses.items()))


class AdapterEpisodes:
    """Every episode of an adapter's training in its order, warm start first.

    in_prompt: the contexts, or their ends where questions follow a window, are what stands in the prompt.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        seed: int,
        warm: Rung,
        rungs: Sequence[Rung],
        in_prompt: bool = True,
    ) -> None:
        self._first = FreshEpisodes(encode, seed + 1, (warm,), in_prompt)
        self._then = FreshEpisodes(encode, seed, rungs, in_prompt)
        self._warm = warm.updates
        self.updates = warm.updates + sum(rung.updates for rung in rungs)

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update."""
        return self._first.batch(step) if step < self._warm else self._then.batch(step - self._warm)

    def identity(self) -> str:
        """Both parts' identities."""
        return json.dumps([self._first.identity(), self._warm, self._then.identity()])


def _settings(backbone: Backbone, rate: float, updates: int, seed: int) -> TrainSettings:
    from deltamem_eval.methods.training import TrainSettings

    return TrainSettings(
        steps=updates,
        batch=RUNGS[-1].batch,
        lr=rate,
        warmup=WARMUP,
        seed=seed,
        save_every=100,
        parts=PARTS,
        backbone=backbone.weights,
    )


def _report(name: str) -> Callable[[dict[str, Any]], None]:
    def report(row: dict[str, Any]) -> None:
        if row["step"] % 25 == 0:
            print(json.dumps({"part": name, **row}), flush=True)

    return report


def _short(
    name: str, encode: Callable[[str], list[int]], seed: int, in_prompt: bool = True
) -> AdapterEpisodes:
    """The episodes of a sweep's trainings, which no other training draws."""
    times = SWEPT_LONGER.get(name, 1)
    first, *others = (replace(rung, updates=times * rung.updates) for rung in SWEEP_RUNGS)
    return AdapterEpisodes(encode, seed + 3, first, others, in_prompt)


def _held_out(backbone: Backbone, seed: int, in_prompt: bool = True) -> list[Example]:
    """Training episodes that no training draws, short and long ones."""
    source = FreshEpisodes(backbone.encode, seed + 2, RUNGS, in_prompt)
    first = sum(rung.updates for rung in RUNGS[:-1])
    return [item for step in (0, 1, first, first + 1) for item in source.batch(step)]


def _memgen(backbone: Backbone, out: Path, seed: int) -> None:
    import torch
    from deltamem_eval.methods.memgen.config import MemGenConfig
    from deltamem_eval.methods.memgen.model import load_memgen
    from deltamem_eval.methods.memgen.train import train_memgen, weaving_loss

    config = MemGenConfig(hidden=backbone.shape().hidden)
    sources = _short("memgen", backbone.encode, seed), AdapterEpisodes(backbone.encode, seed, WARM, RUNGS)
    held_out = _held_out(backbone, seed)

    def train(rate: float, whole: bool, folder: Path) -> None:
        source = sources[whole]
        settings = _settings(backbone, rate, source.updates, seed)
        train_memgen(backbone.model, backbone.decode, config, source, settings, folder, _report("memgen"))

    def judge(folder: Path) -> float:
        parts = load_memgen(backbone.model, folder)
        try:
            with torch.no_grad():
                return float(weaving_loss(parts, backbone.decode, held_out))
        finally:
            parts.remove()

    train_swept("memgen", train, judge, out, held_out_loss_untrained=_untrained(backbone, held_out))


def _context2lora(backbone: Backbone, out: Path, seed: int) -> None:
    import torch
    from deltamem_eval.methods.context2lora.lora import Lora
    from deltamem_eval.methods.context2lora.method import Context2Lora
    from deltamem_eval.methods.context2lora.train import reading_loss, train_static

    rank, targets = Context2Lora.defaults["rank"], tuple(Context2Lora.defaults["targets"].split(","))
    sources = (
        _short("context2lora", backbone.encode, seed),
        AdapterEpisodes(backbone.encode, seed, WARM, RUNGS),
    )
    held_out = _held_out(backbone, seed)

    def train(rate: float, whole: bool, folder: Path) -> None:
        source = sources[whole]
        settings = _settings(backbone, rate, source.updates, seed)
        train_static(backbone.model, rank, targets, source, settings, folder, _report("context2lora"))

    def judge(folder: Path) -> float:
        lora = Lora.load(backbone.model, folder)
        try:
            with torch.no_grad():
                return float(reading_loss(backbone.model, held_out, 512))
        finally:
            lora.remove()

    train_swept("context2lora", train, judge, out, held_out_loss_untrained=_untrained(backbone, held_out))


def _untrained(backbone: Backbone, held_out: Sequence[Example]) -> float:
    """The loss of the backbone alone on held-out episodes."""
    import torch
    from deltamem_eval.methods.context2lora.train import reading_loss

    with torch.no_grad():
        return float(reading_loss(backbone.model, held_out, 512))


def texts_of(backbone: Backbone, examples: Sequence[Example]) -> list[tuple[int, ...]]:
    """Each example's context followed by its questions and answers, as the backbone's positions hold it."""
    whole = (chain(*example.messages, *chain(*example.questions)) for example in examples)
    return [tuple(text)[: backbone.positions] for text in whole]


def _mlp_memory(backbone: Backbone, out: Path, seed: int) -> None:
    from deltamem_eval.methods.mlp_memory.cells import Cells
    from deltamem_eval.methods.mlp_memory.config import MlpConfig, layer_at
    from deltamem_eval.methods.mlp_memory.lessons import FreshLessons
    from deltamem_eval.methods.mlp_memory.model import load_mlp
    from deltamem_eval.methods.mlp_memory.targets import build_datastore
    from deltamem_eval.methods.mlp_memory.train import fit_network, tune_weight
    from deltamem_eval.methods.mlp_memory.tune import answer_costs, best_weight

    shape = backbone.shape()
    config = MlpConfig(shape.hidden, shape.intermediate, shape.layers, shape.vocab, layer_at(shape.layers))
    every = AdapterEpisodes(backbone.encode, seed, WARM, RUNGS)
    sources = _short("mlp-memory", backbone.encode, seed), every
    stored = [texts_of(backbone, every.batch(step)[:1])[0] for step in range(0, every.updates, STORED)]
    store = build_datastore(backbone.model, stored, config.layer, DATASTORE)
    cells = Cells(store.keys, CELLS, seed)
    held_out = _held_out(backbone, seed)
    how = {"neighbours": NEIGHBOURS, "probes": PROBES, "temperature": TEMPERATURE}

    def train(rate: float, whole: bool, folder: Path) -> None:
        source = sources[whole]
        lessons = FreshLessons(
            backbone.model,
            config.layer,
            store,
            cells,
            lambda step: texts_of(backbone, source.batch(step)),
            neighbours=NEIGHBOURS,
            probes=PROBES,
            temperature=TEMPERATURE,
        )
        identity = {"data": source.identity(), "store": [STORED, DATASTORE, CELLS], **how}
        settings = _settings(backbone, rate, source.updates, seed)
        fit_network(
            config, lessons, settings, folder, identity, _report("mlp-memory"), device=backbone.model.device
        )

    def judge(folder: Path) -> float:
        costs = answer_costs(backbone.model, load_mlp(folder), held_out)
        return costs[best_weight(costs)]  # of mixing at all: without, all fits cost the same

    train_swept(
        "mlp-memory",
        train,
        judge,
        out,
        held_out_loss_untrained=_untrained(backbone, held_out),
        datastore=len(store.keys),
        **how,
    )
    tune_weight(backbone.model, out, held_out)


def _llmlingua2(backbone: Backbone, out: Path, seed: int) -> None:
    from deltamem_eval.embedded_compressor import classifier_loss, train_classifier

    whole_contexts = AdapterEpisodes(backbone.encode, seed, WARM, RUNGS, in_prompt=False)
    sources = _short("llmlingua2", backbone.encode, seed, in_prompt=False), whole_contexts
    held_out = contexts_of(backbone, _held_out(backbone, seed, in_prompt=False))

    def train(rate: float, whole: bool, folder: Path) -> None:
        source = sources[whole]

        def texts(step: int) -> list[str]:
            return contexts_of(backbone, source.batch(step))

        settings = replace(_settings(backbone, rate, source.updates, seed), backbone="")  # its texts alone
        train_classifier(texts, source.identity(), settings, folder, _report("llmlingua2"))

    def judge(folder: Path) -> float:
        return classifier_loss(folder, held_out)

    train_swept("llmlingua2", train, judge, out)


def contexts_of(backbone: Backbone, examples: Sequence[Example]) -> list[str]:
    """The examples' contexts as text."""
    return [backbone.decode(list(chain(*example.messages))) for example in examples]


_TRAINERS = {
    "memgen": _memgen,
    "context2lora": _context2lora,
    "mlp-memory": _mlp_memory,
    "llmlingua2": _llmlingua2,
}
