"""Reading a context."""

import pytest
import torch
from deltamem_eval import backbone as module
from deltamem_eval.backbone import Backbone
from deltamem_eval.decoding import Request
from deltamem_eval.profiling.allocations import Allocations
from tiny import byte_tokenizer, tiny_backbone, tiny_config
from transformers import AutoModelForCausalLM


@pytest.mark.parametrize("piece", [1, 7, 30, 31])
def test_a_context_read_by_pieces_is_the_one_read_at_once(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbone()
    ids = backbone.encode("Ann keeps seven. Bo keeps nine.")
    requests = [Request(tuple(backbone.encode(text)), 6) for text in ("Ann?", "and Bo?")]
    found = []
    for size in (len(ids), piece):
        monkeypatch.setattr(module, "PIECE", size)
        prefix = backbone.prefill(ids)
        assert prefix is not None
        found.append((prefix, backbone.generate(requests, prefix)))
    for wanted, got in zip(found[0][0].layers, found[1][0].layers, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize(
    ("tokens", "piece"),
    [(100, 8192), (8192, 8192), (8193, 2047), (16_384, 1024), (32_768, 512), (262_144, 512)],
)
def test_later_pieces_see_no_more_than_a_mask_may_hold(tokens: int, piece: int) -> None:
    assert module._piece(tokens) == piece


def beyond_its_cache(backbone: Backbone, tokens: int) -> int:
    """Bytes at the peak of a prefill that are not the keys and values it leaves."""
    with Allocations() as found:
        prefix = backbone.prefill([5] * tokens)
    assert prefix is not None
    return found.peak - prefix.bytes


def test_what_reading_takes_beyond_its_cache_is_a_piece_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention looks back at one layer's keys and values, which is little beside what a piece makes."""
    config = tiny_config("qwen3", max_position_embeddings=1024, tie_word_embeddings=False)
    config.intermediate_size = 8192
    backbone = Backbone(AutoModelForCausalLM.from_config(config), byte_tokenizer(), "wide", "wide")
    grown = []
    for piece in (64, 512):
        monkeypatch.setattr(module, "PIECE", piece)
        short, long = (beyond_its_cache(backbone, tokens) for tokens in (256, 512))
        grown.append(long / short)
    assert grown[0] < 1.1
    assert grown[1] > 1.8  # read at once, it is the length's


@pytest.mark.parametrize("piece", [7, 100])
def test_reading_makes_logits_of_one_position_a_piece(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, seen = tiny_backbone(), []
    monkeypatch.setattr(module, "PIECE", piece)
    backbone.model.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    backbone.prefill([5] * 30)
    assert seen == [1] * -(-30 // piece)
