"""The benchmark on a GPU: its baseline is right, and what it holds results against finds errors."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from deltamem_eval.methods.delta_mem.recurrence import Inputs, scan_naive
from deltamem_eval.reports.regress.ratios import read_ratios
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


def test_rows_are_held_against_one_program_a_row_and_a_copy(benchmark: ModuleType) -> None:
    seconds = {"triton: x": [1.0, 2.0], "sequential: x": [9.0, 24.0], "chunked: x": [2.0, 2.0]}
    seconds["copy: x"] = [0.5, 1.0]
    case = benchmark.PROMISED_AT[0]
    made = benchmark.times(case, "forward", seconds, "copy: x")
    rows = {(row.case.partition(":")[0], row.metric): row for row in made}
    ours = rows["triton", "time"]
    assert (ours.ratio, ours.against, ours.target) == (10.5, "sequential: x", 10)
    assert rows["chunked", "time"].target is rows["sequential", "time"].ratio is None
    assert rows["copy", "bandwidth"].max == pytest.approx(2 * benchmark.COPIED / 0.5e9)
    share = rows["triton", "bandwidth"]
    assert (share.against, share.target) == ("copy: x", None)
    assert share.max == pytest.approx(case.least_bytes("forward") / 1e9)
    assert share.ratio == pytest.approx(case.least_bytes("forward") / (4 * benchmark.COPIED))
    elsewhere = benchmark.times(benchmark.Case(2048, 1, 1), "forward", seconds, "copy: x")
    assert not any(row.target for row in elsewhere)


def test_every_row_is_on_disk_as_soon_as_it_is_known(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, seen = tmp_path / "scan.csv", []

    def measured(case: object, _: object) -> Iterator[object]:
        for name in "ab":
            seen.append(file.read_text().count("\n") if file.exists() else 0)
            ratio, target = {"a": (None, None), "b": (9.0, 10.0)}[name]
            numbers = (1.0, 1.0, 1.0, "ms", ratio, ratio, ratio, "a", target)
            yield benchmark.Row("gpu_scan", f"{name}: {case}", "time", *numbers)

    monkeypatch.setattr(benchmark, "measured", measured)
    monkeypatch.setattr(benchmark, "checked", lambda *_: None)
    monkeypatch.setattr(benchmark, "gpu_machine", lambda: "a GPU, driver 1")
    found = benchmark.measure([1, 2], benchmark.Kept(file))
    assert seen == [0, 2, 3, 4]
    assert {line.machine for line in read_ratios(file).values()} == {"a GPU, driver 1"}
    assert (found.code, len(found.missed)) == (1, 2)


def test_a_wrong_scan_is_measured_nowhere(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(benchmark, "errors", lambda *_: iter(["chunked, forward"]))
    monkeypatch.setattr(benchmark, "gpu_machine", lambda: "a GPU")
    found = benchmark.measure([benchmark.PROMISED_AT[0]], benchmark.Kept(tmp_path / "scan.csv"))
    assert (found.code, found.wrong) == (1, ["gpu_scan: chunked, forward"])
    assert not (tmp_path / "scan.csv").exists()


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
