"""All that can be trained is trained on rows, is loaded by its method, and leaves the backbone alone."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.delta_mem import detach
from deltamem_eval.methods.mlp_memory.config import Distillation, layer_at
from deltamem_eval.methods.training import Example, Fixed, TrainSettings, in_parts
from deltamem_eval.registry import METHODS
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from deltamem_eval.trainers import TRAINERS, mlp_memory
from tiny import tiny_backbone


def row(index: int) -> dict[str, Any]:
    return {
        "context": "".join(f"fact {n} is {n * index}.\n" for n in range(4)),
        "questions": ["What is fact 1?", "And fact 2?"],
        "answers": [[str(index)], [str(2 * index)]],
        "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b"]},
    }


@pytest.mark.parametrize("name", TRAINERS)
def test_trained_parts_are_loaded_by_their_method(name: str, tmp_path: Path) -> None:
    backbone = tiny_backbone()
    before = {key: item.clone() for key, item in backbone.model.state_dict().items()}
    episodes = [episode_from_row(row(index), split="t", index=index) for index in range(3)]
    settings = TrainSettings(steps=2, batch=2, lr=1e-2, write_length=256, save_every=1)
    lines: list[dict[str, Any]] = []
    TRAINERS[name](backbone, episodes, settings, tmp_path, lines.append)
    detach(backbone.model)
    assert [line["step"] for line in lines] == [1, 2]
    assert backbone.model.state_dict().keys() == before.keys()
    assert all(torch.equal(backbone.model.state_dict()[key], item) for key, item in before.items())
    method = METHODS.load(name)(backbone, MethodSettings(64, adapter=str(tmp_path)))
    method.write(Chunk("fact 1 is 7.\n", 0))
    (answer,) = method.answer([Query("q", "What is fact 1?", ("7",), 4)])
    assert answer.status == "ok"
    shape = backbone.shape()
    assert method.added(shape, {}).trainable == method.overhead(shape, {}).trainable
    assert METHODS.load(name).adapter_hash(str(tmp_path))
    method.close()
    assert backbone.model.state_dict().keys() == before.keys()


@pytest.mark.parametrize("name", ["memgen", "context2lora"])
def test_contexts_in_prompts_are_cut_as_a_state_s_are(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = tiny_backbone()
    seen: list[Any] = []
    folder, function = {
        "memgen": ("memgen", "train_memgen"),
        "context2lora": ("context2lora", "train_static"),
    }[name]
    monkeypatch.setattr(f"deltamem_eval.methods.{folder}.train.{function}", lambda *given: seen.extend(given))
    episodes = [episode_from_row(row(index), split="t", index=index) for index in range(2)]
    settings = TrainSettings(batch=2, write_length=20)
    TRAINERS[name](backbone, episodes, settings, tmp_path, lambda _: None)
    (source,) = [item for item in seen if isinstance(item, Fixed)]
    shown = {tuple(token for message in example.messages for token in message) for example in source.batch(0)}
    assert shown == {tuple(backbone.encode(episode.context)[-20:]) for episode in episodes}


def test_a_corpus_is_cut_alike_and_lambda_that_cannot_be_tuned_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = tiny_backbone()
    corpus: list[Any] = []
    how = Distillation(tokens=77, neighbours=5, temperature=2.0, alpha=0.3, blocks=1, depth=0.34)
    given: dict[str, Any] = {}

    def train(model: Any, texts: Any, config: Any, *_: Any, **more: Any) -> None:
        corpus.extend(texts)
        given.update(more, blocks=config.blocks, layer=config.layer)

    monkeypatch.setattr("deltamem_eval.methods.mlp_memory.train.train_mlp", train)
    episodes = [episode_from_row(row(index), split="t", index=index) for index in range(3)]
    mlp_memory(backbone, episodes, TrainSettings(write_length=20), tmp_path, lambda _: None, how)
    assert given.pop("layer") == layer_at(3, 0.34) == 0  # 1 where nothing is said
    assert given | {"depth": 0.34} == asdict(how)
    contexts, questions = corpus[::3], corpus[1::3] + corpus[2::3]
    assert contexts == [tuple(backbone.encode(episode.context)[-20:]) for episode in episodes]
    assert len(questions) == 6
    (notice,) = backbone.notices
    assert "λ was not tuned and stays 0.25" in notice
    assert "3 leave none with a question" in notice


def test_lambda_is_tuned_on_every_tenth_episode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backbone, tuned = tiny_backbone(), []
    module = "deltamem_eval.methods.mlp_memory.train"
    seen: list[Any] = []
    monkeypatch.setattr(f"{module}.train_mlp", lambda model, texts, *_, **__: seen.extend(texts))
    monkeypatch.setattr(f"{module}.tune_weight", lambda model, out, examples: tuned.extend(examples))
    episodes = [episode_from_row(row(index), split="t", index=index) for index in range(21)]
    mlp_memory(backbone, episodes, TrainSettings(write_length=20), tmp_path, lambda _: None)
    assert len(seen) == 3 * 19
    shown = [tuple(token for message in example.messages for token in message) for example in tuned]
    assert shown == [tuple(backbone.encode(episodes[place].context)[-20:]) for place in (9, 19)]
    assert backbone.notices == []


def test_groups_hold_every_example_once_and_their_shares_are_of_the_answers() -> None:
    def example(length: int, answers: int) -> Example:
        return Example(((1,) * length,), tuple(((2,), (3,) * 5) for _ in range(answers)))

    examples = [example(9, 1), example(2, 2), example(30, 1), example(4, 4), example(5, 2)]
    groups = in_parts(examples, TrainSettings(parts=2, answer_length=3))
    assert [[len(item.messages[0]) for item in group] for group, _ in groups] == [[2, 4, 5], [9, 30]]
    assert [share for _, share in groups] == [pytest.approx(0.8), pytest.approx(0.2)]
    assert in_parts(examples[:1], TrainSettings(parts=4)) == [([examples[0]], 1.0)]


def test_examples_without_questions_are_left_out() -> None:
    silent, asked = Example(((1,),), ()), Example(((1,),), (((2,), (3,)),))
    assert Fixed([silent, asked], 2, 0).batch(5) == [asked, asked]
    with pytest.raises(UserError, match="no episode with a question"):
        Fixed([silent], 1, 0)
