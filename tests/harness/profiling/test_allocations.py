"""Counting bytes of tensors against sizes known beforehand."""

import torch
from deltamem_eval.profiling.allocations import Allocations, peak_of

KIB = 1024


def test_live_and_peak_by_hand() -> None:
    before = torch.zeros(4 * KIB)
    with Allocations() as found:
        one = before + 1  # 16 KiB
        view = one[:10]
        two = torch.zeros(KIB)  # 4 KiB
        assert found.live == 20 * KIB
        del one
        assert found.live == 20 * KIB  # the view still holds it
        del view
        assert found.live == 4 * KIB
        two.add_(1)
        before.mul_(2)
        assert (found.live, found.peak) == (4 * KIB, 20 * KIB)
        del two
        assert found.live == 0


def test_what_autograd_keeps_is_seen() -> None:
    start = torch.ones(KIB, requires_grad=True)
    with Allocations() as found:
        end = (start * 2).sin().sin().sum()
        assert found.live == 2 * 4 * KIB + 4  # both sines keep their input
        end.backward()
        del end
        assert found.live == 4 * KIB  # the gradient


def test_peak_of_one_call() -> None:
    def work(size: int) -> float:
        return float((torch.zeros(size) + 1).sum())

    assert peak_of(work, KIB) == 8 * KIB
