"""What every training shares: the loss of labelled tokens, whatever the architecture does to its logits."""

import pytest
import torch
from deltamem_eval.methods.training import TrainSettings, answer_batch, answer_loss, rate
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
    assert rate(0, TrainSettings(steps=1, schedule="linear")) == 1.0


def test_checkpoints_from_before_there_was_a_schedule_are_gone_on_with() -> None:
    assert "schedule" not in TrainSettings().identity()
    assert TrainSettings().identity()["parts"] == 1
    assert TrainSettings(schedule="linear").identity()["schedule"] == "linear"
