"""MemGen's settings and the count of its parameters. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deltamem_eval.methods.context2lora.lora import lora_parameters

if TYPE_CHECKING:
    from deltamem_eval.overhead import ModelShape

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Place = Literal["prompt", "inner"]
PLACES: tuple[Place, ...] = ("prompt", "inner")


@dataclass(frozen=True)
class Adapters:
    """Of weaver and trigger alike: their rank and the modules they change.

    The default gives the 46.20M of δ-mem's table; the authors' own are of rank 16 on q_proj and v_proj.
    """

    rank: int = 8
    targets: tuple[str, ...] = ALL_LINEAR


@dataclass(frozen=True)
class MemGenConfig:
    """Sizes and habits. rank, targets: as in `Adapters`. latents: woven at once. most: weaves inside one
    answer. trigger: whether the trigger decides; without it every place is taken. hidden: width of the
    backbone it was made for.
    """

    hidden: int
    rank: int = Adapters.rank
    targets: tuple[str, ...] = Adapters.targets
    latents: int = 8
    most: int = 5
    trigger: bool = False
    delimiters: tuple[str, ...] = (",", ".", "\n")


def parameter_count(shape: ModelShape, config: MemGenConfig) -> int:
    """Both adapters, two projections with bias, two tables with norm and scale, and the trigger's head.

    46,198,788 at rank 8 on all linear layers of Qwen3-4B with 8 latents: the paper's 46.20M. The authors' own
    adapters, of rank 16 on q and v, make it 24,965,124.
    """
    width = config.hidden
    adapters = 2 * lora_parameters(shape, config.rank, config.targets)
    tables = len(PLACES) * (config.latents * width + 2 * width + 1)
    return adapters + 2 * (width * width + width) + tables + 2 * width + 2
