"""Sharing a frozen backbone's layers out over the processes that train together (FSDP).

Every process holds a part of each layer's matrices and gathers a layer when it is reached, forwards and
backwards. Whatever is trained stays whole on every process: it is small, and its gradients are summed by
`processes.sum_gradients`. So do embeddings and head, which are called by themselves, and all vectors: the
norm before the last layer's attention passes gradients from a memory's state without that layer's output
taking part, and nothing would gather it then.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from deltamem_eval import processes
from deltamem_eval.errors import UserError
from torch import nn


def sharding() -> bool:
    """Whether the launcher asked for it: `accelerate launch --use_fsdp`."""
    return processes.size() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def refuse_sharding(method: str) -> None:
    """Raises UserError where sharding was asked for: for a method whose processes differ in their forwards,
    which must come in step where each gathers layers from all.
    """
    if sharding():
        raise UserError(
            f"{method} cannot be trained with --use_fsdp: leave it out, the rest of the launch works"
        )


def shard(model: Any, own: Sequence[nn.Parameter]) -> None:
    """Share out the layers of a model's decoder, and put the rest of it and `own` on this process's device.

    own: what is trained, inside the model or outside; it must exist before. Does nothing where sharding was
    not asked for. Raises UserError for a decoder without layers.
    """
    if not sharding():
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if layers is None:
        raise UserError(f"{type(model).__name__} has no decoder layers to share out: leave --use_fsdp out")
    place = processes.place()
    mesh = init_device_mesh(place.type, (processes.size(),))
    trained = {id(item) for item in own}
    matrices = {id(item) for item in layers.parameters() if item.dim() > 1 and id(item) not in trained}
    whole = {item for item in model.parameters() if id(item) not in matrices}
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    fully_shard(
        decoder, mesh=mesh, ignored_params=whole
    )  # the root, which fetches layers ahead of their turn
    for item in (*whole, *own):
        item.data = item.data.to(place)
