"""The decode benchmark without its device: what is timed, what is kept, and what fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import decoders
import gpu_decode
import pytest
import torch
from common import Outcome, Wrong
from deltamem_eval.methods.delta_mem import attach
from deltamem_eval.methods.delta_mem.hooks import is_attached
from deltamem_eval.methods.delta_mem.method import TokenWrite
from deltamem_eval.reports.regress.ratios import judge_ratios, read_ratios
from deltamem_eval.reports.regress.rules import read_rules
from gpu_decode import Plan, measure
from kept import Kept
from tiny import tiny_backbone
from torch._dynamo.utils import counters

PROMPT = list(range(2, 18))
ALL = Plan(gpu_decode.KINDS, ("prefill", "eager", "training"), (16,), 2, 3)


class Fake:
    """In place of the device's meter: every call takes so long, and the peak counts the calls."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.each, self.calls = seconds, 0

    def seconds(self, work: Callable[[], object]) -> float:
        work()
        self.calls += 1
        return self.each

    def restart(self) -> None:
        self.calls = 0

    def peak(self) -> int:
        return self.calls * 2**20


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_decode, "TRAINED", 24)
    monkeypatch.setattr(gpu_decode, "QUESTION", 4)
    monkeypatch.setattr(gpu_decode, "check", lambda _: None)


def measured(file: Path, plan: Plan = ALL, seconds: float = 1.0, machine: str = "a GPU") -> Outcome:
    return measure(plan, tiny_backbone(), Fake(seconds), Kept.of(file), machine)  # type: ignore[arg-type]


def test_every_peak_is_counted_from_its_own_measurement_on(tmp_path: Path) -> None:
    found = measured(tmp_path / "out.csv")
    peaks = {row.case: row.median for row in found.rows if row.metric == "peak memory"}
    assert len(peaks) == 7
    assert set(peaks.values()) == {ALL.turns}
    assert "token-write, training: 24 tokens" in peaks


def test_rows_say_what_they_are_held_against_and_what_is_promised(tmp_path: Path) -> None:
    found = measured(tmp_path / "out.csv")
    rows = {(row.case, row.metric): row for row in found.rows}
    assert rows["vanilla, eager: 16 tokens", "decode"].ratio is None
    wanted = {
        ("token-write, prefill: 16 tokens", "time"): 0.95,
        ("token-write, prefill: 16 tokens", "peak memory"): 0.99,
        ("token-write, eager: 16 tokens", "decode"): 0.85,
        ("token-write, eager: 16 tokens", "peak memory"): 0.99,
        ("vanilla-again, eager: 16 tokens", "decode"): None,
    }
    for key, target in wanted.items():
        assert (rows[key].ratio, rows[key].target) == (1, target)
        assert rows[key].against == f"vanilla, {key[0].partition(', ')[2]}"
    assert rows["token-write, eager: 16 tokens", "decode"].median == ALL.tokens
    assert gpu_decode.SPEED["graph"] == gpu_decode.SPEED["compiled"] == 0.95
    assert found.code == 0


def test_parts_are_measured_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.csv"
    part = replace(ALL, ways=("eager",))
    assert measured(file, replace(part, kinds=("vanilla",))).code == 0
    assert len(read_ratios(file)) == 2
    slow = measured(file, replace(part, kinds=("token-write",)), 2.0)
    assert slow.missed == [
        "gpu_decode, token-write, eager: 16 tokens, decode: 0.500x, promised 0.85x",
    ]
    assert "0.50x [0.50, 0.50] as fast as vanilla, eager" in capsys.readouterr().out
    measured(file, replace(part, kinds=("vanilla",)), 2.0)  # once more, in the place of the first
    lines = read_ratios(file)
    assert len(lines) == 4
    assert lines["gpu_decode", "token-write, eager: 16 tokens", "decode"].numbers["ratio"] == 1
    measured(file, replace(part, kinds=("token-write",)), 2.0, "another GPU")
    again = read_ratios(file)["gpu_decode", "token-write, eager: 16 tokens", "decode"]
    assert (again.numbers["ratio"], again.numbers["target"], again.machine) == (None, 0.85, "another GPU")


def test_a_fall_is_found_by_regress(tmp_path: Path) -> None:
    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    measured(before)
    part = replace(ALL, kinds=("vanilla",))
    measured(after)
    measured(after, part, 0.5)
    rules = read_rules(None, bench=True)
    assert not judge_ratios(before, [before], rules).failed
    assert judge_ratios(before, [after], rules).failed


def test_a_way_that_is_wrong_gives_no_row_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warm(_: decoders.Eager) -> None:
        raise Wrong("eager: other tokens")

    monkeypatch.setattr(decoders.Eager, "warm", warm)
    found = measured(tmp_path / "out.csv", replace(ALL, kinds=("vanilla",)))
    assert (found.code, found.wrong) == (1, ["gpu_decode: eager: other tokens"])
    assert {row.case for row in found.rows} == {"vanilla, prefill: 16 tokens"}


def test_a_wrong_step_of_the_memory_ends_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_: object) -> None:
        raise Wrong("the fused step")

    monkeypatch.setattr(gpu_decode, "check", check)
    found = measured(tmp_path / "out.csv")
    assert (found.code, found.wrong) == (1, ["gpu_decode: the fused step"])
    assert not any(row.case.startswith("token-write") for row in found.rows)


@pytest.mark.parametrize("remembers", [False, True])
@torch.no_grad()
def test_a_static_cache_decodes_what_a_growing_one_does(remembers: bool) -> None:
    backbone, made = tiny_backbone(), []
    if remembers:
        attach(backbone.model, TokenWrite.adapter_config())
    for way in (decoders.Eager, decoders.Static):
        decoder = way(backbone, PROMPT, 12)
        decoder.warm()
        decoder.go_on(12 - decoders.WARM_UP)
        made.append(decoder.made)
    assert is_attached(backbone.model) == remembers
    assert torch.equal(*made)


@torch.no_grad()
def test_a_forward_is_given_no_view_of_what_it_changes() -> None:
    decoder, seen = decoders.Static(tiny_backbone(), PROMPT, 4), []
    real = decoder.forward

    def forward(*inputs: object, **given: torch.Tensor) -> object:
        counted = decoder.cache.get_seq_length()
        seen.append(given["position_ids"].data_ptr() == counted.data_ptr())
        return real(*inputs, **given)

    decoder.forward = forward
    decoder.step()
    assert seen == [False]


@torch.no_grad()
def test_compiled_steps_without_a_cuda_graph_are_wrong() -> None:
    decoder = decoders.Compiled(tiny_backbone(), PROMPT, 2 * decoders.WARM_UP)
    skips = 0

    def forward(*inputs: object, **given: object) -> object:
        counters["inductor"]["cudagraph_skips"] += skips
        return decoder.model(*inputs, **given)

    decoder.forward = forward
    decoder.warm()
    skips = 1
    with pytest.raises(Wrong, match="without a CUDA graph"):
        decoder.warm()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_decode", "--out", str(tmp_path / "out.csv"), "--ways", "graph"])
    with pytest.raises(SystemExit) as error:
        gpu_decode.main()
    assert error.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
