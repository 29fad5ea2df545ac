"""What every method promises, on a tiny random backbone."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MemoryMethod, MethodSettings, Query
from deltamem_eval.methods.bm25_rag import Bm25Rag
from deltamem_eval.methods.context2lora.lora import Lora
from deltamem_eval.methods.context2lora.method import Context2Lora
from deltamem_eval.methods.delta_mem import (
    DeltaMemConfig,
    attach,
    detach,
    is_attached,
    save_adapter,
    trainable_parameters,
)
from deltamem_eval.methods.delta_mem.method import MultiWrite, SequenceWrite, TokenWrite
from deltamem_eval.methods.memorybank.method import MemoryBank
from deltamem_eval.methods.vanilla import Vanilla
from tiny import tiny_backbone

CLASSES = (Vanilla, Bm25Rag, MemoryBank, TokenWrite, SequenceWrite, MultiWrite)
ALL = (*CLASSES, Context2Lora)  # a static adapter changes the backbone even with no context
LINES = tuple(f"{name} keeps code {index * 37 % 100}.\n" for index, name in enumerate("abcdefghijkl" * 3))
CHUNKS = tuple(Chunk(text, index) for index, text in enumerate(LINES))


def queries() -> list[Query]:
    texts = ["code of a?", "which code does b keep, if any?", "c", "the code of d is", "what of f?", "g:"]
    return [Query(f"q{index}", text, ("x",), 7) for index, text in enumerate(texts)]


@pytest.fixture
def backbone() -> Iterator[Backbone]:
    made = tiny_backbone()
    yield made
    detach(made.model)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    for kind in (TokenWrite, SequenceWrite, MultiWrite):
        model = tiny_backbone().model
        config = DeltaMemConfig(num_state_heads=kind.state_heads, memory_write_granularity=kind.granularity)
        attach(model, config)
        generator = torch.Generator().manual_seed(5)
        for parameter in trainable_parameters(model):
            parameter.data.normal_(0, 0.5, generator=generator)
        save_adapter(model, root / kind.name)
        detach(model)
    lora = Lora.fresh(tiny_backbone().model, 4, ("q_proj", "v_proj"))
    generator = torch.Generator().manual_seed(6)
    for parameter in lora.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    lora.save(root / Context2Lora.name)
    lora.remove()
    return root


def make(
    kind: type[MemoryMethod], backbone: Backbone, adapters: Path, window: int | None = 60
) -> MemoryMethod:
    detach(backbone.model)
    adapter = str(adapters / kind.name) if kind.trained else None
    options = {"write_length": 100} if "write_length" in kind.defaults else {}
    return kind(backbone, MethodSettings(window=window, adapter=adapter, options=options))


def texts(method: MemoryMethod, asked: list[Query]) -> dict[str, str]:
    return {query.id: answer.text for query, answer in zip(asked, method.answer(asked), strict=True)}


@pytest.mark.parametrize("window", [0, 60, None])
@pytest.mark.parametrize("kind", ALL)
def test_order_and_batch_size_change_no_answer(
    kind: type[MemoryMethod], window: int | None, backbone: Backbone, adapters: Path
) -> None:
    method = make(kind, backbone, adapters, window)
    for chunk in CHUNKS:
        method.write(chunk)
    wanted = texts(method, queries())
    assert len(set(wanted.values())) > 1
    for size, order in itertools.product(
        [1, 3, 8], [queries(), queries()[::-1], queries()[2:] + queries()[:2]]
    ):
        backbone.batch_size = size
        assert texts(method, order) == wanted
    one_by_one = {query.id: method.answer([query])[0].text for query in queries()}
    assert one_by_one == wanted
    method.close()


@pytest.mark.parametrize("kind", ALL)
def test_answering_and_restoring_leave_the_memory_as_it_was(
    kind: type[MemoryMethod], backbone: Backbone, adapters: Path
) -> None:
    method = make(kind, backbone, adapters)
    for chunk in CHUNKS[:20]:
        method.write(chunk)
    half, half_answers = method.snapshot(), texts(method, queries())
    for chunk in CHUNKS[20:]:
        method.write(chunk)
    whole_answers = texts(method, queries())
    method.restore(half)
    assert texts(method, queries()) == half_answers
    for chunk in CHUNKS[20:]:
        method.write(chunk)
    assert texts(method, queries()) == whole_answers
    method.reset()
    for chunk in CHUNKS:
        method.write(chunk)
    assert texts(method, queries()) == whole_answers
    method.close()


@pytest.mark.parametrize("kind", CLASSES)
def test_reset_forgets(kind: type[MemoryMethod], backbone: Backbone, adapters: Path) -> None:
    method = make(kind, backbone, adapters)
    empty = texts(method, queries())
    for chunk in CHUNKS:
        method.write(chunk)
    assert texts(method, queries()) != empty
    method.reset()
    assert texts(method, queries()) == empty == texts(make(Vanilla, backbone, adapters, 0), queries())
    assert method.footprint().total == 0


@pytest.mark.parametrize("kind", [TokenWrite, SequenceWrite, MultiWrite])
def test_the_state_alone_carries_the_context(
    kind: type[MemoryMethod], backbone: Backbone, adapters: Path
) -> None:
    method = make(kind, backbone, adapters, 0)
    for chunk in CHUNKS:
        method.write(chunk)
    answer = method.answer(queries())[0]
    assert answer.visible is None
    assert answer.prompt_tokens == len(queries()[0].prompt)
    assert method.footprint().total == method.footprint().state == 3 * kind.state_heads * 64 * 4
    assert texts(method, queries()) != texts(make(Vanilla, backbone, adapters, 0), queries())


def test_vanilla_equals_a_plain_forward_over_the_whole_prompt(backbone: Backbone, adapters: Path) -> None:
    method = make(Vanilla, backbone, adapters, 60)
    for chunk in CHUNKS:
        method.write(chunk)
    context = "".join(LINES)[-60:]
    for query in queries():
        ids = torch.tensor([backbone.encode(context + query.prompt)])
        out = backbone.model.generate(ids, max_new_tokens=7, do_sample=False)[0, ids.shape[1] :]
        text = backbone.decode(out.tolist()).lstrip().split("\n", 1)[0].strip()
        answer = method.answer([query])[0]
        assert (answer.text, answer.visible, answer.context_tokens) == (text, context, 60)


@pytest.mark.parametrize("kind", [Vanilla, Bm25Rag, MemoryBank])
@pytest.mark.parametrize("window", [0, 1, 16, 100])
def test_textual_methods_never_exceed_the_window(
    kind: type[MemoryMethod], window: int, backbone: Backbone, adapters: Path
) -> None:
    method = make(kind, backbone, adapters, window)
    for chunk in CHUNKS:
        method.write(chunk)
    for query, answer in zip(queries(), method.answer(queries()), strict=True):
        assert answer.prompt_tokens - len(query.prompt) == answer.context_tokens <= window


def test_bm25_shows_the_passage_that_shares_the_questions_words(backbone: Backbone, adapters: Path) -> None:
    method = make(Bm25Rag, backbone, adapters, 64)
    for index, word in enumerate(["amber", "birch", "cedar", "dahlia", "elm"]):
        method.write(Chunk(f"the {word} gate is {index}\n", index))
    asked = Query("q", "where is the cedar gate", ("2",), metadata={"question": "where is the cedar gate"})
    visible = method.answer([asked])[0].visible
    assert visible is not None
    assert "the cedar gate is 2\n" in visible


def test_a_question_longer_than_the_positions_is_refused(adapters: Path) -> None:
    method = make(Vanilla, tiny_backbone(positions=32), adapters, 8)
    with pytest.raises(UserError, match="more than the 32 positions"):
        method.answer([Query("long", "x" * 40, ("y",))])


def test_an_adapter_of_another_policy_is_refused(backbone: Backbone, adapters: Path) -> None:
    with pytest.raises(UserError, match="not for multi-write"):
        MultiWrite(backbone, MethodSettings(0, adapter=str(adapters / "token-write")))
    with pytest.raises(UserError, match="--adapter"):
        TokenWrite(backbone, MethodSettings(0))
    assert not is_attached(backbone.model)


def test_unknown_and_mistyped_options_are_refused(backbone: Backbone) -> None:
    with pytest.raises(UserError, match="did you mean top_k"):
        Bm25Rag(backbone, MethodSettings(64, options={"topk": 3}))
    with pytest.raises(UserError, match="must be int"):
        Bm25Rag(backbone, MethodSettings(64, options={"top_k": "3"}))


def test_batch_size_halves_when_memory_runs_out(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    method = Vanilla(backbone, MethodSettings(60))
    for chunk in CHUNKS:
        method.write(chunk)
    wanted = texts(method, queries())
    real = backbone._generate_batch

    def short_of_memory(requests: list, prefix: object) -> list:
        if len(requests) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(requests, prefix)

    monkeypatch.setattr(backbone, "_generate_batch", short_of_memory)
    assert texts(method, queries()) == wanted
    assert backbone.batch_size <= 2
    assert "batch size is now" in backbone.notices[0]
