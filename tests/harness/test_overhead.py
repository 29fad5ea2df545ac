"""Parameter arithmetic against models built without memory, for every family."""

import json
import re
from pathlib import Path

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach, trainable_parameters
from deltamem_eval.methods.delta_mem.config import added_parameters
from deltamem_eval.methods.delta_mem.method import MultiWrite, SequenceWrite, TokenWrite
from deltamem_eval.overhead import ModelShape, read_shape
from deltamem_eval.shapes import CONFIGS
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 120,
    "pad_token_id": 0,
}
FAMILIES = ("qwen3", "qwen2", "llama", "mistral", "smollm3", "gemma", "gemma2", "gemma3_text")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_backbone_and_adapter_parameters_equal_the_module_s(family: str, tied: bool) -> None:
    config = AutoConfig.for_model(family, **SIZES, head_dim=12, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = ModelShape.from_config(config.to_dict())
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    if family == "gemma2":
        return  # attached in test_attach
    adapter = DeltaMemConfig(num_state_heads=2, delta_heads=("q", "k", "v", "o"))
    real = AutoModelForCausalLM.from_config(config)
    attach(real, adapter)
    outputs = {"q": shape.q_out, "k": shape.kv_out, "v": shape.kv_out, "o": shape.hidden}
    wanted = sum(parameter.numel() for parameter in trainable_parameters(real))
    assert added_parameters(adapter, shape.hidden, outputs, shape.layers) == wanted
    detach(real)


def test_the_paper_s_numbers_on_qwen3_4b(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["Qwen/Qwen3-4B-Instruct-2507"]))
    shape = read_shape(tmp_path)
    assert shape.parameters == 4_022_468_096
    assert TokenWrite.overhead(shape, {}).trainable == 4_866_336
    assert SequenceWrite.overhead(shape, {}).stored == 4_866_336
    assert MultiWrite.overhead(shape, {}).trainable == 19_465_344


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "JSON object"),
        ("{", "cannot read"),
        ('{"model_type": "mamba"}', "no parameter formula"),
        ('{"model_type": "qwen3"}', "lacks 'hidden_size'"),
    ],
)
def test_configs_that_are_none(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(UserError, match=words):
        read_shape(file)


@pytest.mark.parametrize("value", [None, 0, -4, "many", "48", [], True, 1.5])
@pytest.mark.parametrize("name", ["hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size"])
def test_fields_that_are_no_counts_are_named(name: str, value: object, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "qwen3", **SIZES, name: value}))
    if name == "num_key_value_heads" and value is None:
        assert read_shape(file).kv_heads == SIZES["num_attention_heads"]
        return
    with pytest.raises(UserError) as raised:
        read_shape(file)
    shown = re.escape(repr(value))
    assert re.fullmatch(f"'{name}' of the model config must be .* above 0, not {shown}", str(raised.value))


def test_fields_that_may_be_missing_may_be_null() -> None:
    config = {"model_type": "qwen3", **SIZES}
    nulls = dict.fromkeys(("head_dim", "max_position_embeddings"))
    assert ModelShape.from_config({**config, **nulls}) == ModelShape.from_config(config)
    assert ModelShape.from_config(config).head_dim == 12
    assert ModelShape.from_config(config).positions == 0
