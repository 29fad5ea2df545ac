"""Estimates against what the same passes allocate on a CPU, method by method."""

from dataclasses import replace
from pathlib import Path

import pytest
from deltamem_eval.profiling.estimate import decode_peak, estimate
from deltamem_eval.profiling.measure import measure
from deltamem_eval.profiling.request import Point
from profiled import config_file, requested

pytestmark = pytest.mark.usefixtures("alone")

PHASES = ("prefill_allocated", "decode_allocated", "resident_allocated")
TOLERANCE = 0.01  # of what is in use
EVERY = (
    "vanilla",
    "bm25-rag",
    "token-write",
    "sequence-write",
    "multi-write",
    "context2lora",
    "mlp-memory",
    "memgen",
)


@pytest.mark.parametrize("method", EVERY)
def test_an_estimate_is_what_would_be_allocated_and_grows(method: str, tmp_path: Path) -> None:
    """memgen's weaves inside an answer depend on what it says: there are none here."""
    config, options = config_file(tmp_path), {"most": 0} if method == "memgen" else {}
    asked = requested(
        config, method, modes=("replay",), dtype="float32", decode_lengths=(20,), options=options
    )
    measured = measure(asked, asked.points()[0], tmp_path / "real")
    guessed = replace(asked, estimate=True, prompt_lengths=(128, 256))
    smaller, estimated = estimate(guessed, guessed.points(), tmp_path / "hollow")
    assert estimated["tokens"] == measured["tokens"]
    held = measured["weights"]["allocated"]
    assert estimated["weights"]["allocated"] == pytest.approx(held, rel=1e-4)
    for phase in PHASES:
        (number,), (truth,) = estimated["measures"][phase], measured["measures"][phase]
        assert number == pytest.approx(truth, rel=TOLERANCE), phase
        # Beyond the weights as well, where nothing constant hides a mistake.
        assert number - held == pytest.approx(truth - held, rel=0.05, abs=4096), phase
        # bm25-rag holds texts alone between questions; the others keep the prompt's keys and values.
        if (method, phase) != ("bm25-rag", "resident_allocated"):
            assert number > smaller["measures"][phase][0]


def test_state_only_and_window_too(tmp_path: Path) -> None:
    for method, mode, window, options in (
        ("multi-write", "state-only", 0, {"write_length": 64}),
        ("bm25-rag", "window", 64, {}),
    ):
        asked = requested(
            config_file(tmp_path), method, modes=(mode,), dtype="float32", window=window, options=options
        )
        measured = measure(asked, asked.points()[0], tmp_path / "real")
        estimated = estimate(replace(asked, estimate=True), asked.points(), tmp_path / "hollow")[0]
        for phase in PHASES:
            truth = measured["measures"][phase][0]
            assert estimated["measures"][phase][0] == pytest.approx(truth, rel=TOLERANCE), phase


def test_a_classifier_of_full_size_takes_no_room(tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path), "llmlingua2", modes=("window",), window=64, estimate=True)
    found = estimate(asked, asked.points(), tmp_path / "parts")[0]
    parameters = 559_000_000  # XLM-RoBERTa large, in float32
    assert found["weights"]["allocated"] == pytest.approx(4 * parameters, rel=0.01)
    assert 0 < found["tokens"]["shown"] <= 64
    blocks = sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*") if file.is_file())
    assert blocks < 20_000_000


def test_one_pass_serves_all_decode_lengths(tmp_path: Path) -> None:
    config = config_file(tmp_path)
    asked = requested(config, "vanilla", decode_lengths=(2, 5, 40), estimate=True, dtype="float32")
    found = {
        point.decode_tokens: fields["measures"]["decode_allocated"][0]
        for point, fields in zip(asked.points(), estimate(asked, asked.points(), tmp_path), strict=True)
    }
    for decode, number in found.items():
        point = Point("vanilla", "replay", 256, decode)
        alone = measure(requested(config, "vanilla", decode_lengths=(decode,)), point, tmp_path)
        assert number == pytest.approx(alone["measures"]["decode_allocated"][0], rel=TOLERANCE)


def test_later_steps_grow_as_the_last_ones() -> None:
    assert decode_peak([100, 110, 120], 3) == 110
    assert decode_peak([100, 110, 120], 4) == 120
    assert decode_peak([100, 110, 120], 14) == 220
