"""Option write_length: what the backbone can read at once is served, all else refused in words."""

from pathlib import Path

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings
from deltamem_eval.methods.delta_mem import attach, detach, is_attached, save_adapter
from deltamem_eval.methods.delta_mem.method import POLICIES
from tiny import tiny_backbone

POSITIONS = 64


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("length", [-5, -1, POSITIONS + 1, 10**9])
def test_a_length_that_cannot_be_is_refused(length: int, policy: str, tmp_path: Path) -> None:
    backbone, kind = tiny_backbone(POSITIONS), POLICIES[policy]
    attach(backbone.model, kind.adapter_config())
    save_adapter(backbone.model, tmp_path)
    detach(backbone.model)
    words = f"option write_length of {policy} is 1 to 64 tokens, the positions of tiny, or 0 for the default"
    with pytest.raises(UserError, match=f"{words}, not {length}"):
        kind(backbone, MethodSettings(0, adapter=str(tmp_path), options={"write_length": length}))
    assert not is_attached(backbone.model)


@pytest.mark.parametrize("length", [0, 1, POSITIONS])
def test_every_length_that_can_be_writes_the_context(length: int, tmp_path: Path) -> None:
    backbone, kind = tiny_backbone(POSITIONS), POLICIES["token-write"]
    attach(backbone.model, kind.adapter_config())
    save_adapter(backbone.model, tmp_path)
    detach(backbone.model)
    method = kind(backbone, MethodSettings(0, adapter=str(tmp_path), options={"write_length": length}))
    method.write(Chunk("the cedar gate is 2\n" * 5, 0))
    states = method.snapshot().tensors
    assert states
    assert all(bool(torch.any(state != 0)) for state in states.values())
