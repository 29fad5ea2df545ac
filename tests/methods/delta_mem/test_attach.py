"""Memories on tiny random models of every served architecture."""

from collections.abc import Iterator

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem import (
    DeltaMemConfig,
    attach,
    detach,
    get_state,
    hooks,
    reset_state,
    segments,
    set_state,
    trainable_parameters,
    writing,
)
from deltamem_eval.methods.delta_mem.config import added_parameters
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": 40,
    "vocab_size": 97,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = ("qwen3", "qwen2", "smollm3", "llama", "mistral", "gemma2", "gemma3_text")


def tiny(family: str = "qwen3", attention: str = "eager") -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def randomised(model: nn.Module, config: DeltaMemConfig) -> None:
    attach(model, config)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable_parameters(model):
        parameter.data.normal_(0, 0.3, generator=generator)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(3, 97, (2, 40), generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_steers_and_detaches_without_a_trace(family: str, attention: str, ids: Tensor) -> None:
    if (family, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers serves Gemma 2 with eager attention only: it caps the attention logits")
    model = tiny(family, attention)
    before, names = model(ids).logits, set(model.state_dict())
    randomised(model, DeltaMemConfig(num_state_heads=2, delta_heads=("q", "k", "v", "o")))
    assert set(model.state_dict()) == names
    assert not torch.allclose(model(ids).logits, before, atol=1e-3)
    detach(model)
    assert torch.equal(model(ids).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_memory_that_is_not_written_changes_nothing(family: str, ids: Tensor) -> None:
    model = tiny(family)
    before = model(ids).logits
    randomised(model, DeltaMemConfig())
    with writing(model, False):
        assert torch.equal(model(ids).logits, before)
    assert get_state(model) == {}


def test_decoding_with_a_cache_equals_one_forward(ids: Tensor) -> None:
    model = tiny()
    randomised(model, DeltaMemConfig(num_state_heads=4))
    wanted = model(ids).logits
    states = get_state(model)
    reset_state(model)
    cache, parts = None, []
    for part in ids.split([17, 20, 1, 1, 1], dim=1):
        output = model(part, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, 1), wanted, atol=1e-4, rtol=1e-4)
    for path, state in get_state(model).items():
        torch.testing.assert_close(state, states[path], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("granularity", ["token", "message_mean"])
def test_left_padding_changes_nothing(granularity: str, ids: Tensor) -> None:
    model = tiny()
    randomised(model, DeltaMemConfig(memory_write_granularity=granularity))
    messages = torch.arange(40).expand(2, 40) // 7
    with segments(model, messages):
        wanted = model(ids, position_ids=torch.arange(40)[None].expand(2, 40)).logits
    states = get_state(model)
    reset_state(model)
    padding = torch.zeros(2, 9, dtype=torch.long)
    mask = torch.cat([padding, torch.ones_like(ids)], 1)
    with segments(model, torch.cat([padding, messages], 1)):
        got = model(
            torch.cat([padding, ids], 1),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        ).logits[:, 9:]
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    for path, state in get_state(model).items():
        torch.testing.assert_close(state, states[path], atol=1e-5, rtol=1e-5)


def test_sequence_write_reads_the_state_from_before_and_writes_each_mean_once(ids: Tensor) -> None:
    model = tiny()
    config = DeltaMemConfig(memory_write_granularity="message_mean", target_layers=(0,))
    before = model(ids).logits
    randomised(model, config)
    messages = torch.full((2, 40), -1)
    messages[0, 5:11], messages[0, 11:30], messages[1, 2:4] = 1, 0, 7
    with segments(model, messages):
        assert torch.equal(model(ids).logits, before)
    layer = model.model.layers[0]
    hidden = layer.input_layernorm(model.model.embed_tokens(ids))
    wanted = get_state(model)
    reset_state(model)
    from deltamem_eval.methods.delta_mem.hooks import attachment_of

    memory = attachment_of(model).memories["model.layers.0.self_attn"]
    means = [[hidden[0, 11:30].mean(0), hidden[0, 5:11].mean(0)], [hidden[1, 2:4].mean(0)]]
    for row, row_means in enumerate(means):
        memory.state = None
        memory.step(torch.stack(row_means)[None], None, None, True)
        torch.testing.assert_close(
            memory.state[0], wanted["model.layers.0.self_attn"][row], atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("tokens", [1, 40])
def test_generated_tokens_belong_to_no_message(tokens: int, ids: Tensor) -> None:
    model, prompt = tiny(), ids[:, :tokens]
    randomised(model, DeltaMemConfig(memory_write_granularity="message_mean"))
    messages = torch.arange(tokens).expand(2, tokens) // 7
    with segments(model, messages):
        model(prompt)
    written = get_state(model)
    reset_state(model)
    with segments(model, messages):
        out = model.generate(prompt, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert out.shape == (2, tokens + 6)
    assert all(torch.equal(state, written[path]) for path, state in get_state(model).items())
    reset_state(model)
    with segments(model, messages):
        output = model(prompt)
        by_hand = []
        for _ in range(6):
            by_hand.append(output.logits[:, -1:].argmax(-1))
            output = model(by_hand[-1], past_key_values=output.past_key_values)
    assert all(torch.equal(state, written[path]) for path, state in get_state(model).items())
    reset_state(model)
    with segments(model, messages):
        output = model(prompt)
    with writing(model, False):
        for token in by_hand:
            assert torch.equal(output.logits[:, -1:].argmax(-1), token)
            output = model(token, past_key_values=output.past_key_values)
    assert torch.equal(torch.cat([prompt, *by_hand], 1), out)


def test_an_answer_is_written_by_a_block_of_its_own(ids: Tensor) -> None:
    model = tiny()
    randomised(model, DeltaMemConfig(memory_write_granularity="message_mean"))
    cache = DynamicCache(config=model.config)
    with segments(model, torch.zeros(2, 33, dtype=torch.long)):
        for part in ids[:, :33].split([20, 13], dim=1):
            model(part, past_key_values=cache)
    before = get_state(model)
    with segments(model, torch.ones(2, 7, dtype=torch.long)):
        model(ids[:, 33:], past_key_values=cache)
    after = get_state(model)
    assert all(not torch.allclose(state, before[path], atol=1e-3) for path, state in after.items())


def test_message_ids_of_another_length_are_refused(ids: Tensor) -> None:
    model = tiny()
    randomised(model, DeltaMemConfig(memory_write_granularity="message_mean"))
    with (
        segments(model, torch.zeros(2, 39, dtype=torch.long)),
        pytest.raises(ValueError, match=r"message ids are \(2, 39\) but the forward has \(2, 40\)"),
    ):
        model(ids)


def test_subset_of_layers(ids: Tensor) -> None:
    model = tiny()
    randomised(model, DeltaMemConfig(target_layers=(1,)))
    model(ids)
    assert list(get_state(model)) == ["model.layers.1.self_attn"]


@pytest.mark.parametrize(
    "config",
    [
        DeltaMemConfig(),
        DeltaMemConfig(num_state_heads=4, delta_heads=("q", "k", "v", "o")),
        DeltaMemConfig(rankwise_gates=False, couple_lambda=False, num_state_heads=2),
        DeltaMemConfig(couple_lambda=False, state_update_mode="no_lambda"),
        DeltaMemConfig(target_layers=(0, 2), delta_heads=("v",), rank=5),
    ],
)
def test_parameter_formula_counts_what_is_trained(config: DeltaMemConfig) -> None:
    model = tiny()
    attach(model, config)
    counted = sum(parameter.numel() for parameter in trainable_parameters(model))
    assert counted == added_parameters(config, 48, {"q": 48, "k": 24, "v": 24, "o": 48}, 3)


def test_published_counts_on_qwen3_4b() -> None:
    outputs = {"q": 4096, "k": 1024, "v": 1024, "o": 2560}
    assert added_parameters(DeltaMemConfig(), 2560, outputs, 36) == 4_866_336
    assert added_parameters(DeltaMemConfig(num_state_heads=4), 2560, outputs, 36) == 4 * 4_866_336


def test_a_state_for_another_batch_is_refused(ids: Tensor) -> None:
    model = tiny()
    randomised(model, DeltaMemConfig())
    model(ids)
    with pytest.raises(ValueError, match="2 rows but 1 came"):
        model(ids[:1])
    with pytest.raises(UserError, match="expected"):
        set_state(model, {"model.layers.0.self_attn": torch.zeros(1, 4, 8, 8)})


def test_models_that_cannot_be_served_are_refused_with_the_reason() -> None:
    gpt2 = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", n_embd=16, n_layer=1, n_head=2, vocab_size=20)
    )
    with pytest.raises(UserError, match="no attention module named self_attn"):
        attach(gpt2, DeltaMemConfig())
    phi = AutoModelForCausalLM.from_config(AutoConfig.for_model("phi3", **SIZES))
    with pytest.raises(UserError, match="has no q_proj, k_proj, v_proj"):
        attach(phi, DeltaMemConfig())
    model = tiny()
    with pytest.raises(UserError, match="no layer 7"):
        attach(model, DeltaMemConfig(target_layers=(7,)))
    attach(model, DeltaMemConfig())
    with pytest.raises(UserError, match="already carries"):
        attach(model, DeltaMemConfig())


@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [
        (torch.uint8, (1152, 1), r"uint8 \[1152, 1\]"),
        (torch.int8, (48, 48), r"int8 \[48, 48\]"),
        (torch.float8_e4m3fn, (48, 48), r"float8_e4m3fn \[48, 48\]"),
        (torch.float32, (1152, 1), r"float32 \[1152, 1\]"),
        (torch.float32, (2304,), r"float32 \[2304\]"),
    ],
)
def test_packed_weights_are_refused_and_nothing_stays_attached(
    dtype: torch.dtype, shape: tuple[int, ...], words: str, ids: Tensor
) -> None:
    model = tiny()
    projection = model.model.layers[1].self_attn.o_proj
    plain, before = projection.weight, model(ids).logits
    projection.weight = nn.Parameter(torch.zeros(shape).to(dtype), requires_grad=False)
    with pytest.raises(UserError, match=rf"weight of model.layers.1.self_attn.o_proj is {words}.*quantised"):
        attach(model, DeltaMemConfig())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    projection.weight = plain
    attach(model, DeltaMemConfig())
    detach(model)
    assert torch.equal(model(ids).logits, before)


def test_a_memory_that_cannot_be_made_leaves_nothing(ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    before = model(ids).logits
    made = []

    class Short(hooks.LayerMemory):
        def __init__(self, *given: object) -> None:
            if len(made) == 2:
                raise torch.OutOfMemoryError
            made.append(self)
            super().__init__(*given)

    monkeypatch.setattr(hooks, "LayerMemory", Short)
    with pytest.raises(torch.OutOfMemoryError):
        attach(model, DeltaMemConfig(output_init="random"))
    model(ids)
    assert torch.equal(model(ids).logits, before)


def test_checkpointed_gradients_are_refused(ids: Tensor) -> None:
    model = tiny().train()
    model.gradient_checkpointing_enable()
    attach(model, DeltaMemConfig())
    model(ids)  # without gradients nothing is computed again
    with torch.enable_grad(), pytest.raises(ValueError, match="cannot checkpoint gradients"):
        model(ids)
    model.gradient_checkpointing_disable()
    with torch.enable_grad():
        model(ids).logits.sum().backward()
