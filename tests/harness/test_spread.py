"""A backbone spread over devices answers and trains as on one, and one that does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import together
import torch
from deltamem_eval.backbone import Backbone, load_backbone, pick_device
from deltamem_eval.cli.main import app
from deltamem_eval.decoding import Request
from deltamem_eval.errors import UserError
from deltamem_eval.provenance import device_line
from deltamem_eval.spread import check_spread, loading
from safetensors.torch import load_file
from tiny import tiny_backbone
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner


def test_where_one_device_is_all_there_is_it_holds_the_whole(tmp_path: Path) -> None:
    spread, plain = (load_backbone("embedded", device, "float32") for device in ("spread", "cpu"))
    assert spread.devices == plain.devices == "cpu"
    requests = [Request(tuple(spread.encode("Where is it?")), 8)]
    assert spread.generate(requests) == plain.generate(requests)


def test_training_a_spread_backbone_gives_the_same_adapter(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in together.rows()))
    found = []
    for device in ("spread", "cpu"):
        command = ["train", "token-write", "--model", "embedded", "--data", str(data), "--steps", "1"]
        command += [
            "--batch",
            "2",
            "--write-length",
            "64",
            "--device",
            device,
            "--out",
            str(tmp_path / device),
        ]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0
        found.append(load_file(tmp_path / device / "delta_mem_adapter.safetensors"))
    assert all(torch.equal(found[0][name], tensor) for name, tensor in found[1].items())


def test_weights_that_stay_off_the_devices_are_refused(tmp_path: Path) -> None:
    tiny_backbone().model.save_pretrained(tmp_path / "model")
    places = dict.fromkeys(("model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head"), "cpu")
    places |= {"model.layers.2": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "off")
    )
    with pytest.raises(UserError, match=r"does not fit: 1 of its 7 parts .*model\.layers\.2"):
        check_spread(model, "tiny")
    check_spread(tiny_backbone().model, "tiny")


def test_what_spread_is_not_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loading("cpu") == {}
    with pytest.raises(UserError, match="use auto, cpu, cuda or spread"):
        pick_device("spraed")
    command = ["profile", "--method", "vanilla", "--device", "spread"]
    assert "profile measures one device" in str(CliRunner().invoke(app, command).exception)
    monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
    with pytest.raises(UserError, match=r"--device spread needs accelerate: pip install"):
        loading("spread")


def test_a_run_names_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"cuda:0": "H100", "cuda:1": "H100", "cuda:2": "L4"}
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    assert device_line("cuda:0,cuda:1,cuda:2").startswith("2 × H100 + L4, CUDA")

    class Parameter:
        def __init__(self, device: str) -> None:
            self.device = device

    backbone = tiny_backbone()
    made = Backbone(backbone.model, backbone.tokenizer, "tiny", "tiny")
    devices = [Parameter(name) for name in ("cuda:0", "cuda:0", "cuda:1")]
    monkeypatch.setattr(made.model, "parameters", lambda: iter(devices))
    assert made.devices == "cuda:0,cuda:1"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device beside the CPU")
def test_memories_follow_layers_on_two_kinds_of_device(tmp_path: Path) -> None:
    from accelerate import dispatch_model

    def train(backbone: Backbone, out: Path) -> dict[str, torch.Tensor]:
        together.train_on(backbone, "token-write", out)
        return load_file(out / "delta_mem_adapter.safetensors")

    split = together.fresh()
    places = dict.fromkeys(("model.embed_tokens", "model.layers.0", "model.rotary_emb", "lm_head"), "cpu")
    places |= {"model.layers.1": 0, "model.layers.2": 0, "model.norm": 0}
    split.model = dispatch_model(split.model, places, main_device="cpu")
    torch.testing.assert_close(train(split, tmp_path / "split"), train(together.fresh(), tmp_path / "one"))
