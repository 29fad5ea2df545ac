"""The line that names the machine a number was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def machine_line(device: torch.device) -> str:
    """GPU with its memory and driver where there is one; CPU model, cores, threads and memory; versions."""
    import torch

    parts = [_gpu(device)] if device.type == "cuda" else []
    parts += [_cpu(), f"{torch.get_num_threads()} threads", f"{_memory_gib():.0f} GiB RAM"]
    return ", ".join([*parts, platform.system(), f"torch {torch.__version__}"])


def _gpu(device: torch.device) -> str:
    import torch

    found = torch.cuda.get_device_properties(device)
    driver = gpu_value("driver_version", device) or "unknown"
    size = found.total_memory / 2**30
    return f"{found.name} ({size:.0f} GiB), driver {driver}, CUDA {torch.version.cuda}"


def gpu_value(field: str, device: torch.device) -> str | None:
    """A field of `nvidia-smi --query-gpu` for this device, without unit; None where it cannot be had."""
    import torch

    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", "-i", uuid]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    """Model and the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model()} ({cores} cores)"


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
