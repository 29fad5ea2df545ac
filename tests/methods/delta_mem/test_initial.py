"""Where corrections start: nowhere, or along the columns of the weight that they correct."""

from typing import Any

import pytest
import torch
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach
from deltamem_eval.methods.delta_mem.config import HEADS
from deltamem_eval.methods.delta_mem.hooks import attachment_of
from deltamem_eval.methods.delta_mem.initial import initial_delta
from tiny import tiny_backbone
from torch import Tensor

GAIN = 0.3


def config(init: str, **more: Any) -> DeltaMemConfig:
    """Twelve rows a state, four states: a correction has 48 columns."""
    given = {"rank": 12, "num_state_heads": 4, "output_init": init, "online_gain": GAIN, "delta_heads": HEADS}
    return DeltaMemConfig(**{**given, **more})


def columns(base: Tensor, count: int, width: int) -> Tensor:
    """By the definition, one column after the other [out, width]."""
    wanted = torch.zeros(base.shape[0], width)
    for index in range(count):
        column = base[:, index].float()
        wanted[:, index] = GAIN * column / column.square().sum().sqrt()
    return wanted


@pytest.mark.parametrize(
    ("init", "more", "inputs", "count"),
    [
        ("base_slice", {}, 30, 12),  # of one state's rank, not of all 48 columns
        ("base_slice", {"base_slice_ref_width": 3}, 30, 12),
        ("base_slice", {}, 5, 5),  # the weight has fewer
        ("base_slice", {"rank": 4, "num_state_heads": 1}, 30, 4),
        ("base_slice_fixed", {}, 30, 8),
        ("base_slice_fixed", {"base_slice_ref_width": 3}, 30, 3),
        ("base_slice_fixed", {"base_slice_ref_width": 40}, 30, 12),
        ("base_slice_fixed", {}, 5, 5),
        ("base_slice_fixed", {"rank": 4}, 30, 4),
        ("zero", {}, 30, 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_start_along_the_weight(
    init: str, more: dict[str, int], inputs: int, count: int, dtype: torch.dtype
) -> None:
    base = torch.randn(20, inputs, generator=torch.Generator().manual_seed(1)).to(dtype)
    before, made = base.clone(), config(init, **more)
    start = initial_delta(made, base)
    assert (start.dtype, start.shape) == (torch.float32, (20, made.rank * made.num_state_heads))
    torch.testing.assert_close(start, columns(base, count, start.shape[1]))
    assert not start[:, count:].any()
    assert torch.equal(base, before)


def test_a_column_of_zeros_stays_one() -> None:
    base = torch.ones(6, 9)
    base[:, 1] = 0
    start = initial_delta(config("base_slice"), base)
    assert not start[:, 1].any()
    assert start[:, [0, 2, 8]].norm(dim=0).tolist() == pytest.approx([GAIN] * 3)
    assert start.isfinite().all()


@pytest.mark.parametrize(("init", "count"), [("base_slice", 12), ("base_slice_fixed", 8), ("zero", 0)])
def test_attached_memories_start_there(init: str, count: int) -> None:
    model = tiny_backbone().model
    attach(model, config(init, delta_heads=("q", "v", "o")))
    memories = attachment_of(model).memories
    assert len(memories) == 3
    for path, memory in memories.items():
        for head in ("q", "v", "o"):
            weight = model.get_submodule(f"{path}.{head}_proj").weight.detach()
            found = getattr(memory, f"delta_{head}_proj")
            torch.testing.assert_close(found.detach(), columns(weight, count, 48))
            assert found.requires_grad
        assert not memory.delta_k_proj.any()
        assert not memory.delta_k_proj.requires_grad
    detach(model)
