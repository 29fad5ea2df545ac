"""Running on shapes: what is known stays known, what is not is made up, and only the device's bytes count."""

import pytest
import torch
from deltamem_eval.profiling.shapes_only import META, shapes_only
from torch.nn.functional import scaled_dot_product_attention


def test_whole_numbers_are_followed_through_views_and_changes() -> None:
    with shapes_only():
        ids = torch.tensor([[5, 6, 7]], device=META)
        mask = torch.zeros(1, 4, dtype=torch.long, device=META)
        mask[:, 1:] = 1
        mask[0, 0] = ids[0, 2]
        assert mask.tolist() == [[7, 1, 1, 1]]
        assert (mask.cumsum(1) - 1).tolist() == [[6, 7, 8, 9]]
        assert bool((mask != 0).all())
        assert not bool((mask > 1).all())
        assert torch.cat([ids, mask], 1).sum().item() == 28


def test_shapes_that_depend_on_values_come_out_right() -> None:
    with shapes_only():
        ids = torch.tensor([[3, 1, 3, -1]], device=META)
        found = torch.unique(ids)
        assert found[found >= 0].tolist() == [1, 3]
        assert torch.masked_select(torch.rand(1, 4, device=META), ids == 3).shape == (2,)
        assert ids.nonzero().shape == (4, 2)


def test_what_is_not_known_is_made_up_when_it_is_read() -> None:
    with shapes_only():
        weights = torch.rand(8, 4, device=META)
        scores = weights @ torch.rand(4, 3, device=META)
        assert scores.argmax(-1).tolist() == [1] * 8
        assert all(0 <= value <= 1 for row in scores.cpu().tolist() for value in row)
        counts = torch.tensor([1, 2], device=META)
        counts += scores.argmax(-1)[:2]  # known no longer
        assert counts.tolist() == [1, 1]


def test_bytes_of_the_device_count_and_no_others() -> None:
    with shapes_only() as ledger:
        host = torch.zeros(1024)
        assert ledger.live == 0
        there = host.to("cuda")
        assert there.device == META
        assert ledger.live == 4096
        del there
        assert (ledger.live, ledger.peak) == (0, 4096)
        with pytest.raises(RuntimeError):  # shapes are checked as ever
            torch.zeros(2, 3, device=META) @ torch.zeros(2, 3, device=META)


def test_attention_leaves_its_output_and_no_scores() -> None:
    with shapes_only() as ledger, META:
        query, key = torch.rand(1, 4, 512, 16), torch.rand(1, 2, 512, 16)
        ledger.restart()
        before = ledger.live
        made = scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)
        output, sums = 4 * 512 * 16 * 4, 4 * 512 * 4
        assert made.shape == query.shape
        assert (ledger.live - before, ledger.peak - before) == (output, output + sums)
