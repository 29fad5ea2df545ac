"""Several processes that train one thing together: who this is, its share of the work, and sums over all.

A launcher (`accelerate launch`, torchrun, MPI) starts them; torch's process group is the one place that knows
of them. Without one, this process is alone, and every function here does what a single process does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.spread import require_accelerate
from torch import Tensor, distributed, nn

T = TypeVar("T")
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# What accelerate's launcher passes on and a training here would not obey, by the value that asks for nothing.
_NOT_OBEYED = {
    "ACCELERATE_MIXED_PRECISION": ("no", "--mixed_precision: name the backbone's type by --dtype instead"),
    "ACCELERATE_USE_DEEPSPEED": ("false", "DeepSpeed: use --use_fsdp to share a backbone out"),
    "ACCELERATE_USE_MEGATRON_LM": ("false", "Megatron-LM: use --use_fsdp to share a backbone out"),
    "FSDP_OFFLOAD_PARAMS": ("false", "--fsdp_offload_params: the shares stay on their devices"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("false", "--fsdp_activation_checkpointing"),
}


def start(device: str) -> str:
    """Join the processes that a launcher started together; the device of this one.

    device: `auto`, `cpu` or `cuda`; each process takes the GPU of its number on its machine. Does nothing and
    returns `device` where nothing launched several. Raises UserError for what cannot be obeyed.
    """
    if max(int(os.environ.get(name) or 1) for name in _SIZES) == 1:
        if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ:
            raise UserError(
                "accelerate launch --cpu starts one process where there is no MPI: use --multi_gpu in its "
                "place and give train --device cpu, or use torchrun"
            )
        return device
    for name, (nothing, what) in _NOT_OBEYED.items():
        if os.environ.get(name, nothing).lower() != nothing:
            raise UserError(f"train does not obey {what}")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} is for one process and there are several: use auto, cpu or cuda")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if on_cpu and device == "cuda":
        raise UserError("no CUDA device is to be had here: use --device cpu or --device auto")
    require_accelerate("training on several processes")
    from accelerate import PartialState

    return str(PartialState(cpu=on_cpu).device)


def place() -> torch.device:
    """The device of this process, once `start` has joined it to the others."""
    from accelerate import PartialState

    found: torch.device = PartialState().device
    return found


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the one process that writes files and speaks."""
    return rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's items: every `size()`-th, so that an order by length gives all like work.

    Raises UserError where there are fewer than processes.
    """
    if len(items) < size():
        raise UserError(
            f"an update of {len(items)} gives {size()} processes nothing to share: raise --batch or launch "
            "fewer"
        )
    return items[rank() :: size()]


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, detached."""
    summed = value.detach().clone()
    if size() > 1:
        distributed.all_reduce(summed)
    return summed


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Put the sum over all processes in the place of each gradient; one that no process has stays None.

    One message holds them all, and for each whether there is one: a parameter without a gradient is left
    alone by the optimiser, one with a gradient of zeros is moved by its momentum.
    """
    if size() == 1:
        return
    device = parameters[0].device
    there = torch.tensor([item.grad is not None for item in parameters], dtype=torch.float32, device=device)
    flat = [
        (torch.zeros_like(item) if item.grad is None else item.grad).detach().flatten() for item in parameters
    ]
    message = torch.cat([there, *flat])
    distributed.all_reduce(message)
    counts, *sums = torch.split(message, [len(parameters), *(item.numel() for item in parameters)])
    for item, count, summed in zip(parameters, counts.tolist(), sums, strict=True):
        item.grad = summed.to(item.dtype).reshape(item.shape) if count else None


def copy_from_main(parameters: Sequence[nn.Parameter]) -> None:
    """Give every process the main one's values, in case some kernel drew or rounded differently elsewhere."""
    if size() > 1:
        for item in parameters:
            distributed.broadcast(item.data, 0)


def on_main(work: Callable[[], object]) -> None:
    """Do something on the main process alone; all go on when it is done."""
    if is_main():
        work()
    if size() > 1:
        distributed.barrier()
