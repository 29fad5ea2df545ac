"""Reading how much memory is in use, and the most since the last look."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod

import torch
from deltamem_eval.profiling.allocations import Allocations
from deltamem_eval.profiling.machine import gpu_value
from torch import Tensor

Reading = dict[str, int]  # bytes by kind: allocated and, on a GPU, reserved and device
_MIB = 1 << 20


class Meter(ABC):
    """`start` begins a pass; `peak` gives the most since then or since the last call of `peak`."""

    @abstractmethod
    def start(self) -> None:
        """Free what is not needed, and forget earlier peaks."""

    @abstractmethod
    def peak(self) -> Reading:
        """The most bytes since the last call."""

    @abstractmethod
    def now(self) -> Reading:
        """Bytes in use, garbage collected."""

    def wait(self) -> None:  # noqa: B027 - only a GPU works while the host goes on
        """Return once the device has done everything."""


class NoMeter(Meter):
    """Reads nothing, where counting would cost the time that is being measured."""

    def start(self) -> None:
        """Collect garbage."""
        gc.collect()

    def peak(self) -> Reading:
        """Nothing."""
        return {}

    def now(self) -> Reading:
        """Nothing."""
        return {}


class Waiter(NoMeter):
    """Reads nothing on a GPU: its allocator stays warm, as in a run, and nothing is asked of the driver."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def wait(self) -> None:
        """Wait for the stream."""
        torch.cuda.synchronize(self._device)


class TensorMeter(Meter):
    """Bytes of all tensors on a device of one type: those that are there, and what operations make.

    allocations: active while this meter is used.
    """

    def __init__(self, allocations: Allocations, device_type: str) -> None:
        self._allocations = allocations
        self._device_type = device_type
        self._before = 0

    def start(self) -> None:
        """Count what is there."""
        self._before = tensor_bytes(self._device_type) - self._allocations.live
        self._allocations.restart()

    def peak(self) -> Reading:
        """What was there and the most that operations had made."""
        found = self._before + self._allocations.peak
        self._allocations.restart()
        return {"allocated": found}

    def now(self) -> Reading:
        """All tensors, counted again."""
        return {"allocated": tensor_bytes(self._device_type)}


class CudaMeter(Meter):
    """What PyTorch's allocator handed out and reserved, and what the driver says is in use on the device.

    The allocator keeps what it reserved, so the driver's number after a phase covers the phase's peak. It
    counts every process on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Give the allocator's cache back, so that a pass reserves anew."""
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> Reading:
        """The allocator's peaks, and the device's use."""
        found = {
            "allocated": torch.cuda.max_memory_allocated(self._device),
            "reserved": torch.cuda.max_memory_reserved(self._device),
        }
        torch.cuda.reset_peak_memory_stats(self._device)
        return {**found, **self._in_use()}

    def now(self) -> Reading:
        """What is handed out, reserved and in use."""
        gc.collect()
        found = {
            "allocated": torch.cuda.memory_allocated(self._device),
            "reserved": torch.cuda.memory_reserved(self._device),
        }
        return {**found, **self._in_use()}

    def wait(self) -> None:
        """Wait for the stream."""
        torch.cuda.synchronize(self._device)

    def _in_use(self) -> Reading:
        """NVML's number, as nvidia-smi prints it; nothing where that tool is absent."""
        found = gpu_value("memory.used", self._device)
        return {} if found is None or not found.isdigit() else {"device": int(found) * _MIB}


def tensor_bytes(device_type: str) -> int:
    """Bytes of all tensors of this process on a device type, storages shared by several counted once."""
    gc.collect()
    found = {}
    for item in gc.get_objects():
        if issubclass(type(item), Tensor) and item.device.type == device_type:
            storage = item.untyped_storage()
            found[storage._cdata] = storage.nbytes()
    return sum(found.values())
