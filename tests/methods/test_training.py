"""What every training shares: the loss of labelled tokens, whatever the architecture does to its logits."""

import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import together
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.training import (
    CHECKPOINT,
    LOG,
    TrainSettings,
    answer_batch,
    answer_loss,
    fit,
    rate,
)
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from deltamem_eval.trainers import TRAINERS
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

PAIRS = [([5, 6, 7], [8, 9]), ([4], [3, 2, 1]), ([9, 9, 9, 9], [1])]


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_loss_equals_the_model_s_own(family: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = AutoConfig.for_model(
        family,
        **sizes,
        head_dim=16,
        intermediate_size=48,
        vocab_size=40,
        initializer_range=1.0,
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    tokens, mask, labels = answer_batch(PAIRS, 512, model.device)
    assert labels.tolist()[1] == [-100, 3, 2, 1, -100]
    wanted = model(tokens, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(answer_loss(model, tokens, mask, labels), wanted, atol=1e-5, rtol=1e-5)


def test_answers_are_cut_and_padding_is_never_learnt() -> None:
    tokens, mask, labels = answer_batch(PAIRS, 1, torch.device("cpu"))
    assert tokens.tolist() == [[5, 6, 7, 8, 0], [4, 3, 0, 0, 0], [9, 9, 9, 9, 1]]
    assert mask.sum(1).tolist() == [4, 2, 5]
    assert (labels != -100).sum().item() == 3


def test_rate_rises_then_falls_to_nothing() -> None:
    settings = TrainSettings(steps=100, warmup=0.1)
    found = [rate(step, settings) for step in range(100)]
    assert found[0] == pytest.approx(0.1)
    assert found[9] == found[10] == 1.0
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[55] == pytest.approx(0.5)
    assert found[-1] < 0.001


def test_a_linear_schedule_falls_straight_to_nothing() -> None:
    settings = TrainSettings(steps=100, warmup=0.1, schedule="linear")
    found = [rate(step, settings) for step in range(100)]
    assert found[:11] == [rate(step, TrainSettings(steps=100, warmup=0.1)) for step in range(11)]
    assert found[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 100)])
    for schedule in ("linear", "cosine"):
        one = TrainSettings(steps=1, schedule=schedule)
        assert [rate(step, one) for step in (0, 1)] == [1.0, 0.0 if schedule == "linear" else 1.0]


def test_checkpoints_from_before_there_was_a_schedule_are_gone_on_with() -> None:
    assert "schedule" not in TrainSettings().identity()
    assert TrainSettings().identity()["parts"] == 1
    assert TrainSettings(schedule="linear").identity()["schedule"] == "linear"
    assert TrainSettings(accumulate=True).identity() == TrainSettings().identity()


def test_summands_are_gone_before_the_next_is_made_and_give_the_same(tmp_path: Path) -> None:
    settings = TrainSettings(steps=3, lr=0.1, clip=0.5)
    found = []
    for accumulate in (False, True):
        weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        seen = []

        def part(number: int, weight: nn.Parameter = weight, seen: list = seen) -> torch.Tensor:
            seen.append(None if weight.grad is None else weight.grad.clone())
            return ((number + 1) * (weight - number) ** 2).sum() / 3

        def loss_at(step: int, accumulate: bool = accumulate, part: Any = part) -> Any:
            losses = (part(number) for number in range(2))
            return losses if accumulate else sum(losses)

        fit([weight], loss_at, settings, tmp_path / str(accumulate), {})
        found.append(weight.detach().clone())
        assert [grad is None for grad in seen] == ([True, False] if accumulate else [True, True]) * 3
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=0)
    logs = [(tmp_path / name / "train_log.jsonl").read_text().splitlines() for name in ("False", "True")]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in logs]
    assert losses[0] == pytest.approx(losses[1])


class Held:
    """Numbers that autograd holds for backward passes now, and the most it held."""

    now = most = 0

    def pack(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        class Kept(list):
            pass

        kept = Kept([tensor])
        self.now += tensor.numel()
        self.most = max(self.most, self.now)
        weakref.finalize(kept, self._free, tensor.numel())
        return kept

    def _free(self, count: int) -> None:
        self.now -= count


@contextmanager
def saved_for_backward() -> Iterator[Held]:
    held = Held()
    with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda kept: kept[0]):
        yield held


@pytest.mark.parametrize("method", ["token-write", "memgen", "context2lora"])
def test_trainers_accumulate_to_the_same_weights_in_less_memory(method: str, tmp_path: Path) -> None:
    weights, most = [], []
    for accumulate in (False, True):
        backbone, out = together.fresh(), tmp_path / str(accumulate)
        episodes = [
            episode_from_row(row, split="t", index=index) for index, row in enumerate(together.rows())
        ]
        settings = TrainSettings(
            steps=2, batch=4, lr=1e-2, write_length=64, parts=4, accumulate=accumulate, save_every=9
        )
        with together.doubles(), saved_for_backward() as held:
            TRAINERS[method](backbone, episodes, settings, out, lambda _: None)
        (file,) = out.glob("*.safetensors")
        weights.append(load_file(file))
        most.append(held.most)
    torch.testing.assert_close(weights[0], weights[1], atol=1e-6, rtol=1e-5)
    assert most[1] < 0.6 * most[0]


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(2))

    def loss_at(step: int) -> torch.Tensor:
        return torch.sqrt(weight - weight).sum() if step == 2 else (weight**2).sum()

    with pytest.raises(UserError, match="the gradient's norm became nan at step 2: lower --lr") as raised:
        fit([weight], loss_at, TrainSettings(steps=4, save_every=2), tmp_path, {})
    assert "keeps the last good state" in str(raised.value)
    assert bool(torch.isfinite(weight).all())
    assert torch.load(tmp_path / "checkpoint.pt")["step"] == 2
    assert len((tmp_path / "train_log.jsonl").read_text().splitlines()) == 2


def fitted(out: Path, **settings: Any) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    fit([weight], lambda step: weight.square().sum(), TrainSettings(steps=2, **settings), out, {"a": 1})


def test_a_checkpoint_is_of_one_backbone(tmp_path: Path) -> None:
    fitted(tmp_path, backbone="hash of one in float32")
    fitted(tmp_path, backbone="hash of one in float32")
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match="with other settings or data, or on another backbone"):
        fitted(tmp_path, backbone="hash of another in float32")
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    assert "backbone" not in TrainSettings().identity()


def test_what_is_no_checkpoint_is_told_in_a_line(tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(1)}, tmp_path / CHECKPOINT)
    with pytest.raises(UserError, match="is no checkpoint of ours"):
        fitted(tmp_path)


def test_a_folder_that_takes_no_log_is_refused_before_the_first_update(tmp_path: Path) -> None:
    (tmp_path / LOG).mkdir()
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}"):
        fitted(tmp_path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_keeps_the_old_checkpoint(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(tmp_path, save_every=1)
    kept = (tmp_path / CHECKPOINT).read_bytes()

    def full(state: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    other = tmp_path / "other"
    with pytest.raises(UserError, match=f"cannot write a checkpoint to {other}"):
        fitted(other)
    assert [file.name for file in other.iterdir()] == [LOG]
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
