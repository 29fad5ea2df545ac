"""The machine's line, and a GPU's numbers as its tools give them, with a GPU that is not there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from deltamem_eval.profiling import machine
from deltamem_eval.profiling.meters import CudaMeter, Waiter

GPU = torch.device("cuda:0")


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GPU by hand: what torch says of it, and an nvidia-smi that answers from the folder's files."""
    said = SimpleNamespace(name="Some GPU", total_memory=80 * 2**30, uuid="1-2-3")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: said)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\ntest "$4" = GPU-1-2-3 || exit 9\ncat "{tmp_path}/${{1#--query-gpu=}}"\n')
    tool.chmod(0o755)
    (tmp_path / "driver_version").write_text("570.1\n")
    (tmp_path / "memory.used").write_text("900\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_cpu_is_named_with_what_decides_numbers() -> None:
    line = machine.machine_line(torch.device("cpu"))
    assert f"{torch.get_num_threads()} threads" in line
    assert "GiB RAM" in line
    assert f"torch {torch.__version__}" in line


def test_a_gpu_is_named_with_its_driver(gpu: Path) -> None:
    line = machine.machine_line(GPU)
    assert line.startswith("Some GPU (80 GiB), driver 570.1, CUDA 12.8, ")
    (gpu / "nvidia-smi").unlink()
    assert "driver unknown" in machine.machine_line(GPU)


def test_a_gpu_s_peaks_by_kind(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: calls.append(name))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty_cache"))
    sizes = {
        "max_memory_allocated": 30,
        "max_memory_reserved": 40,
        "memory_allocated": 10,
        "memory_reserved": 20,
    }
    for name, size in sizes.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, size=size: size)
    meter = CudaMeter(GPU)
    meter.start()
    assert meter.peak() == {"allocated": 30, "reserved": 40, "device": 900 * 2**20}
    meter.wait()
    assert calls == ["empty_cache", "reset_peak_memory_stats", "reset_peak_memory_stats", "synchronize"]
    (gpu / "memory.used").write_text("[N/A]\n")
    assert meter.now() == {"allocated": 10, "reserved": 20}


def test_time_on_a_gpu_is_taken_with_a_warm_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []

    def cold() -> None:
        raise AssertionError("the allocator's cache was given back")

    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", cold)
    device = torch.device("cuda")
    meter = Waiter(device)
    meter.start()
    meter.wait()
    assert (meter.peak(), meter.now(), waited) == ({}, {}, [device])
