"""Corrections with a learnt scale, and the one of o through a norm: against their formulas, and on disk."""

import math
from pathlib import Path

import pytest
import torch
from deltamem_eval.methods.delta_mem import (
    DeltaMemConfig,
    attach,
    detach,
    load_adapter,
    save_adapter,
    trainable_parameters,
)
from deltamem_eval.methods.delta_mem.config import HEADS, added_parameters
from deltamem_eval.methods.delta_mem.hooks import attachment_of
from deltamem_eval.methods.delta_mem.memory import LayerMemory
from safetensors.torch import load_file
from tiny import tiny_backbone
from torch import Tensor, nn

IDS = torch.arange(40)[None] + 3
WIDTHS = {"q": 48, "k": 24, "v": 24, "o": 48}
REFINED = {
    "norm": DeltaMemConfig(delta_o_rmsnorm=True, delta_o_rmsnorm_eps=1e-3),
    "scale": DeltaMemConfig(trainable_delta_scale=True, delta_scale_init=0.5, delta_heads=HEADS),
    "scales": DeltaMemConfig(
        trainable_delta_scale=True, delta_scale_granularity="head", delta_scale_max=3.0, num_state_heads=2
    ),
    "both": DeltaMemConfig(
        delta_o_rmsnorm=True, trainable_delta_scale=True, delta_scale_granularity="head", alpha=3.0
    ),
    "a norm without its correction": DeltaMemConfig(delta_o_rmsnorm=True, delta_heads=("q",)),
}
each = pytest.mark.parametrize("name", REFINED)


@pytest.fixture
def model() -> nn.Module:
    return tiny_backbone().model


def randomised(model: nn.Module, config: DeltaMemConfig) -> list[LayerMemory]:
    attach(model, config)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable_parameters(model):
        parameter.data.normal_(0, 0.3, generator=generator)
    return list(attachment_of(model).memories.values())


def by_formula(config: DeltaMemConfig, memory: LayerMemory, head: str, reads: Tensor) -> Tensor:
    own = {name: parameter.detach().double() for name, parameter in memory.named_parameters()}
    change = config.alpha / config.rank * reads.double() @ own[f"delta_{head}_proj"].T
    if config.trainable_delta_scale:
        raw = own["delta_scale_raw"]
        one = raw["qkvo".index(head)] if config.delta_scale_granularity == "head" else raw[0]
        change = change * config.delta_scale_max / (1 + torch.exp(-one))
    if head == "o" and config.delta_o_rmsnorm:
        size = (change.square().mean(-1, keepdim=True) + config.delta_o_rmsnorm_eps).sqrt()
        change = change / size * own["delta_o_rmsnorm_weight"]
    return change


@each
@pytest.mark.parametrize("shape", [(2, 5), (3,)], ids=["sequence", "token"])
@pytest.mark.parametrize("gradients", [True, False])
def test_corrections_are_those_of_the_formula(
    name: str, shape: tuple[int, ...], gradients: bool, model: nn.Module
) -> None:
    config = REFINED[name]
    memory = randomised(model, config)[1]
    reads = torch.randn(*shape, config.width, generator=torch.Generator().manual_seed(2))
    for head in config.delta_heads:
        output = torch.randn(shape[0], (*shape, 1)[1], WIDTHS[head])
        memory.reads = reads.unsqueeze(1) if gradients and len(shape) == 1 else reads
        wanted = output.double() + by_formula(config, memory, head, reads).reshape(output.shape)
        with torch.set_grad_enabled(gradients):
            found = memory.corrected(head, output)
        torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)


@each
@pytest.mark.parametrize("form", ["release", "safetensors"])
def test_they_go_round_through_a_folder(name: str, form: str, model: nn.Module, tmp_path: Path) -> None:
    config = REFINED[name]
    randomised(model, config)
    save_adapter(model, tmp_path, form)
    with torch.no_grad():
        model(IDS)
        wanted = model(IDS).logits
    detach(model)
    assert load_adapter(model, tmp_path) == config
    with torch.no_grad():
        model(IDS)
        assert torch.equal(model(IDS).logits, wanted)
    if form == "safetensors":
        names = {key.rsplit(".", 1)[1] for key in load_file(tmp_path / "delta_mem_adapter.safetensors")}
        assert ("delta_o_rmsnorm_weight" in names) == config.delta_o_rmsnorm
        assert ("delta_scale_raw" in names) == config.trainable_delta_scale


@each
def test_added_parameters_are_counted_exactly(name: str, model: nn.Module) -> None:
    config = REFINED[name]
    attach(model, config)
    loaded = sum(parameter.numel() for parameter in trainable_parameters(model))
    assert added_parameters(config, 48, WIDTHS, 3) == loaded


def test_scales_start_at_what_the_config_says(model: nn.Module) -> None:
    attach(model, REFINED["scale"])
    for memory in attachment_of(model).memories.values():
        assert 2.0 * memory.delta_scale_raw.sigmoid().item() == pytest.approx(0.5)
    detach(model)
    attach(model, DeltaMemConfig(trainable_delta_scale=True, delta_scale_init=1e-9))
    for memory in attachment_of(model).memories.values():
        assert memory.delta_scale_raw.item() == pytest.approx(math.log(1e-4 / (1 - 1e-4)))


def test_padding_stays_without_a_correction(model: nn.Module) -> None:
    """What o gives before and after its correction, seen by hooks around the memory's own."""
    before, after = [], []
    projection = model.get_submodule("model.layers.1.self_attn.o_proj")
    projection.register_forward_hook(lambda _, __, output: before.append(output.clone()))
    randomised(model, REFINED["both"])
    projection.register_forward_hook(lambda _, __, output: after.append(output.clone()))
    mask = torch.ones_like(IDS)
    mask[:, :7] = 0
    with torch.no_grad():
        model(IDS)  # so that there is something to read
        model(IDS, attention_mask=mask)
    same = (before[1] == after[1]).all(-1)
    assert same.tolist() == (mask == 0).tolist()


def test_a_file_that_says_less_means_the_release_s_defaults() -> None:
    assert DeltaMemConfig.from_json({"rank": 4}).delta_heads == HEADS
    assert DeltaMemConfig.from_json({}).output_init == "zero"
    assert DeltaMemConfig.from_json(DeltaMemConfig().to_json()) == DeltaMemConfig()
