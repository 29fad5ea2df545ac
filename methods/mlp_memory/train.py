"""Training the network: KL to the neighbours' distribution plus cross-entropy, the backbone frozen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from deltamem_eval import processes
from deltamem_eval.hashing import hash_json
from deltamem_eval.methods.mlp_memory.config import Distillation, MlpConfig
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
    targets: Targets | None = None,
) -> MlpMemory:
    """Build the datastore from `texts` (token ids), train, and save to `out`.

    settings.batch: positions an update. tokens, temperature, alpha, neighbours: as in `Distillation`.
    targets: those of an earlier training on the same texts with the same settings of the store, which then
    is not built again. Raises UserError as `training.fit` does.
    """
    model.requires_grad_(False)
    shard(model, ())
    if targets is None:
        targets = Targets(build_datastore(model, texts, config.layer, tokens), neighbours, temperature)
    known, store = targets, targets.store
    torch.manual_seed(settings.seed)
    memory = MlpMemory(config).to(model.device).train()

    def loss_at(step: int) -> Tensor:
        rows = Random(f"mlp-memory/{settings.seed}/{step}").sample(
            range(len(store.keys)), min(settings.batch, len(store.keys))
        )
        mine = list(processes.share(rows))
        loss = distillation_loss(memory, known, mine, alpha)
        return loss * (len(mine) / len(rows))

    identity = {
        "config": hash_json(str(config)),
        "data": hash_json([list(map(int, ids)) for ids in texts]),
        "distillation": [tokens, temperature, alpha, neighbours],
    }
    fit(list(memory.parameters()), loss_at, settings, out, identity, report)
    processes.on_main(lambda: memory.save(out))
    return memory


def distillation_loss(memory: MlpMemory, targets: Targets, rows: list[int], alpha: float) -> Tensor:
    """α·KL(p_kNN ‖ p_MLP) + (1 - α)·CE at some rows of the store, up to the entropy of the targets.

    The targets stay sparse: KL is -Σ p(y) log q(y) over their tokens, less a constant.
    """
    device, store = memory.head.weight.device, targets.store
    logs = nn.functional.log_softmax(memory(store.keys[rows].to(device)).float(), -1)
    wanted = targets.of(rows)
    counts = torch.tensor([len(item) for item, _ in wanted])
    index = torch.repeat_interleave(counts).to(device)
    ids = torch.cat([item for item, _ in wanted]).to(device)
    mass = torch.cat([item for _, item in wanted]).to(device)
    imitation = -(mass * logs[index, ids]).sum() / len(rows)
    language = nn.functional.nll_loss(logs, store.values[rows].to(device))
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
