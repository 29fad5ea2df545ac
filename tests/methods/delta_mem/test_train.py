"""Training learns from the state alone, goes on after a stop, and stops on a bad loss."""

import json
from pathlib import Path

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach, load_adapter
from deltamem_eval.methods.delta_mem.hooks import trainable_parameters
from deltamem_eval.methods.delta_mem.train import loss_of, train
from deltamem_eval.methods.training import Example, Fixed, TrainSettings
from tiny import tiny_backbone

SETTINGS = TrainSettings(steps=12, batch=4, lr=5e-3, save_every=4, write_length=64)


def examples() -> list[Example]:
    """The answer is the one thing the context says; the question is always the same."""
    return [Example(((40 + value, 41 + value), (60, 61)), (((7, 8), (40 + value,)),)) for value in range(6)]


@pytest.fixture
def model():
    model = tiny_backbone().model
    yield model
    detach(model)


def run(model: torch.nn.Module, out: Path, settings: TrainSettings = SETTINGS) -> list[dict[str, float]]:
    detach(model)
    train(model, DeltaMemConfig(), Fixed(examples(), settings.batch, settings.seed), settings, out)
    return [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]


def test_loss_falls_and_the_adapter_loads(model: torch.nn.Module, tmp_path: Path) -> None:
    log = run(model, tmp_path, TrainSettings(steps=40, batch=6, lr=2e-2, write_length=64))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    trained = [parameter.detach().clone() for parameter in trainable_parameters(model)]
    detach(model)
    load_adapter(model, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(trained, trainable_parameters(model), strict=True))


def test_a_stopped_training_goes_on_to_the_same_end(model: torch.nn.Module, tmp_path: Path) -> None:
    whole = run(model, tmp_path / "whole")
    source = Fixed(examples(), SETTINGS.batch, SETTINGS.seed)

    class Stopping:
        def batch(self, step: int) -> list[Example]:
            if step == 10:
                raise KeyboardInterrupt
            return list(source.batch(step))

        def identity(self) -> str:
            return source.identity()

    detach(model)
    with pytest.raises(KeyboardInterrupt):
        train(model, DeltaMemConfig(), Stopping(), SETTINGS, tmp_path / "parts")
    parts = run(model, tmp_path / "parts")
    assert [(row["step"], row["loss"]) for row in parts] == [(row["step"], row["loss"]) for row in whole]
    with pytest.raises(UserError, match="other settings"):
        run(model, tmp_path / "parts", TrainSettings(steps=13, batch=4))
    detach(model)
    other = Fixed(examples()[:4], SETTINGS.batch, SETTINGS.seed)
    with pytest.raises(UserError, match="or data"):
        train(model, DeltaMemConfig(), other, SETTINGS, tmp_path / "parts")
    (tmp_path / "parts" / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match="is damaged"):
        run(model, tmp_path / "parts")


def test_a_loss_that_is_not_finite_stops_with_the_step(model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss became nan at step"):
        run(model, tmp_path, TrainSettings(steps=5, batch=4, lr=1e20, clip=1e20, write_length=64))


@pytest.mark.parametrize("granularity", ["token", "message_mean"])
def test_groups_of_like_length_give_the_gradient_of_the_whole(
    model: torch.nn.Module, granularity: str
) -> None:
    attach(model, DeltaMemConfig(memory_write_granularity=granularity, online_gain=0.5))
    lengths = (3, 11, 2, 7, 5)
    batch = [
        Example(((20 + n,) * n, (9, 8)), tuple(((7, 30 + n), (40 + n,) * k) for k in range(1, 3)))
        for n in lengths
    ]
    found = {}
    for parts in (1, 2, 5):
        model.zero_grad()
        loss_of(model, batch, TrainSettings(parts=parts)).backward()
        found[parts] = torch.cat([item.grad.flatten() for item in trainable_parameters(model)])
        for item in trainable_parameters(model):
            item.grad = None
    for parts in (2, 5):
        torch.testing.assert_close(found[parts], found[1], atol=1e-6, rtol=1e-3)
