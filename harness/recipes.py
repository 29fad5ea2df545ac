"""What `deltamem-eval train` was asked for: which trainer, with which settings where nothing is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.methods.memgen.config import Adapters
    from deltamem_eval.methods.mlp_memory.config import Distillation
    from deltamem_eval.methods.training import TrainSettings
    from deltamem_eval.trainers import Trainer

MLP, MEMGEN = "mlp-memory", "memgen"
MOST_SEED = 2**32 - 1  # what every generator takes
# arXiv 2508.01832: the rate, its warm-up and straight fall, five times through the datastore. Ours is small,
# and a network that starts from nothing needs more updates than that.
MLP_BATCH, MLP_LR, MLP_WARMUP, MLP_EPOCHS, MLP_LEAST = 4096, 4e-4, 0.03, 5, 1000
MLP_SAVE = 250  # a checkpoint is three times the network: 37 GB of as many blocks as Qwen3-4B has layers


def settings_of(method: str, asked: Mapping[str, Any], how: Distillation) -> TrainSettings:
    """The method's recipe with what was asked for put in. asked: fields of TrainSettings, None for unsaid.

    Raises UserError for numbers out of range and for parts where nothing is divided.
    """
    from deltamem_eval.methods.training import TrainSettings

    given = {name: value for name, value in asked.items() if value is not None}
    if not 0 <= given.get("seed", 0) <= MOST_SEED:
        raise UserError(f"--seed must lie between 0 and {MOST_SEED:,}, not {given['seed']}")
    for name, value in given.items():
        if name != "seed" and not 0 < value < math.inf:
            raise UserError(f"{_flag(name)} must be a number above 0, not {value}")
    if method != MLP:
        return replace(TrainSettings(), **given)
    if "parts" in given:
        raise UserError(f"--parts divides an update's contexts by length; {MLP} learns from single positions")
    batch = given.get("batch", MLP_BATCH)
    recipe: dict[str, Any] = {
        "steps": max(MLP_LEAST, math.ceil(MLP_EPOCHS * how.tokens / batch)),
        "batch": batch,
        "lr": MLP_LR,
        "warmup": MLP_WARMUP,
        "schedule": "linear",
        "save_every": MLP_SAVE,
    }
    return TrainSettings(**{**recipe, **given})


def distillation_of(method: str, asked: Mapping[str, Any]) -> Distillation:
    """MLP Memory's own settings. asked: its fields, None for unsaid.

    Raises UserError for any of them with another method, and for numbers out of range.
    """
    from deltamem_eval.methods.mlp_memory.config import Distillation

    given = {name: value for name, value in asked.items() if value is not None}
    if given and method != MLP:
        raise UserError(f"{_flag(next(iter(given)))} is an option of {MLP}, not of {method}")
    how = Distillation(**given)
    for name, least in (("tokens", 2), ("neighbours", 1), ("blocks", 0)):
        if getattr(how, name) < least:
            raise UserError(f"{_flag(name)} must be at least {least}, not {getattr(how, name)}")
    if not 0 < how.temperature < math.inf:
        raise UserError(f"--temperature must be a number above 0, not {how.temperature}")
    if not 0 <= how.alpha <= 1:
        raise UserError(f"--alpha must lie between 0 and 1, not {how.alpha}")
    if not 0 < how.depth <= 1:
        raise UserError(f"--depth must be above 0 and at most 1, the last layer, not {how.depth}")
    return how


def adapters_of(method: str, rank: int | None, targets: str | None) -> Adapters:
    """MemGen's own settings, None for unsaid. targets: names of modules, separated by commas.

    Raises UserError for any of them with another method, for a rank below 1 and for names that are none or
    stand twice. Whether the backbone has such modules is seen when the adapters are put on.
    """
    from deltamem_eval.methods.memgen.config import Adapters

    given: dict[str, Any] = {} if rank is None else {"rank": rank}
    if targets is not None:
        given["targets"] = tuple(name.strip() for name in targets.split(","))
    if given and method != MEMGEN:
        raise UserError(f"{_flag(next(iter(given)))} is an option of {MEMGEN}, not of {method}")
    adapters = Adapters(**given)
    if adapters.rank < 1:
        raise UserError(f"--rank must be at least 1, not {adapters.rank}")
    if not all(adapters.targets) or len(set(adapters.targets)) < len(adapters.targets):
        raise UserError(f"--targets names modules, each once, separated by commas, not {targets!r}")
    return adapters


def trainer_of(method: str, how: Distillation, adapters: Adapters) -> Trainer:
    """What trains the method. Raises UserError for one that is not trained."""
    from deltamem_eval.errors import unknown
    from deltamem_eval.trainers import TRAINERS, memgen, mlp_memory

    if method not in TRAINERS:
        raise unknown("trainable method", method, TRAINERS)
    if method == MLP:
        return partial(mlp_memory, how=how)
    return partial(memgen, adapters=adapters) if method == MEMGEN else TRAINERS[method]


def _flag(name: str) -> str:
    return "--datastore-tokens" if name == "tokens" else f"--{name.replace('_', '-')}"
