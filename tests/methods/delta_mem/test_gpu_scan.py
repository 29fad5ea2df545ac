"""The benchmark on a GPU: its baseline is right, and what it holds results against finds errors."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from deltamem_eval.methods.delta_mem.recurrence import Inputs, scan_naive
from torch import Tensor

from shared import ROOT

pytest.importorskip("triton", reason="triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu_scan")


def test_all_forms_agree(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "TOKENS", (33,))
    monkeypatch.setattr(benchmark, "RANK", 3)
    assert list(benchmark.errors(benchmark.Case(33, 1, 2), benchmark.scans(), DEVICE)) == []


@pytest.mark.parametrize("wrong", [1e-2, float("nan")])
def test_a_wrong_form_is_found(benchmark: ModuleType, wrong: float) -> None:
    def broken(inputs: Inputs, state: Tensor) -> tuple[Tensor, Tensor]:
        reads, end = scan_naive(inputs, state)
        return reads, torch.cat([end[:, :-1], end[:, -1:] + wrong], 1)

    found = list(benchmark.errors(benchmark.Case(9, 1, 1), {"broken": broken}, DEVICE))
    assert found[0].startswith("broken, forward")


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU")
def test_without_a_gpu_it_says_so(
    benchmark: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_scan", "--out", str(tmp_path / "scan.csv")])
    with pytest.raises(SystemExit) as error:
        benchmark.main()
    assert error.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "scan.csv").exists()
