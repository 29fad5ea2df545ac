"""What is made to be profiled, and what cannot be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.profiling import worker
from deltamem_eval.profiling.parts import make_part
from deltamem_eval.profiling.request import ProfileRequest
from deltamem_eval.profiling.subject import make_backbone, own_positions, positions_for, random_parts
from profiled import config_file, requested

pytestmark = pytest.mark.usefixtures("alone")


def answered(request: ProfileRequest, folder: Path) -> dict[str, Any]:
    """What the worker's check writes."""
    task, result = folder / "task.json", folder / "result.json"
    task.write_text(json.dumps({"request": request.record(), "points": [], "parts": str(folder / "parts")}))
    worker.main(task, result)
    return json.loads(result.read_text())


def test_positions_are_the_model_s_own_where_they_do() -> None:
    asked = requested("x", "vanilla", prompt_lengths=(32768,), decode_lengths=(64, 256))
    assert positions_for(asked, 65536) == 65536
    assert positions_for(asked, 40960) == 40960
    assert positions_for(asked, 36000) > 2 * 32768
    state_only = replace(asked, modes=("state-only",))
    assert positions_for(state_only, 2048) == 2048


@pytest.mark.parametrize("prompt", [100, 1000, 5000])
@pytest.mark.parametrize("decode", [8, 700])
def test_positions_that_were_made_hold_the_whole_prompt(prompt: int, decode: int, tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path), "vanilla", prompt_lengths=(prompt,), decode_lengths=(decode,))
    found = answered(replace(asked, estimate=True), tmp_path)
    assert found["own_positions"] == 256
    assert found["positions"] > prompt


def test_facts_of_a_model(tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path), "vanilla", "token-write", "llmlingua2", dtype="bfloat16")
    found = answered(replace(asked, estimate=True, modes=("window",), window=64), tmp_path)
    assert found["dtype"] == "bfloat16"
    assert found["random"] == ["the backbone", "token-write", "the classifier of llmlingua2"]
    assert found["device"].startswith("shapes alone")
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["llmlingua2", "token-write"]
    assert random_parts(replace(asked, random_weights=None)) == []


def test_listed_backbones_are_built_from_their_names(tmp_path: Path) -> None:
    asked = requested("qwen3-8b", "vanilla", prompt_lengths=(32768,), estimate=True)
    found = answered(asked, tmp_path)
    assert (found["model"], found["parameters"]) == ("Qwen/Qwen3-8B", 8_190_735_360)
    assert found["positions"] == own_positions("Qwen/Qwen3-8B") == 40960
    assert found["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random_weights": None, "model": "embedded"}, "256 tokens of context do not fit"),
        ({"random_weights": "nowhere"}, "unknown model 'nowhere'"),
        ({"random_weights": "nowhere/config.json"}, "cannot read a model config from nowhere"),
        ({"device": "cuda"}, "no CUDA device is to be had here"),
        ({"dtype": "float12"}, "did you mean"),
        ({"methods": ("token-write",), "adapter": "nowhere"}, "no adapter at nowhere"),
    ],
)
def test_what_cannot_be_made_is_said_before_the_sweep(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    asked = requested(config_file(tmp_path), "vanilla", decode_lengths=(300,))
    assert message in answered(replace(asked, **changes), tmp_path)["mistake"]


def test_a_vocabulary_smaller_than_the_tokenizer_s(tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path, vocab_size=100), "vanilla")
    assert "a vocabulary of at least" in answered(asked, tmp_path)["mistake"]


def test_a_config_of_no_decoder(tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path, model_type="vit"), "vanilla")
    assert "no decoder can be built" in answered(asked, tmp_path)["mistake"]
    (tmp_path / "config.json").write_text("[]")
    assert "cannot read a model config" in answered(asked, tmp_path)["mistake"]


def test_weights_of_a_method_that_is_not_known(tmp_path: Path) -> None:
    backbone = make_backbone(requested(config_file(tmp_path), "vanilla"))
    with pytest.raises(UserError, match="no random weights are known for other: give --adapter"):
        make_part("other", backbone, tmp_path / "parts" / "other")
    assert not (tmp_path / "parts").exists()


def test_a_method_that_cannot_be_made_by_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any, *_: Any) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("deltamem_eval.methods.vanilla.Vanilla.__init__", fails)
    asked = requested(config_file(tmp_path), "vanilla")
    assert answered(asked, tmp_path)["mistake"] == "vanilla cannot be made: ValueError: broken"


def test_a_method_too_large_for_the_machine_is_left_to_its_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any, *_: Any) -> None:
        raise torch.OutOfMemoryError("too large")

    monkeypatch.setattr("deltamem_eval.methods.vanilla.Vanilla.__init__", fails)
    asked = requested(config_file(tmp_path), "vanilla")
    assert "mistake" not in answered(asked, tmp_path)
    assert worker.points_of(asked, asked.points(), tmp_path)[0]["status"] == "oom"
