"""Two launched processes train what one does, whatever is trained and whoever began it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import together
import torch
from deltamem_eval import processes, sharding
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError
from deltamem_eval.methods.training import Example, Fixed, TrainSettings, in_parts
from deltamem_eval.trainers import TRAINERS
from safetensors.torch import load_file
from tiny import tiny_backbone
from torch import nn
from typer.testing import CliRunner

SCRIPT = str(Path(together.__file__))
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2")
ACCELERATE += ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
ACCELERATE += ("--main_process_port", "0")


def launch(*command: str) -> str:
    """Run a launcher to its end; what it printed."""
    folder = str(Path(SCRIPT).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def alike(found: Path, wanted: Path) -> None:
    """Same weights, losses and gradients up to the order of sums, and no more lines than updates."""
    torch.testing.assert_close(weights(found), weights(wanted), atol=1e-5, rtol=1e-4)
    for name in ("step", "loss", "gradient_norm", "lr"):
        lists = [[row[name] for row in log(folder)] for folder in (found, wanted)]
        assert lists[0] == pytest.approx(lists[1], rel=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process trains."""
    out = tmp_path_factory.mktemp("alone")
    together.train_all(out, list(TRAINERS))
    return out


def test_two_processes_train_what_one_does_and_go_on_from_each_other(alone: Path, tmp_path: Path) -> None:
    together.token_write(tmp_path / "token-write", together.Stopping)
    assert len(log(tmp_path / "token-write")) == 2
    launch(*TORCHRUN, SCRIPT, str(tmp_path), *TRAINERS)
    for name in TRAINERS:
        alike(tmp_path / name, alone / name)
    assert len(log(tmp_path / "stopped")) == 2
    together.token_write(tmp_path / "stopped", Fixed)
    alike(tmp_path / "stopped", alone / "token-write")
    assert (tmp_path / "mlp-memory" / "mlp_memory.json").is_file()


def test_a_backbone_shared_out_trains_the_same_and_is_held_by_halves(alone: Path, tmp_path: Path) -> None:
    names = ("token-write", "sequence-write", "context2lora", "mlp-memory")
    launch(*ACCELERATE, "--use_fsdp", "--fsdp_version", "2", SCRIPT, str(tmp_path), *names)
    for name in names:
        alike(tmp_path / name, alone / name)
    whole = together.held(tiny_backbone())
    halves = [int((tmp_path / f"held-{rank}").read_text()) for rank in (0, 1)]
    assert sum(halves) == whole
    assert max(halves) < 0.6 * whole


def test_the_command_under_accelerate_launch(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.model.save_pretrained(tmp_path / "model")
    backbone.tokenizer.save_pretrained(tmp_path / "model")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in together.rows()))
    train = ["train", "token-write", "--model", str(tmp_path / "model"), "--data", str(data), "--steps", "2"]
    train += ["--batch", "3", "--write-length", "64", "--device", "cpu", "--out"]
    said = launch(*ACCELERATE, "--multi_gpu", "-m", "deltamem_eval.cli.main", *train, str(tmp_path / "two"))
    assert said.splitlines() == [f"trained weights in {tmp_path / 'two'}"]
    assert CliRunner().invoke(app, [*train, str(tmp_path / "one")]).exit_code == 0
    alike(tmp_path / "two", tmp_path / "one")


def pretend(monkeypatch: pytest.MonkeyPatch, size: int, rank: int) -> None:
    monkeypatch.setattr(processes, "size", lambda: size)
    monkeypatch.setattr(processes, "rank", lambda: rank)


def test_shares_hold_every_example_once_and_weigh_as_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [Example(((1,) * length,), (((2,), (3,) * length),)) for length in (9, 2, 30, 4, 5, 7, 1)]
    shares, seen = [], []
    for rank in range(3):
        pretend(monkeypatch, 3, rank)
        for group, share in in_parts(batch, TrainSettings(parts=2, answer_length=6)):
            shares.append(share)
            seen += [len(example.messages[0]) for example in group]
            assert share == pytest.approx(sum(min(len(item.messages[0]), 6) for item in group) / 30)
    assert sorted(seen) == [1, 2, 4, 5, 7, 9, 30]
    assert sum(shares) == pytest.approx(1)
    with pytest.raises(UserError, match="gives 3 processes nothing to share"):
        in_parts(batch[:2], TrainSettings())


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("examples", [2, 3, 5, 8, 9])
def test_processes_have_as_many_groups_and_no_group_is_empty(
    parts: int, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [Example(((1,) * length,), (((2,), (3,)),)) for length in range(examples)]
    counts = []
    for rank in range(2):
        pretend(monkeypatch, 2, rank)
        groups = in_parts(batch, TrainSettings(parts=parts))
        assert all(group for group, _ in groups)
        counts.append(len(groups))
    assert counts[0] == counts[1] <= parts


def test_gradients_that_one_process_lacks_are_summed_and_ones_that_all_lack_stay_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    mine[0].grad = torch.full((2, 3), 2.0)
    theirs = torch.tensor([0.0, 1, 0, *[0.0] * 6, 5, 7, 0])
    pretend(monkeypatch, 2, 0)
    monkeypatch.setattr(processes.distributed, "all_reduce", lambda message: message.add_(theirs))
    processes.sum_gradients(mine)
    assert torch.equal(mine[0].grad, torch.full((2, 3), 2.0))
    assert mine[1].grad is not None
    assert mine[1].grad.tolist() == [5, 7]
    assert mine[2].grad is None


@pytest.mark.parametrize(
    ("given", "device", "match"),
    [
        ({"WORLD_SIZE": "2"}, "cuda:1", "is for one process"),
        ({"WORLD_SIZE": "2", "ACCELERATE_MIXED_PRECISION": "bf16"}, "cpu", "--dtype"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "ACCELERATE_USE_DEEPSPEED": "true"}, "cpu", "--use_fsdp"),
        ({"WORLD_SIZE": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "cpu", "offload"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_PORT": "29500"}, "cpu", "--multi_gpu"),
    ],
)
def test_what_a_launch_asks_and_training_cannot_do_is_said(
    given: dict[str, str], device: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=match):
        processes.start(device)


def test_too_small_a_batch_and_a_method_that_cannot_share_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert processes.start("cuda:1") == "cuda:1"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert not sharding.sharding()
    pretend(monkeypatch, 2, 0)
    with pytest.raises(UserError, match="memgen cannot be trained with --use_fsdp"):
        together.train_all(tmp_path, ["memgen"])
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(together.rows()[0]))
    command = ["train", "token-write", "--model", "embedded", "--data", str(data), "--batch", "1"]
    found = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert isinstance(found.exception, UserError)
    assert "--batch 1 gives 2 processes nothing" in str(found.exception)
