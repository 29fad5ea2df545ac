"""Adapter folders: both formats go round, and every kind of misfit is refused with nothing left attached."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem import (
    DeltaMemConfig,
    adapter_hash,
    attach,
    detach,
    get_state,
    is_attached,
    load_adapter,
    reset_state,
    save_adapter,
    set_state,
    trainable_parameters,
)
from deltamem_eval.methods.delta_mem.hooks import attachment_of
from tiny import tiny_backbone

IDS = torch.arange(40)[None] + 3


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        model(IDS)
        return model(IDS).logits


@pytest.fixture
def model() -> torch.nn.Module:
    made = tiny_backbone().model
    detach(made)
    return made


def saved(model: torch.nn.Module, folder: Path, form: str, config: DeltaMemConfig) -> torch.Tensor:
    attach(model, config)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable_parameters(model):
        parameter.data.normal_(0, 0.3, generator=generator)
    save_adapter(model, folder, form)
    wanted = logits(model)
    detach(model)
    return wanted


@pytest.mark.parametrize("form", ["release", "safetensors"])
@pytest.mark.parametrize(
    "config",
    [
        DeltaMemConfig(),
        DeltaMemConfig(num_state_heads=3, rank=4, delta_heads=("q", "k", "v", "o"), target_layers=(0, 2)),
    ],
)
def test_round_trip(form: str, config: DeltaMemConfig, model: torch.nn.Module, tmp_path: Path) -> None:
    wanted = saved(model, tmp_path, form, config)
    assert load_adapter(model, tmp_path) == config
    assert torch.equal(logits(model), wanted)
    detach(model)
    assert not is_attached(model)


@pytest.mark.parametrize("forms", [("release", "safetensors"), ("safetensors", "release")], ids="-".join)
def test_a_folder_holds_the_adapter_that_was_saved_last(
    forms: tuple[str, str], model: torch.nn.Module, tmp_path: Path
) -> None:
    saved(model, tmp_path, forms[0], DeltaMemConfig(alpha=8.0))
    old = adapter_hash(tmp_path)
    wanted = saved(model, tmp_path, forms[1], DeltaMemConfig(rank=4))
    suffix = {"release": "pt", "safetensors": "safetensors"}[forms[1]]
    assert {path.name for path in tmp_path.iterdir()} == {
        "delta_mem_config.json",
        f"delta_mem_adapter.{suffix}",
    }
    assert adapter_hash(tmp_path) != old
    assert load_adapter(model, tmp_path).rank == 4
    assert torch.equal(logits(model), wanted)


@pytest.mark.parametrize("form", ["release", "safetensors"])
def test_an_uncoupled_gate_that_no_update_uses_is_kept(
    form: str, model: torch.nn.Module, tmp_path: Path
) -> None:
    """The release stores the decay gate of every uncoupled adapter, in mode no_lambda as well."""
    config = DeltaMemConfig(couple_lambda=False, state_update_mode="no_lambda")
    attach(model, config)
    gates = {
        name: parameter
        for memory in attachment_of(model).memories.values()
        for name, parameter in memory.named_parameters()
        if name.startswith("lambda")
    }
    assert {name: tuple(gate.shape) for name, gate in gates.items()} == {
        "lambda_proj": (8, 48),
        "lambda_bias": (8,),
    }
    for parameter in gates.values():
        parameter.data.normal_()
    trained = {id(parameter) for parameter in trainable_parameters(model)}
    assert not trained & {id(gate) for gate in gates.values()}
    wanted = logits(model)
    save_adapter(model, tmp_path, form)
    detach(model)
    assert load_adapter(model, tmp_path) == config
    last = list(attachment_of(model).memories.values())[-1]
    assert all(torch.equal(getattr(last, name), gate) for name, gate in gates.items())
    assert torch.equal(logits(model), wanted)
    for memory in attachment_of(model).memories.values():
        memory.lambda_bias.data.add_(5)
    reset_state(model)
    assert torch.equal(logits(model), wanted)


def test_hash_follows_content(model: torch.nn.Module, tmp_path: Path) -> None:
    saved(model, tmp_path / "a", "safetensors", DeltaMemConfig())
    saved(model, tmp_path / "b", "safetensors", DeltaMemConfig())
    saved(model, tmp_path / "c", "safetensors", DeltaMemConfig(alpha=8.0))
    assert adapter_hash(tmp_path / "a") == adapter_hash(tmp_path / "b") != adapter_hash(tmp_path / "c")


class Trap:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("sprung"),)


def spoil(folder: Path, how: str) -> None:
    file = folder / "delta_mem_adapter.pt"
    weights = torch.load(file, weights_only=True)
    key = next(iter(weights))
    if how == "lacks":
        del weights[key]
    elif how == "is":
        weights[key] = weights[key][..., :-1]
    elif how == "no place":
        weights["model.layers.9.self_attn.memory_q_proj.weight"] = weights[key]
    elif how == "dictionary of tensors":
        weights = {"a": 1}
    if how == "damaged":
        file.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save(weights, file)


@pytest.mark.parametrize("how", ["lacks", "is", "no place", "dictionary of tensors", "damaged"])
def test_weights_that_do_not_fit(
    how: str, model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(model, tmp_path, "release", DeltaMemConfig())
    before = logits(model)
    spoil(tmp_path, how)
    with pytest.raises(UserError, match=how):
        load_adapter(model, tmp_path)
    assert not is_attached(model)
    assert torch.equal(logits(model), before)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "is not JSON"),
        ("[1]", "JSON object"),
        ('{"rnak": 8}', "did you mean rank"),
        ('{"rank": "8"}', "must be int"),
        ('{"memory_readout_mode": "slots"}', "memory_readout_mode='slots' is an archived option"),
        (
            '{"delta_scale_parameterization": "free"}',
            "delta_scale_parameterization='free' is no value of the",
        ),
        ('{"delta_scale_init": 2.0}', "delta_scale_init must lie between 0 and delta_scale_max, 2.0"),
        ('{"delta_scale_granularity": "row"}', "delta_scale_granularity must be one of layer, head"),
        ('{"delta_o_rmsnorm_eps": 0}', "delta_o_rmsnorm_eps must be above 0"),
        ('{"target_layers": [true]}', r"target_layers must be a list of int, not \[True\]"),
        ('{"target_layers": ["a", 1]}', "target_layers must be a list of int"),
        ('{"target_modules": [1]}', "target_modules must be a list of str"),
        ('{"delta_heads": [["q"]]}', "delta_heads must be a list of str"),
        ('{"delta_heads": ["q", "o", "q"]}', "delta_heads names 'q' 2 times"),
        ('{"target_layers": [0, 2, 2]}', "target_layers names 2 2 times"),
    ],
)
def test_configs_that_cannot_be_read(
    content: str, words: str, model: torch.nn.Module, tmp_path: Path
) -> None:
    saved(model, tmp_path, "release", DeltaMemConfig())
    (tmp_path / "delta_mem_config.json").write_text(content)
    with pytest.raises(UserError, match=words):
        load_adapter(model, tmp_path)


def test_the_release_config_keeps_archived_options_at_their_defaults(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    saved(model, tmp_path, "release", DeltaMemConfig())
    assert json.loads((tmp_path / "delta_mem_config.json").read_text())["rank"] == 8


def test_states_come_and_go_as_tensors(model: torch.nn.Module) -> None:
    attach(model, DeltaMemConfig(num_state_heads=2))
    with torch.no_grad():
        model(IDS)
    state = {path: tensor.clone() for path, tensor in get_state(model).items()}
    assert {tuple(tensor.shape) for tensor in state.values()} == {(1, 2, 8, 8)}
    with torch.no_grad():
        model(IDS)
    set_state(model, state)
    assert all(torch.equal(get_state(model)[path], tensor) for path, tensor in state.items())
    detach(model)
