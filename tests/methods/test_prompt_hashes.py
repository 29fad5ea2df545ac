"""Every method's prompts are the one prompt builder's: the model reads them, their hashes are on record."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.backbone import Backbone
from deltamem_eval.decoding import Request
from deltamem_eval.hashing import hash_ids
from deltamem_eval.interface import Answer, Chunk, MemoryMethod, MethodSettings, Query
from deltamem_eval.methods.context2lora.lora import Lora
from deltamem_eval.methods.delta_mem import attach, detach, save_adapter
from deltamem_eval.methods.delta_mem.method import POLICIES
from deltamem_eval.methods.memgen.config import MemGenConfig
from deltamem_eval.methods.memgen.model import MemGenModel
from deltamem_eval.methods.mlp_memory.config import MlpConfig
from deltamem_eval.methods.mlp_memory.model import MlpMemory
from deltamem_eval.methods.prompt import Prompt, PromptBuilder, to_answer
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.registry import METHODS, OURS
from deltamem_eval.tasks.embedded.classifier import build_classifier_tokenizer, new_classifier
from tiny import tiny_backbone

CHAT = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</{{ turn.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHUNKS = tuple(Chunk(f"{name} keeps code {index}.\n", index) for index, name in enumerate("abcdefghijkl"))
QUERY = Query("q", "which code does b keep?", ("1",), 3)
WINDOW = 60
NAMES = (
    "vanilla",
    "bm25-rag",
    "llmlingua2",
    "memorybank",
    "memgen",
    "context2lora",
    "mlp-memory",
    *POLICIES,
)
SOLVERS = {"majority-label", "nearest-example", "oracle-first-write", "oracle-last-write", "random-option"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each trained method loads, as it starts."""
    root = tmp_path_factory.mktemp("parts")
    for name, kind in POLICIES.items():
        model = tiny_backbone().model
        attach(model, kind.adapter_config())
        save_adapter(model, root / name)
        detach(model)
    lora = Lora.fresh(tiny_backbone().model, 4, ("q_proj", "v_proj"))
    lora.save(root / "context2lora")
    lora.remove()
    woven = MemGenModel(tiny_backbone().model, MemGenConfig(hidden=48, rank=2, latents=3, most=2))
    woven.save(root / "memgen")
    woven.remove()
    MlpMemory(MlpConfig(hidden=48, intermediate=32, blocks=2, vocab=258, layer=1)).save(root / "mlp-memory")
    tokenizer = build_classifier_tokenizer()
    new_classifier(tokenizer).save_pretrained(root / "llmlingua2")
    tokenizer.save_pretrained(root / "llmlingua2")
    return root


def backbone(chat: bool) -> Backbone:
    made = tiny_backbone(positions=1024)
    made.tokenizer.chat_template = CHAT if chat else None
    return made


def make(name: str, on: Backbone, window: int, parts: Path) -> MemoryMethod:
    if name == "llmlingua2":
        pytest.importorskip("llmlingua")
    kind = METHODS.load(name)
    options: dict[str, Any] = {
        "llmlingua2": {"classifier": str(parts / name)},
        "memorybank": {"summary_tokens": 4},
    }.get(name, {})
    adapter = str(parts / name) if kind.trained else None
    return kind(on, MethodSettings(window, adapter=adapter, options=options))


def answered(method: MemoryMethod, on: Backbone) -> Answer:
    """The answer, once the context is written; its prompt is the builder's, of what it says that was shown.

    A token is a byte here, so that what was shown gives its ids.
    """
    for chunk in CHUNKS:
        method.write(chunk)
    method.snapshot()  # what it derives from the context is made here
    read: list[list[int]] = []  # by forward
    embeddings = on.model.get_input_embeddings()
    handle = embeddings.register_forward_pre_hook(lambda _, given: read.append(given[0].flatten().tolist()))
    try:
        (answer,) = method.answer([QUERY])
    finally:
        handle.remove()
        method.close()
    prompt = PromptBuilder(on).build(on.encode(answer.visible or ""), QUERY)
    ids = [*prompt.prefix, *prompt.request.ids]
    assert answer.prompt_hash == hash_ids(ids)
    assert any(_begin_with(read[start:], ids) for start in range(len(read)))
    return answer


def _begin_with(forwards: Sequence[list[int]], ids: list[int]) -> bool:
    """Whether the first of the forwards together read these ids, no more and no fewer."""
    joined: list[int] = []
    for given in forwards:
        joined += given
        if len(joined) >= len(ids):
            break
    return joined == ids


def test_every_method_of_ours_is_held_to_it() -> None:
    ours = {name for name in METHODS.names() if METHODS.package(name) == OURS}
    assert set(NAMES) == ours - SOLVERS, "solvers ask no model"


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_without_a_window_the_prompt_is_vanilla_s(name: str, chat: bool, parts: Path) -> None:
    hashes = []
    for each in ("vanilla", name):
        on = backbone(chat)
        hashes.append(answered(make(each, on, 0, parts), on).prompt_hash)
    assert hashes[1] == hashes[0]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_within_a_window_it_is_the_builder_s_of_what_is_shown(name: str, chat: bool, parts: Path) -> None:
    on = backbone(chat)
    answer = answered(make(name, on, WINDOW, parts), on)
    assert answer.visible
    assert len(on.encode(answer.visible)) == answer.context_tokens <= WINDOW


class Bypasses(Vanilla):
    """Words its prompt itself."""

    name = "bypasses"

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        shown, made = self._backbone.decode(self._window.ids), []
        for query in queries:
            ids = self._backbone.encode(f"Memory: {shown}\nQuestion: {query.prompt}")
            prompt = Prompt((), Request(tuple(ids), query.max_new_tokens, query.stop))
            (result,) = self._backbone.generate([prompt.request])
            made.append(to_answer(prompt, result, shown or None, len(self._window.ids)))
        return made


class Pretends(Bypasses):
    """And records the hash of the prompt that it should have asked."""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        prompts = [PromptBuilder(self._backbone).build(self._window.ids, query) for query in queries]
        hashes = [hash_ids([*prompt.prefix, *prompt.request.ids]) for prompt in prompts]
        answers = super().answer(queries)
        return [replace(one, prompt_hash=found) for one, found in zip(answers, hashes, strict=True)]


@pytest.mark.parametrize("window", [0, WINDOW])
@pytest.mark.parametrize("kind", [Bypasses, Pretends])
def test_a_method_that_words_its_prompts_itself_is_found_out(kind: type[Vanilla], window: int) -> None:
    on = backbone(chat=False)
    method = kind(on, MethodSettings(window))
    with pytest.raises(AssertionError):
        answered(method, on)
