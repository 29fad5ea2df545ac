"""A backbone whose layers are spread over all GPUs of this machine, for one that a single GPU does not hold.

accelerate places whole layers and moves activations between them. What a method adds lives where its layer
does, or follows the activations.
"""

from __future__ import annotations

from typing import Any

from deltamem_eval.errors import UserError

SPREAD = "spread"  # as `--device`


def require_accelerate(what: str) -> None:
    """Raises UserError where accelerate is not installed."""
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise UserError(f"{what} needs accelerate: pip install 'deltamem-eval[scale]'") from None


def loading(device: str) -> dict[str, Any]:
    """What transformers' loading is told of a `--device`; nothing where the model goes whole to one."""
    if device != SPREAD:
        return {}
    require_accelerate("--device spread")
    return {"device_map": "auto"}


def check_spread(model: Any, name: str) -> None:
    """Raises UserError where weights were left outside the devices that compute: a memory reads its layer's
    weights and steps beside them, and a layer fetched for each token would set every measured time.
    """
    import torch

    slow = {"disk", "meta"} | ({"cpu"} if torch.cuda.is_available() else set())
    parts: dict[str, Any] = getattr(model, "hf_device_map", {})
    outside = [part for part, place in parts.items() if str(place) in slow]
    if outside:
        raise UserError(
            f"{name} does not fit: {len(outside)} of its {len(parts)} parts would stay off the devices "
            f"({outside[0]}...): use more or larger GPUs, or a smaller --dtype"
        )
