"""Training the network: KL to the neighbours' distribution plus cross-entropy, the backbone frozen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from deltamem_eval import processes
from deltamem_eval.hashing import hash_json
from deltamem_eval.methods.mlp_memory.config import Distillation, MlpConfig
from deltamem_eval.methods.mlp_memory.lessons import Lesson, Lessons, StoreLessons
from deltamem_eval.methods.mlp_memory.model import MlpMemory, load_mlp
from deltamem_eval.methods.mlp_memory.targets import Targets, build_datastore
from deltamem_eval.methods.mlp_memory.tune import answer_costs, best_weight
from deltamem_eval.methods.training import Example, Report, TrainSettings, fit
from deltamem_eval.sharding import shard
from torch import Tensor, nn

_PLAIN = Distillation()
TEMPERATURE = _PLAIN.temperature
WEIGHT_FILE = "weight.json"


def train_mlp(
    model: Any,
    texts: Sequence[Sequence[int]],
    config: MlpConfig,
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
    *,
    tokens: int = _PLAIN.tokens,
    temperature: float = _PLAIN.temperature,
    alpha: float = _PLAIN.alpha,
    neighbours: int = _PLAIN.neighbours,
) -> MlpMemory:
    """Build the datastore from `texts` (token ids), train on its positions, and save to `out`.

    settings.batch: positions an update. tokens, temperature, alpha, neighbours: as in `Distillation`. Raises
    UserError as `training.fit` does.
    """
    model.requires_grad_(False)
    shard(model, ())
    store = build_datastore(model, texts, config.layer, tokens)
    lessons = StoreLessons(Targets(store, neighbours, temperature), settings.batch, settings.seed)
    data = hash_json([list(map(int, ids)) for ids in texts])
    identity = {"data": data, "distillation": [tokens, temperature, neighbours]}
    return fit_network(config, lessons, settings, out, identity, report, alpha, device=model.device)


def fit_network(
    config: MlpConfig,
    lessons: Lessons,
    settings: TrainSettings,
    out: Path,
    identity: dict[str, Any],
    report: Report = lambda _: None,
    alpha: float = _PLAIN.alpha,
    *,
    device: torch.device | str = "cpu",
) -> MlpMemory:
    """Train a network on lessons, and save it to `out`.

    identity: as in `training.fit`. Raises UserError as that does.
    """
    torch.manual_seed(settings.seed)
    memory = MlpMemory(config).to(device).train()

    def loss_at(step: int) -> Tensor:
        lesson = lessons.at(step)
        return distillation_loss(memory, lesson, alpha) * lesson.share

    identity = {**identity, "config": hash_json(str(config)), "alpha": alpha}
    fit(list(memory.parameters()), loss_at, settings, out, identity, report)
    processes.on_main(lambda: memory.save(out))
    return memory


def distillation_loss(memory: MlpMemory, lesson: Lesson, alpha: float) -> Tensor:
    """α·KL(p_kNN ‖ p_MLP) + (1 - α)·CE, means over a lesson's positions, up to the entropy of the targets.

    The targets stay sparse: KL is -Σ p(y) log q(y) over their tokens, less a constant.
    """
    device, count = memory.head.weight.device, len(lesson.states)
    logs = nn.functional.log_softmax(memory(lesson.states.to(device)).float(), -1)
    said = logs[lesson.places.to(device), lesson.tokens.to(device)]
    imitation = -(lesson.mass.to(device) * said).sum() / count
    language = nn.functional.nll_loss(logs, lesson.values.to(device))
    return alpha * imitation + (1 - alpha) * language


def tune_weight(model: Any, folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    """Choose λ on examples that were not trained on, and store it and what every λ costs in the folder.

    examples: their messages stand before their questions. Every process computes the same costs, and the main
    one stores them. Returns what is stored.
    """
    memory = load_mlp(folder).to(model.device)
    costs = answer_costs(model, memory, examples)
    chosen = best_weight(costs)
    memory.config = replace(memory.config, weight=chosen)
    record = {"answer_nll": {str(weight): cost for weight, cost in costs.items()}, "chosen": chosen}

    def store() -> None:
        memory.save(folder)
        (folder / WEIGHT_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    processes.on_main(store)
    return record
