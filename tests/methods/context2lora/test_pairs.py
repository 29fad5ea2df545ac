"""Context2LoRA: which pairs a context gives, how the backbone is asked for them, and that all is learnt."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.decoding import Continuation
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.context2lora import fit
from deltamem_eval.methods.context2lora.fit import fit_pairs, groups
from deltamem_eval.methods.context2lora.lora import Lora
from deltamem_eval.methods.context2lora.method import Context2Lora
from deltamem_eval.methods.context2lora.pairs import labelled_pairs, pairs_of
from deltamem_eval.methods.context2lora.passages import passages
from deltamem_eval.methods.prompt import PromptBuilder
from deltamem_eval.methods.training import answer_batch, answer_loss
from deltamem_eval.tasks.builders.common import Settings
from deltamem_eval.tasks.builders.corpora import Corpus, Example
from deltamem_eval.tasks.builders.icl import build
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from tiny import tiny_backbone

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is false %}<quick>{% endif %}{% endif %}"
)


def test_labels_stand_at_a_line_s_end_or_alone_on_the_next() -> None:
    lines = [
        " where is my card label : 12",
        "nothing here",
        "what now? label: 7 ",
        "how do I pay?\r",
        "Label: 11\r",
        "",
        "label: 3",
        "label: 4",
        "and what does label: mean",
        "label: 5",
        "the end",
    ]
    pairs, others = labelled_pairs(lines)
    assert pairs == [
        (" where is my card label :", "12"),
        ("what now? label:", "7"),
        ("how do I pay?\nLabel:", "11"),
        ("and what does label: mean\nlabel:", "5"),
    ]
    assert others == ["nothing here", "", "label: 3", "label: 4", "the end"]


def shots() -> tuple[list[Chunk], list[str]]:
    """A row of in-context learning as `data build` makes it: its chunks, and the training utterances."""
    train = tuple(
        Example(f"utterance {number} of kind {number % 3}", f"kind{number % 3}") for number in range(12)
    )
    held_out = (Example("another one of kind 0", "kind0"),)
    settings = Settings(400, 1, len)
    (row,) = build("toy", Corpus(train, held_out), settings).rows
    chunks = list(episode_from_row(row, split="t", index=0).chunks)
    return chunks, [example.text for example in train]


@pytest.mark.parametrize("joined", [False, True])
def test_in_context_learning_becomes_pairs_however_its_lines_arrive(joined: bool) -> None:
    chunks, utterances = shots()
    assert len(chunks) > 6
    text = "".join(chunk.text for chunk in chunks)
    method = Context2Lora(
        tiny_backbone(), MethodSettings(0, options={"mode": "per-context", "label_steps": 1})
    )
    method._backbone.generate = fail  # type: ignore[method-assign]
    for chunk in [Chunk(text, 0)] if joined else chunks:
        method.write(chunk)
    made = method._fit()[1]
    assert made is not None
    assert made.labelled == len(made.pairs) == text.count("label: ")
    assert made.mostly_labelled
    assert {question.removesuffix("\nlabel:") for question, _ in made.pairs} <= set(utterances)
    assert all(f"{question} {label}\n" in text for question, label in made.pairs)
    method.close()


def fail(*_: Any) -> list[Continuation]:
    raise AssertionError("nothing is to be asked of the backbone")


@pytest.mark.parametrize(
    ("text", "steps"), [("a word\nlabel: 1\n", 7), ("a word\nno label: here it is\n", 3)]
)
def test_labelled_contexts_have_updates_of_their_own(
    text: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Context2Lora.defaults["steps"], Context2Lora.defaults["label_steps"]) == (150, 600)
    seen: list[int] = []
    monkeypatch.setattr(fit, "fit_pairs", lambda *given: seen.append(given[3]))
    options = {"mode": "per-context", "steps": 3, "label_steps": 7}
    method = Context2Lora(tiny_backbone(), MethodSettings(0, options=options))
    method.write(Chunk(text, 0))
    method._settle()
    assert seen == [steps]
    method.close()


class Asked:
    """Stands for a backbone's `generate`: keeps the requests and gives the same reply to each."""

    def __init__(self, backbone: Backbone, reply: str) -> None:
        self.requests: list[Any] = []
        self._reply = reply
        backbone.generate = self  # type: ignore[method-assign,assignment]

    def __call__(self, requests: Sequence[Any]) -> list[Continuation]:
        self.requests += requests
        return [Continuation(self._reply, 1) for _ in requests]


def test_the_backbone_is_asked_in_its_chat_template_with_thinking_off() -> None:
    backbone = tiny_backbone(2048)
    backbone.tokenizer.chat_template = TEMPLATE
    backbone.system = "Be brief."
    asked = Asked(backbone, '[{"question": "who?", "answer": "me"}]')
    made = pairs_of(backbone, PromptBuilder(backbone), "a fact\nand another\n", 5, 2048)
    assert made.pairs == [("who?", "me")]
    (request,) = asked.requests
    text = backbone.decode(request.ids)
    assert text.startswith("<system>Be brief.<user>a fact\nand another\n")
    assert "Write 5 questions" in text
    assert text.endswith("<assistant><quick>")


@pytest.mark.parametrize(
    ("positions", "count", "wanted"), [(262_144, 20, 1280), (262_144, 400, 4096), (512, 20, 128)]
)
def test_replies_have_room_for_the_questions_and_no_more(positions: int, count: int, wanted: int) -> None:
    backbone = tiny_backbone(512)
    backbone.positions = positions
    asked = Asked(backbone, "nothing to read")
    text = "".join(f"line {number} of many\n" for number in range(60))
    made = pairs_of(backbone, PromptBuilder(backbone), text, count, 2048)
    assert {request.max_new_tokens for request in asked.requests} == {wanted}
    assert all(len(request.ids) + wanted <= positions for request in asked.requests)
    assert made.malformed == made.passages == len(asked.requests) == (1 if positions > 512 else 4)
    assert "".join(answer for _, answer in made.pairs) == text


def test_positions_too_few_for_a_question_are_said() -> None:
    backbone = tiny_backbone(128)
    with pytest.raises(UserError, match="question of context2lora about a passage needs"):
        pairs_of(backbone, PromptBuilder(backbone), "a fact", 5, 2048)
    options = {"mode": "per-context", "questions": 0}
    with pytest.raises(UserError, match="questions of context2lora must be at least 1"):
        Context2Lora(backbone, MethodSettings(0, options=options))


def test_passages_are_whole_lines_and_long_lines_are_cut_between_words() -> None:
    backbone = tiny_backbone()
    text = "short\n\nlines\n" + "a longer line of many words\n" + "x" * 50
    made = passages(backbone, text, 14)
    assert "".join(made) == text
    assert all(backbone.length(passage) <= 14 for passage in made)
    assert made[:3] == ["short\n\nlines\n", "a longer line ", "of many words\n"]
    assert passages(backbone, text, 2048) == [text]
    assert passages(backbone, " \n" * 30, 14) == []


def test_a_passage_of_2048_tokens_is_learnt_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(8192)
    Asked(backbone, "nothing to read")
    learnt: list[list[tuple[list[int], list[int]]]] = []
    monkeypatch.setattr(fit, "fit_pairs", lambda *given: learnt.append(given[2]))
    method = Context2Lora(backbone, MethodSettings(0, options={"mode": "per-context"}))
    text = "".join(f"fact {number:04d}\n" for number in range(300))  # 3,000 tokens
    method.write(Chunk(text, 0))
    method._settle()
    (pairs,) = learnt
    assert [len(first) + len(rest) for first, rest in pairs] == [2040, 960]
    assert "".join(backbone.decode([*first, *rest]) for first, rest in pairs) == text
    assert "for 2 of 2 passages" in backbone.notices[-1]
    method.close()


def pairs_of_lengths(lengths: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    rng = Random(0)
    return [
        ([rng.randrange(3, 200)] * 2, [rng.randrange(3, 200) for _ in range(length)]) for length in lengths
    ]


def test_long_pairs_go_through_the_backbone_a_few_at_a_time_and_all_their_tokens_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = pairs_of_lengths([600, 5, 40, 700, 6])
    made = groups(pairs, 800)
    assert [[len(answer) for _, answer in group] for group in made] == [[5, 6, 40], [600], [700]]
    found = []
    for most in (800, 10_000):
        backbone = tiny_backbone(1024)
        torch.manual_seed(0)
        lora = Lora.fresh(backbone.model, 4, ("q_proj", "v_proj"))
        monkeypatch.setattr(fit, "groups", lambda given, most=most: groups(given, most))
        loss = fit_pairs(backbone, lora, pairs, 1, 8, 1e-2, 3)
        found.append((loss, lora.state()))
    rng = Random("context2lora/3")
    chosen = [pairs[rng.randrange(5)] for _ in range(8)]
    backbone = tiny_backbone(1024)
    wanted = float(answer_loss(backbone.model, *answer_batch(chosen, 10_000, backbone.device)))
    assert [loss for loss, _ in found] == pytest.approx([wanted, wanted], rel=1e-5)
    for name, tensor in found[0][1].items():
        torch.testing.assert_close(tensor, found[1][1][name], atol=1e-3, rtol=1e-2)


def test_a_context_of_one_token_leaves_the_adapter_as_it_was() -> None:
    method = Context2Lora(tiny_backbone(), MethodSettings(0, options={"mode": "per-context", "steps": 2}))
    method.write(Chunk("a", 0))
    (answer,) = method.answer([Query("q", "what?", ("x",), 3)])
    assert answer.status == "ok"
    assert all(torch.equal(tensor, method._blank[name]) for name, tensor in method._lora.state().items())
    method.close()
