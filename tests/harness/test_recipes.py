"""What `train` does where nothing is said, what its options mean for each method, and which are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import together
import torch
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError
from deltamem_eval.interface import MethodSettings
from deltamem_eval.methods.memgen.config import ALL_LINEAR, Adapters, MemGenConfig, parameter_count
from deltamem_eval.methods.mlp_memory.config import Distillation
from deltamem_eval.methods.training import TrainSettings
from deltamem_eval.recipes import adapters_of, distillation_of, settings_of
from deltamem_eval.registry import METHODS
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
        ("mlp-memory", {"depth": 0.0}, "--depth must be above 0 and at most 1, the last layer, not 0.0"),
        ("mlp-memory", {"depth": 1.1}, "--depth must be above 0 and at most 1"),
        ("memgen", {"depth": 1.0}, "--depth is an option of mlp-memory, not of memgen"),
    ],
)
def test_distillation_that_makes_no_sense_is_refused(method: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        distillation_of(method, asked)


@pytest.mark.parametrize(
    ("method", "rank", "targets", "words"),
    [
        ("context2lora", 4, None, "--rank is an option of memgen, not of context2lora"),
        ("mlp-memory", None, "q_proj", "--targets is an option of memgen, not of mlp-memory"),
        ("memgen", 0, None, "--rank must be at least 1, not 0"),
        ("memgen", 4, "q_proj,,v_proj", "--targets names modules, each once, separated by commas"),
        ("memgen", 4, "q_proj, q_proj", "--targets names modules, each once"),
        ("memgen", None, "", "--targets names modules, each once"),
    ],
)
def test_adapters_that_make_no_sense_are_refused(
    method: str, rank: int | None, targets: str | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        adapters_of(method, rank, targets)


def test_adapters_are_the_table_s_where_nothing_is_said() -> None:
    assert (
        adapters_of("memgen", None, None) == Adapters(8, ALL_LINEAR) == adapters_of("token-write", None, None)
    )
    assert adapters_of("memgen", 16, "q_proj, v_proj") == Adapters(16, ("q_proj", "v_proj"))


def trainable(folder: Path) -> list[str]:
    """A small model and rows to train on, as options of `train`."""
    backbone = tiny_backbone()
    backbone.model.save_pretrained(folder / "model")
    backbone.tokenizer.save_pretrained(folder / "model")
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in together.rows()))
    return ["--model", str(folder / "model"), "--data", str(data), "--device", "cpu"]


def test_memgen_s_adapters_are_as_asked_saved_so_and_loaded(tmp_path: Path) -> None:
    command = ["train", "memgen", *trainable(tmp_path), "--steps", "1", "--batch", "2"]
    asked = ["--rank", "16", "--targets", "q_proj,v_proj", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, *asked], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads((tmp_path / "out" / "memgen.json").read_text())
    assert (told["rank"], told["targets"]) == (16, ["q_proj", "v_proj"])
    backbone = tiny_backbone()
    method = METHODS.load("memgen")(backbone, MethodSettings(20, adapter=str(tmp_path / "out")))
    wanted = MemGenConfig(hidden=48, rank=16, targets=("q_proj", "v_proj"))
    assert method.added(backbone.shape(), {}).trainable == parameter_count(backbone.shape(), wanted)
    method.close()
    for targets, words in (("qq_proj", "no module named qq_proj"), ("norm", "norm is no linear layer")):
        refused = CliRunner().invoke(app, [*command, "--targets", targets, "--out", str(tmp_path / targets)])
        assert isinstance(refused.exception, UserError)
        assert words in str(refused.exception)


def test_the_command_hands_everything_on_and_says_what_was_not_tuned(tmp_path: Path) -> None:
    command = ["train", "mlp-memory", *trainable(tmp_path), "--out", str(tmp_path / "out")]
    command += ["--steps", "2", "--batch", "16", "--depth", "1"]
    command += ["--datastore-tokens", "60", "--neighbours", "3", "--temperature", "4", "--alpha", "0.7"]
    command += ["--blocks", "1", "--write-length", "30"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "note: mlp-memory: λ was not tuned" in done.stderr
    assert done.stdout.splitlines() == [f"trained weights in {tmp_path / 'out'}"]
    told = json.loads((tmp_path / "out" / "mlp_memory.json").read_text())
    assert (told["blocks"], told["layer"]) == (1, 2)
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
