"""Writing ends with the snapshot: all that answers would wait for is made there, and once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Chunk, MemoryMethod, MethodSettings, Query
from deltamem_eval.methods import bm25_rag
from deltamem_eval.methods.bm25_rag import Bm25Rag
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach, save_adapter, trainable_parameters
from deltamem_eval.methods.delta_mem.method import TokenWrite
from deltamem_eval.methods.memorybank.method import MemoryBank
from tiny import tiny_backbone

CHUNKS = [Chunk(f"{name} keeps code {index * 37 % 100}.\n", index) for index, name in enumerate("abcdefgh")]
QUERIES = [Query(f"q{index}", text, ("x",), 5) for index, text in enumerate(["code of a?", "and of b?"])]
Make = Callable[[type[MemoryMethod]], MemoryMethod]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A method on a backbone of its own, with a write length that leaves chunks pending."""
    model = tiny_backbone().model
    attach(model, DeltaMemConfig())
    generator = torch.Generator().manual_seed(5)
    for parameter in trainable_parameters(model):
        parameter.data.normal_(0, 0.5, generator=generator)
    save_adapter(model, tmp_path)
    detach(model)

    def made(kind: type[MemoryMethod]) -> MemoryMethod:
        if kind is TokenWrite:
            settings = MethodSettings(40, adapter=str(tmp_path), options={"write_length": 100})
        elif kind is MemoryBank:
            settings = MethodSettings(150, options={"summary_tokens": 4, "session_tokens": 100})
        else:
            settings = MethodSettings(60)
        return kind(tiny_backbone(), settings)

    return made


def counted(method: MemoryMethod, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often the method does each part of its work of writing."""
    seen: Counter = Counter()

    def count(owner: object, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: (seen.update([name]), real(*given))[1])

    if isinstance(method, TokenWrite):
        count(method, "_written")
    elif isinstance(method, MemoryBank):
        count(method, "_summarise")
    else:
        count(bm25_rag, "_Index")
    return seen


@pytest.mark.parametrize("kind", [TokenWrite, MemoryBank, Bm25Rag])
def test_no_answer_waits_for_the_writing(
    kind: type[MemoryMethod], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = make(kind)
    for chunk in CHUNKS:
        late.write(chunk)
    wanted, held = late.answer(QUERIES), late.footprint()
    method = make(kind)
    seen = counted(method, monkeypatch)
    for chunk in CHUNKS:
        method.write(chunk)
    snapshot = method.snapshot()
    before = seen.total()
    assert before > 0
    for _ in range(2):
        method.restore(snapshot)
        assert method.answer(QUERIES) == wanted
        assert method.footprint() == held
    assert seen.total() == before, "an answer did what writing had left"
    assert method.snapshot().meta == snapshot.meta == late.snapshot().meta
    elsewhere = make(kind)
    elsewhere.restore(snapshot)
    assert elsewhere.answer(QUERIES) == wanted
    for other in (late, method, elsewhere):
        other.close()


def test_the_state_settled_by_a_snapshot_is_the_one_that_an_answer_settles(make: Make) -> None:
    early, late = make(TokenWrite), make(TokenWrite)
    for chunk in CHUNKS:
        for method in (early, late):
            method.write(chunk)
    snapshot = early.snapshot()
    assert snapshot.meta["pending"]
    late.answer(QUERIES)
    states = [method._settled for method in (early, late)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(item, states[1][path]) for path, item in states[0].items())
    assert any(not torch.equal(item, snapshot.tensors[path]) for path, item in states[0].items())
    early.answer(QUERIES)
    again = early.snapshot()
    assert all(torch.equal(item, again.tensors[path]) for path, item in snapshot.tensors.items())
    early.write(Chunk("one more.\n", 8))
    late.write(Chunk("one more.\n", 8))
    assert early.answer(QUERIES) == late.answer(QUERIES)


def test_no_index_is_made_where_nothing_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone: Backbone = tiny_backbone()
    method = Bm25Rag(backbone, MethodSettings(0))
    seen = counted(method, monkeypatch)
    method.write(CHUNKS[0])
    method.snapshot()
    assert not seen
