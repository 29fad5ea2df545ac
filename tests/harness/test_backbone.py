"""Reading a context."""

import pytest
import torch
from deltamem_eval import backbone as module
from deltamem_eval.decoding import Request
from tiny import tiny_backbone


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
