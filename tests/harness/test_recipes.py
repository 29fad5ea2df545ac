"""What `train` does where nothing is said, what its options mean for each method, and which are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import together
import torch
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError
from deltamem_eval.methods.mlp_memory.config import Distillation
from deltamem_eval.methods.training import TrainSettings
from deltamem_eval.recipes import distillation_of, settings_of
from deltamem_eval.trainers import TRAINERS
from tiny import tiny_backbone
from typer.testing import CliRunner


def test_the_recipe_is_the_paper_s_for_all_that_read_contexts() -> None:
    for method in TRAINERS:
        if method != "mlp-memory":
            assert (
                settings_of(method, {"steps": None, "write_length": 8192}, Distillation()) == TrainSettings()
            )
    made = settings_of("memgen", {"steps": 3, "batch": 2, "parts": 2}, Distillation())
    assert made == TrainSettings(steps=3, batch=2, parts=2)


@pytest.mark.parametrize(
    ("tokens", "batch", "steps"), [(200_000, None, 1000), (10_000_000, None, 12_208), (200_000, 100, 10_000)]
)
def test_mlp_memory_sees_its_datastore_several_times(tokens: int, batch: int | None, steps: int) -> None:
    made = settings_of("mlp-memory", {"batch": batch}, Distillation(tokens=tokens))
    assert made.steps == steps
    assert made.steps * made.batch >= 5 * tokens
    assert (made.batch, made.lr, made.schedule) == (batch or 4096, 4e-4, "linear")
    assert (made.warmup, made.weight_decay) == (0.03, 0.0)
    assert settings_of("mlp-memory", {"steps": 7}, Distillation()).steps == 7


@pytest.mark.parametrize(
    ("method", "asked", "words"),
    [
        ("memgen", {"steps": 0}, "--steps must be a number above 0"),
        ("memgen", {"lr": float("inf")}, "--lr must be a number above 0"),
        ("memgen", {"seed": -1}, "--seed must lie between 0 and 4,294,967,295, not -1"),
        ("mlp-memory", {"seed": 2**32}, "--seed must lie between 0 and 4,294,967,295"),
        ("memgen", {"write_length": -1}, "--write-length must be a number above 0"),
        ("context2lora", {"parts": 0}, "--parts must be a number above 0"),
        ("mlp-memory", {"parts": 2}, "mlp-memory learns from single positions"),
    ],
)
def test_settings_that_make_no_sense_are_refused(method: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        settings_of(method, asked, Distillation())


@pytest.mark.parametrize(
    ("method", "asked", "words"),
    [
        ("token-write", {"tokens": 9}, "--datastore-tokens is an option of mlp-memory, not of token-write"),
        ("memgen", {"blocks": 0}, "--blocks is an option of mlp-memory"),
        ("mlp-memory", {"tokens": 1}, "--datastore-tokens must be at least 2"),
        ("mlp-memory", {"neighbours": 0}, "--neighbours must be at least 1"),
        ("mlp-memory", {"blocks": -1}, "--blocks must be at least 0"),
        ("mlp-memory", {"temperature": 0.0}, "--temperature must be a number above 0"),
        ("mlp-memory", {"alpha": 1.5}, "--alpha must lie between 0 and 1"),
    ],
)
def test_distillation_that_makes_no_sense_is_refused(method: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        distillation_of(method, asked)


def test_the_command_hands_everything_on_and_says_what_was_not_tuned(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.model.save_pretrained(tmp_path / "model")
    backbone.tokenizer.save_pretrained(tmp_path / "model")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in together.rows()))
    command = ["train", "mlp-memory", "--model", str(tmp_path / "model"), "--data", str(data)]
    command += ["--steps", "2", "--batch", "16", "--device", "cpu", "--out", str(tmp_path / "out")]
    command += ["--datastore-tokens", "60", "--neighbours", "3", "--temperature", "4", "--alpha", "0.7"]
    command += ["--blocks", "1", "--write-length", "30"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "note: mlp-memory: λ was not tuned" in done.stderr
    assert done.stdout.splitlines() == [f"trained weights in {tmp_path / 'out'}"]
    assert json.loads((tmp_path / "out" / "mlp_memory.json").read_text())["blocks"] == 1
    rates = [
        json.loads(line)["lr"] for line in (tmp_path / "out" / "train_log.jsonl").read_text().splitlines()
    ]
    assert rates == pytest.approx([4e-4, 0.0])
    refused = CliRunner().invoke(app, [*command, "--parts", "2"])
    assert "--parts" in str(refused.exception)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("token-write", "training token-write: lower --batch or --write-length, or raise --parts"),
        ("mlp-memory", "training mlp-memory: lower --batch, --blocks or --datastore-tokens"),
    ],
)
def test_memory_that_runs_out_is_one_line_and_parts_are_accumulated(
    method: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainSettings] = []

    def trainer(backbone: Any, episodes: Any, settings: TrainSettings, *_: Any, **__: Any) -> None:
        seen.append(settings)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(TRAINERS, method, trainer)
    monkeypatch.setattr("deltamem_eval.trainers.mlp_memory", trainer)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in together.rows()))
    command = ["train", method, "--model", "embedded", "--data", str(data), "--out", str(tmp_path / "out")]
    for more in ([], ["--parts", "2"])[: 1 if method == "mlp-memory" else 2]:
        done = CliRunner().invoke(app, [*command, "--device", "cpu", *more])
        assert isinstance(done.exception, UserError)
        assert f"memory ran out while {words}" in str(done.exception)
        assert seen[-1].accumulate == bool(more)


def test_help_says_what_a_batch_counts() -> None:
    text = " ".join(CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert "32 contexts; for mlp-memory 4,096 positions" in text
