"""δ-mem (arXiv 2605.12357): an online associative memory that steers a frozen decoder's attention.

The names below are a library of their own; they are imported on first use, so that listing methods needs no
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltamem_eval.methods.delta_mem.adapter import adapter_hash, load_adapter, save_adapter
    from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
    from deltamem_eval.methods.delta_mem.hooks import (
        attach,
        detach,
        get_state,
        is_attached,
        reset_state,
        segments,
        set_state,
        trainable_parameters,
        writing,
    )

__all__ = [
    "DeltaMemConfig",
    "adapter_hash",
    "attach",
    "detach",
    "get_state",
    "is_attached",
    "load_adapter",
    "reset_state",
    "save_adapter",
    "segments",
    "set_state",
    "trainable_parameters",
    "writing",
]

_HOMES = {
    "DeltaMemConfig": "config",
    "adapter_hash": "adapter",
    "load_adapter": "adapter",
    "save_adapter": "adapter",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'hooks')}"), name)
