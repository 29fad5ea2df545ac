"""Attention to a shared prefix equals attention to a copy of it in every row."""

import copy

import pytest
import torch
from deltamem_eval import attention
from deltamem_eval.attention import NAME, attend, can_share, limited, reading
from deltamem_eval.backbone import Backbone
from deltamem_eval.decoding import Request
from tiny import byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

PLAIN_KINDS = ("qwen3", "qwen2", "llama", "mistral", "smollm3")


def model_of(kind: str, attention: str = "sdpa", **more: object) -> AutoModelForCausalLM:
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        kind,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        vocab_size=258,
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        **({"sliding_window": None} | more if kind == "mistral" else more),
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@pytest.mark.parametrize("block", [1, 3, 64])
@pytest.mark.parametrize(("rows", "heads", "shared", "tokens", "past"), [(3, 4, 2, 5, 7), (1, 3, 3, 1, 64)])
def test_two_parts_are_one_softmax(
    rows: int, heads: int, shared: int, tokens: int, past: int, block: int
) -> None:
    torch.manual_seed(0)
    query = 3 * torch.randn(rows, heads, tokens, 8)
    key, value = torch.randn(2, rows, shared, tokens, 8)
    prefix = torch.randn(2, 1, shared, past, 8)
    causal = torch.full((tokens, tokens), torch.finfo(torch.float32).min).triu(1)
    mask = causal.expand(rows, 1, tokens, tokens).clone()
    mask[0, :, :, 0] = torch.finfo(torch.float32).min  # a padded token; its own query sees the prefix alone
    found = attend(query, key, value, mask, (prefix[0], prefix[1]), 0.4, block)
    whole = [
        torch.cat([prefix[index].expand(rows, -1, -1, -1), own], 2) for index, own in enumerate((key, value))
    ]
    keys, values = (item.repeat_interleave(heads // shared, 1) for item in whole)
    bias = torch.cat([torch.zeros(rows, 1, tokens, past), mask], -1)
    wanted = (0.4 * query @ keys.transpose(-1, -2) + bias).softmax(-1) @ values
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_halves_are_multiplied_and_summed_in_float32(kind: torch.dtype, device: str) -> None:
    """Products before their scaling, and sums of values, that a float16 cannot hold."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    torch.manual_seed(0)
    query = (400 * torch.rand(2, 4, 3, 16)).to(device, kind)
    key, value = (100 * torch.rand(2, 2, 2, 3, 16)).to(device, kind)
    prefix = (100 * torch.rand(2, 1, 2, 2000, 16)).to(device, kind)
    mask = torch.zeros(2, 1, 3, 3, device=device, dtype=kind)
    assert (query.float() @ prefix[0].float().repeat_interleave(2, 1).mT).amax() > 2 * 65_504
    found = attend(query, key, value, mask, (prefix[0], prefix[1]), 1e-5)
    assert found.dtype == kind
    wide = [item.float() for item in (query, key, value, mask)]
    wanted = attend(*wide, (prefix[0].float(), prefix[1].float()), 1e-5)
    torch.testing.assert_close(found.float(), wanted, atol=0, rtol=0.01)


def test_many_rows_take_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 4, 5, 8)
    key, value = torch.randn(2, 3, 2, 5, 8)
    prefix = torch.randn(2, 1, 2, 900, 8)
    mask = torch.zeros(3, 1, 5, 5)
    seen: list[int] = []
    product = attention._product

    def watched(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        made = product(left, right)
        seen.append(made.numel())
        return made

    wanted = attend(query, key, value, mask, (prefix[0], prefix[1]), 0.4)
    monkeypatch.setattr(attention, "_product", watched)
    monkeypatch.setattr(attention, "SCORES", 2 * 30 * 200)
    found = attend(query, key, value, mask, (prefix[0], prefix[1]), 0.4)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert max(seen) == 2 * 30 * 200


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_a_model_reads_it_as_it_would_a_copy(kind: str, attention: str) -> None:
    model = model_of(kind, attention)
    assert can_share(model)
    generator = torch.Generator().manual_seed(1)
    context = torch.randint(2, 258, (1, 23), generator=generator)
    asked = torch.randint(2, 258, (3, 6), generator=generator)
    own = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]])
    positions = (own.cumsum(1) - 1).clamp(min=0) + 23
    with torch.no_grad():
        cache = model(context, use_cache=True).past_key_values
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        with reading(model, layers):
            shared = model(asked, attention_mask=own, position_ids=positions, use_cache=True)
            again = model(
                asked[:, :1],
                attention_mask=torch.cat([own, own.new_ones(3, 1)], 1),
                position_ids=positions[:, -1:] + 1,
                past_key_values=shared.past_key_values,
            )
        assert model.config._attn_implementation == attention
        copied = copy.deepcopy(cache)
        copied.batch_repeat_interleave(3)
        mask = torch.cat([own.new_ones(3, 23), own], 1)
        wanted = model(asked, attention_mask=mask, position_ids=positions, past_key_values=copied)
        after = model(
            asked[:, :1],
            attention_mask=torch.cat([mask, own.new_ones(3, 1)], 1),
            position_ids=positions[:, -1:] + 1,
            past_key_values=wanted.past_key_values,
        )
    live = own.bool()
    torch.testing.assert_close(shared.logits[live], wanted.logits[live], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(again.logits, after.logits, atol=2e-4, rtol=1e-4)
    assert again.past_key_values.get_seq_length() == 7  # of the row's own tokens
    assert cache.get_seq_length() == 23


def test_models_that_cannot_share_get_copies() -> None:
    for model in (
        model_of("gemma2", "eager"),
        model_of("gemma3_text", layer_types=["sliding_attention", "full_attention"]),
        model_of("mistral", sliding_window=5),
    ):
        assert not can_share(model)
    assert limited(model_of("mistral", sliding_window=5))
    assert not limited(model_of("gemma2", "eager", layer_types=["full_attention"] * 2))


@pytest.mark.parametrize("kind", ["qwen3", "gemma2"])
def test_answers_do_not_depend_on_sharing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(model_of(kind, "eager"), byte_tokenizer(), kind, kind, batch_size=3)
    context = backbone.encode("what is known of the world, in a few words")
    requests = [
        Request(tuple(backbone.encode(text)), 8) for text in ("who?", "and then what?", "a", "why so")
    ]
    prefix = backbone.prefill(context)
    found = backbone.generate(requests, prefix)
    alone = [
        backbone.generate([Request((*context, *request.ids), request.max_new_tokens)])[0]
        for request in requests
    ]
    assert found == alone
    monkeypatch.setattr("deltamem_eval.backbone.can_share", lambda model: False)
    assert backbone.generate(requests, prefix) == found
    assert backbone.model.config._attn_implementation != NAME
