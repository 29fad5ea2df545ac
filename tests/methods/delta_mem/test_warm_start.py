"""A warm start sees what the backbone alone shows, fits what it is asked to, and says what it lacks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach, get_state
from deltamem_eval.methods.delta_mem.hooks import attachment_of
from deltamem_eval.methods.delta_mem.train import WARM_LOG, train, write_contexts
from deltamem_eval.methods.delta_mem.warm_start import WarmStart, losses, observe, warm_start
from deltamem_eval.methods.training import Example, Fixed, TrainSettings
from tiny import tiny_backbone

KEYS, VALUES, END = range(20, 26), range(60, 66), 99
POLICIES = {
    "token": DeltaMemConfig(target_layers=(1, 2)),
    "message": DeltaMemConfig(target_layers=(1, 2), memory_write_granularity="message_mean"),
    "states": DeltaMemConfig(target_layers=(1, 2), num_state_heads=4),
}


def example(rng: Random, pairs: int) -> Example:
    """Messages of a key, some filler and a value; each key is asked for."""
    keys, values = rng.sample(KEYS, pairs), rng.sample(VALUES, pairs)
    filler = [[rng.randint(110, 200) for _ in range(rng.randint(0, 3))] for _ in keys]
    messages = [(key, *extra, value, END) for key, extra, value in zip(keys, filler, values, strict=True)]
    questions = [
        ((210,) * rng.randint(1, 3) + (key,), (value, END)) for key, value in zip(keys, values, strict=True)
    ]
    return Example(tuple(messages), tuple(questions), tuple((index,) for index in range(pairs)))


class Fresh:
    """New examples at every update."""

    def batch(self, step: int) -> list[Example]:
        rng = Random(step)
        return [example(rng, rng.randint(2, 4)) for _ in range(12)]

    def identity(self) -> str:
        return "fresh"


@pytest.fixture(params=POLICIES)
def model(request: pytest.FixtureRequest) -> Iterator[Any]:
    model = tiny_backbone().model
    torch.manual_seed(3)
    attach(model, POLICIES[request.param])
    yield model
    detach(model)


def alone(model: Any, ids: tuple[int, ...]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The naive reading: one unpadded sequence through a model without memories."""
    paths = list(attachment_of(model).memories)
    config = attachment_of(model).config
    detach(model)
    inputs: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(path).register_forward_pre_hook(
            lambda _, args, kwargs, path=path: inputs.update({path: kwargs["hidden_states"][0]}),
            with_kwargs=True,
        )
        for path in paths
    ]
    hooks.append(model.model.norm.register_forward_pre_hook(lambda _, args: inputs.update({"": args[0][0]})))
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    attach(model, config)
    return inputs, inputs.pop("")


def test_what_is_seen_is_what_each_sequence_gives_alone(model: Any) -> None:
    rng = Random(1)
    examples = [example(rng, pairs) for pairs in (2, 5, 3)]
    seen = observe(model, examples)
    by_message = attachment_of(model).config.memory_write_granularity != "token"
    row = 0
    for number, item in enumerate(examples):
        ids = tuple(token for message in item.messages for token in message)
        states, _ = alone(model, ids)
        ends = torch.tensor([len(message) for message in item.messages]).cumsum(0)
        for path, layer in seen.layers.items():
            spans = [
                states[path][end - len(message) : end]
                for end, message in zip(ends, item.messages, strict=True)
            ]
            wanted = torch.stack([span.mean(0) if by_message else span[-1] for span in spans])
            torch.testing.assert_close(layer.written[number, : len(spans)], wanted, atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(layer.tokens[number, : len(ids)], states[path], atol=1e-4, rtol=1e-3)
        assert seen.present[number].sum() == len(item.messages)
        assert seen.rest[number].sum() == len(ids) - len(item.messages)
        for (prompt, answer), lines in zip(item.questions, item.evidence, strict=True):
            states, residual = alone(model, prompt)
            torch.testing.assert_close(seen.residual[row], residual[-1], atol=1e-4, rtol=1e-3)
            for path, layer in seen.layers.items():
                torch.testing.assert_close(layer.asked[row], states[path][-1], atol=1e-4, rtol=1e-3)
            assert (seen.answers[row], seen.owner[row]) == (answer[0], number)
            assert seen.evidence[row].nonzero()[:, 0].tolist() == list(lines)
            row += 1
    assert row == len(seen.answers)


def test_the_state_is_what_message_writes_leave_in_the_first_layer() -> None:
    model = tiny_backbone().model
    attach(model, POLICIES["message"])
    examples = [example(Random(2), 3), example(Random(3), 5)]
    seen = observe(model, examples)
    write_contexts(model, [item.messages for item in examples], 64)
    path, memory = next(iter(attachment_of(model).memories.items()))
    found = memory.written_state(seen.layers[path].written, seen.present)[0][:, 0]
    torch.testing.assert_close(found, get_state(model)[path], atol=1e-4, rtol=1e-3)
    detach(model)


def test_keys_match_answers_are_found_and_other_tokens_stop_writing(model: Any) -> None:
    model.requires_grad_(False)
    rows: list[dict[str, float]] = []
    warm_start(model, Fresh(), WarmStart(updates=80, lr=3e-2), rows.append)
    assert [row["step"] for row in rows] == list(range(1, 81))
    assert rows[-1]["match"] < 0.75 * rows[0]["match"]
    assert rows[-1]["answer"] < 0.6 * rows[0]["answer"]
    if attachment_of(model).config.memory_write_granularity == "token":
        assert rows[-1]["rest"] < 0.6 * rows[0]["rest"]


def test_training_begins_with_it_once_and_logs_it(tmp_path: Path) -> None:
    model = tiny_backbone().model
    settings = TrainSettings(steps=2, batch=2, write_length=64, save_every=1)
    warm = Fresh(), WarmStart(updates=3)
    source = Fixed(Fresh().batch(0), 2, 0)
    train(model, POLICIES["token"], source, settings, tmp_path, warm=warm)
    assert len((tmp_path / WARM_LOG).read_text().splitlines()) == 3
    (tmp_path / WARM_LOG).unlink()
    detach(model)
    train(model, POLICIES["token"], source, settings, tmp_path, warm=warm)  # the checkpoint holds it
    assert not (tmp_path / WARM_LOG).exists()
    detach(model)
    with pytest.raises(UserError, match="other settings"):
        train(model, POLICIES["token"], source, settings, tmp_path, warm=(Fresh(), WarmStart(updates=4)))
    detach(model)


def test_what_it_needs_is_asked_for_by_name(model: Any) -> None:
    seen = observe(model, [replace(example(Random(0), 2), evidence=())])
    with pytest.raises(UserError, match="name their evidence"):
        losses(model, seen, torch.tensor(1.0), 0.1)
    norm = model.model.norm
    before = [len(module._forward_pre_hooks) for module in model.modules()]
    try:
        del model.model.norm
        with pytest.raises(UserError, match="no final norm"):
            observe(model, [example(Random(0), 2)])
    finally:
        model.model.norm = norm
    assert [len(module._forward_pre_hooks) for module in model.modules()] == before
