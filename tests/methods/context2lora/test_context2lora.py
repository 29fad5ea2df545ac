"""Context2LoRA: what it fits to, that it learns it, and that the backbone is left as it was."""

import json
import math
from pathlib import Path

import pytest
import torch
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.context2lora import fit
from deltamem_eval.methods.context2lora.lora import Lora, lora_parameters
from deltamem_eval.methods.context2lora.method import Context2Lora
from deltamem_eval.methods.context2lora.pairs import parse_pairs
from deltamem_eval.overhead import ModelShape
from tiny import tiny_backbone

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
QWEN3_4B = ModelShape("qwen3", 2560, 36, 32, 8, 128, 9728, 151936, True, False, 262144)


def test_the_paper_s_count_two_ways() -> None:
    assert lora_parameters(QWEN3_4B, 8, TARGETS) == 5_898_240
    assert lora_parameters(QWEN3_4B, 16, ("q_proj", "v_proj")) == 5_898_240


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ('[{"question": "a?", "answer": "b"}]', [("a?", "b")]),
        ('Sure!\n{"question": "a?", "answer": 3} and {"question": "c?"} {bad}', [("a?", "3")]),
        ('{"question": "a?", "answer": "cut off', []),
        ("no json at all", []),
        ('{"question": " ", "answer": "b"}', []),
    ],
)
def test_replies_are_read_tolerantly(reply: str, wanted: list) -> None:
    assert parse_pairs(reply) == wanted


def asked(text: str) -> Query:
    return Query(text, text, ("x",), 3)


def per_context(steps: int = 60) -> Context2Lora:
    options = {"mode": "per-context", "steps": 1, "label_steps": steps, "batch": 4, "lr": 1e-2}
    return Context2Lora(tiny_backbone(), MethodSettings(0, options=options))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_labels_are_learnt_by_the_adapter_alone_and_nothing_stays_behind() -> None:
    before = weights(tiny_backbone().model)
    method = per_context()
    for index in range(3):
        method.write(Chunk(f"word{index} label: {index + 4}\n", index))
    answers = method.answer([asked(f"word{index} label:") for index in range(3)])
    assert [answer.text for answer in answers] == ["4", "5", "6"]
    assert all(answer.visible is None for answer in answers)
    assert method.footprint().weights == 4 * method.added(tiny_backbone().shape(), {}).trainable
    other = method.snapshot()
    method.reset()
    method.write(Chunk("word0 label: 9\n", 0))
    assert method.answer([asked("word0 label:")])[0].text == "9"
    method.restore(other)
    assert method.answer([asked("word0 label:")])[0].text == "4"
    method.close()
    after = weights(tiny_backbone().model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_passage_nobody_can_ask_about_is_learnt_as_text_and_reported() -> None:
    method = per_context()
    method.write(Chunk("plain text without any label\n", 0))
    method.answer([asked("plain")])
    assert "could not be read for 1 of 1 passages" in method._backbone.notices[-1]
    method.close()


def test_a_context_that_cannot_be_fitted_leaves_the_one_before_it_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = per_context()
    method.write(Chunk("word0 label: 4\n", 0))
    snapshot = method.snapshot()
    method.write(Chunk("word1 label: 9\n", 1))
    monkeypatch.setattr(fit, "rate", lambda step, _: math.nan)
    with pytest.raises(FloatingPointError, match="became nan at step 1"):
        method.snapshot()
    method.restore(snapshot)
    assert method.answer([asked("word0 label:")])[0].text == "4"
    method.close()


def test_a_gradient_that_is_not_finite_is_no_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    lora = Lora.fresh(backbone.model, 2, TARGETS)
    before = lora.state()

    def loss(model: object, *_: torch.Tensor) -> torch.Tensor:
        nothing = lora.parameters()[0].sum() * 0
        return torch.sqrt(nothing)

    monkeypatch.setattr(fit, "answer_loss", loss)
    with pytest.raises(FloatingPointError, match="gradient of the context's adapter became nan at step 0"):
        fit.fit_pairs(backbone, lora, [((5, 6), (7,))], steps=2, batch=1, lr=1e-2, seed=0)
    assert all(torch.equal(item, before[name]) for name, item in lora.state().items())
    lora.remove()


def test_static_adapters_load_and_misfits_are_refused(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    lora = Lora.fresh(backbone.model, 4, TARGETS)
    for parameter in lora.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    lora.save(tmp_path / "fits")
    saved = json.loads((tmp_path / "fits" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] is None
    assert saved["target_modules"] == sorted(TARGETS), "a set's order would be another in every process"
    assert not (tmp_path / "fits" / "README.md").exists()
    lora.remove()
    plain = Context2Lora(backbone, MethodSettings(50, adapter=str(tmp_path / "fits")))
    plain.write(Chunk("some context that stands in the prompt\n", 0))
    answer = plain.answer([asked("what?")])[0]
    assert answer.visible == "some context that stands in the prompt\n"
    plain.close()
    config = json.loads((tmp_path / "fits" / "adapter_config.json").read_text())
    (tmp_path / "fits" / "adapter_config.json").write_text(
        json.dumps({**config, "target_modules": ["c_attn"]})
    )
    with pytest.raises(UserError, match="no module named c_attn"):
        Context2Lora(backbone, MethodSettings(50, adapter=str(tmp_path / "fits")))
    for pattern, fits in ((r".*\.(q|k|v|o)_proj", True), (r".*\.c_attn", False)):
        text = json.dumps({**config, "target_modules": pattern})
        (tmp_path / "fits" / "adapter_config.json").write_text(text)
        if fits:
            again = Context2Lora(backbone, MethodSettings(50, adapter=str(tmp_path / "fits")))
            again.write(Chunk("some context that stands in the prompt\n", 0))
            assert again.answer([asked("what?")])[0] == answer
            again.close()
            continue
        with pytest.raises(UserError, match=r"does not fit: .*c_attn"):
            Context2Lora(backbone, MethodSettings(50, adapter=str(tmp_path / "fits")))
    with pytest.raises(UserError, match=r"adapter_config\.json is missing"):
        Context2Lora(backbone, MethodSettings(50, adapter=str(tmp_path)))
    with pytest.raises(UserError, match="give --adapter"):
        Context2Lora(backbone, MethodSettings(50))
    with pytest.raises(UserError, match="static or per-context"):
        Context2Lora(backbone, MethodSettings(50, options={"mode": "other"}))
    assert not hasattr(backbone.model, "peft_config")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "option lr of context2lora must be a number above 0, not -1.0"),
        ({"lr": 0}, "option lr of context2lora must be a number above 0"),
        ({"targets": ""}, "option targets of context2lora names modules"),
        ({"targets": "q_proj,,v_proj"}, "option targets of context2lora names modules"),
    ],
)
def test_options_that_would_fail_at_every_context_are_refused_at_once(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Context2Lora(tiny_backbone(), MethodSettings(0, options={"mode": "per-context", **options}))


@pytest.mark.parametrize(
    "own",
    [
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": ["q_proj", "k_proj"], "rank_pattern": {"q_proj": 2}},
        {"target_modules": ["v_proj"], "layers_to_transform": [0, 2]},
        {"target_modules": r".*layers\.1\..*\.(up|gate)_proj"},
        {"target_modules": ["o_proj"], "use_dora": True},
    ],
)
def test_any_adapter_of_peft_s_is_counted_as_loaded(own: dict, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    made = peft.get_peft_model(tiny_backbone().model, peft.LoraConfig(r=3, task_type="CAUSAL_LM", **own))
    made.save_pretrained(str(tmp_path))
    backbone = tiny_backbone()
    method = Context2Lora(backbone, MethodSettings(0, adapter=str(tmp_path)))
    loaded = sum(tensor.numel() for tensor in method.trained_tensors())
    assert method.added(backbone.shape(), {}).stored == loaded > 0
    method.close()
