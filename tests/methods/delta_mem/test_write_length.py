"""Option write_length: what the backbone can read at once is served, all else refused in words."""

from pathlib import Path

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MemoryMethod, MethodSettings
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach, is_attached, save_adapter
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


def sequence_write(config: DeltaMemConfig, folder: Path) -> MemoryMethod:
    backbone, kind = tiny_backbone(512), POLICIES["sequence-write"]
    torch.manual_seed(3)
    attach(backbone.model, config)
    save_adapter(backbone.model, folder)
    detach(backbone.model)
    return kind(backbone, MethodSettings(0, adapter=str(folder)))


@pytest.mark.parametrize("heads", [1, 3])
def test_an_adapter_of_sentences_writes_once_a_sentence(heads: int, tmp_path: Path) -> None:
    by_sentence, by_message = (
        DeltaMemConfig(memory_write_granularity=f"{unit}_mean", num_state_heads=heads)
        for unit in ("sentence", "message")
    )
    sentences = ["The cedar gate is 2. ", "The elm gate is 5!\n", "And the last: 7\n"]
    method = sequence_write(by_sentence, tmp_path / "sentence")
    method.write(Chunk("".join(sentences[:2]), 0))
    method.write(Chunk(sentences[2], 1))
    found = method._settle()
    assert found
    other = sequence_write(by_message, tmp_path / "message")
    for index, sentence in enumerate(sentences):
        other.write(Chunk(sentence, index))
    wanted = other._settle()
    assert found.keys() == wanted.keys()
    for path, state in found.items():
        torch.testing.assert_close(state, wanted[path])
    other.reset()
    other.write(Chunk("".join(sentences[:2]), 0))
    other.write(Chunk(sentences[2], 1))
    assert any(not torch.allclose(found[path], state) for path, state in other._settle().items())


def test_sequence_write_takes_no_adapter_that_writes_by_token(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="writes by token into 1 state"):
        sequence_write(DeltaMemConfig(), tmp_path)
