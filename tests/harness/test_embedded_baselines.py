"""The embedded baselines: the adapters' episodes with the context in the prompt, and a sweep on record."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from deltamem_eval import embedded_baselines as baselines
from deltamem_eval.backbone import load_backbone
from deltamem_eval.embedded_adapters import BOUND, FreshEpisodes, Rung
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.registry import METHODS
from deltamem_eval.tasks.embedded.episodes import Drawing
from deltamem_eval.tasks.embedded.pretrain import new_model
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
RUNG = Rung(3, 4, Drawing(BOUND, (2,), 4), (60,), windowed=0.5, windowed_questions=2)


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text))


def test_prompts_hold_the_adapters_own_contexts_or_their_ends() -> None:
    plain, shown = (FreshEpisodes(encode, 3, (RUNG,), in_prompt=flag) for flag in (False, True))
    assert plain.identity() != shown.identity()
    lengths = set()
    for step in range(6):
        for one, other in zip(plain.batch(step), shown.batch(step), strict=True):
            context = [token for message in one.messages for token in message]
            (visible,) = other.messages
            assert context[-len(visible) :] == list(visible)
            lengths.add(len(visible) == len(context))
            for (whole, answer), (asked, told) in zip(one.questions, other.questions, strict=True):
                assert answer == told
                assert asked[0] == encode("question")[0]
                assert whole[-len(asked) :] == asked
    assert lengths == {True, False}


def test_the_compressor_reads_the_adapters_whole_contexts_in_their_order(tmp_path: Path) -> None:
    new_model(TOKENIZER).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), "cpu", "float32")
    warm = replace(RUNG, updates=1)
    source = baselines.AdapterEpisodes(encode, 3, warm, (RUNG,), in_prompt=False)
    drawn = [FreshEpisodes(encode, 4, (warm,)).batch(0), FreshEpisodes(encode, 3, (RUNG,)).batch(0)]
    for step, batch in enumerate(drawn):
        wanted = ["".join(backbone.decode(message) for message in item.messages) for item in batch]
        assert baselines.contexts_of(backbone, source.batch(step)) == wanted
        assert all(text.endswith("\n") for text in wanted)


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_a_baseline_is_swept_trained_and_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_model(TOKENIZER).save_pretrained(tmp_path / "backbone")
    TOKENIZER.save_pretrained(tmp_path / "backbone")
    rungs = (RUNG, replace(RUNG, updates=1))
    for setting, value in (
        ("RUNGS", rungs),
        ("WARM", replace(RUNG, updates=2)),
        ("SWEEP_RUNGS", (replace(RUNG, updates=1), replace(RUNG, updates=1))),
        ("MORE", 1),
        ("DATASTORE", 400),
        ("CELLS", 6),
    ):
        monkeypatch.setattr(baselines, setting, value)
    out = tmp_path / "out"
    baselines.train_baseline(name, tmp_path / "backbone", out, "cpu", 0)
    sweep = json.loads((out / baselines.SWEEP).read_text())
    losses = {float(rate): loss for rate, loss in sweep["held_out_loss"].items()}
    assert set(baselines.RATES[name]) <= set(losses)
    assert sweep["chosen"] == min(losses, key=lambda rate: losses[rate])
    rows = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    assert len(rows) == 2 + RUNG.updates + 1
    assert max(row["lr"] for row in rows) <= sweep["chosen"]
    assert not (out / "checkpoint.pt").exists()
    if name == "mlp-memory":
        weight = json.loads((out / "weight.json").read_text())
        config = json.loads((out / "mlp_memory.json").read_text())
        assert min(cost for tried, cost in weight["answer_nll"].items() if float(tried)) == pytest.approx(
            sweep["held_out_loss_trained"], rel=1e-5
        )
        assert 16 < sweep["datastore"] <= 400
        assert config["weight"] == weight["chosen"] > 0
    backbone = load_backbone(str(tmp_path / "backbone"), "cpu", "float32")
    settings = (
        MethodSettings(64, options={"classifier": str(out)})
        if name == "llmlingua2"
        else MethodSettings(64, adapter=str(out))
    )
    method = METHODS.load(name)(backbone, settings)
    method.write(Chunk("the code of anna berg is red fox\n", 0))
    (answer,) = method.answer([Query("q", "question : what is the code of anna berg ? answer :", ("x",), 4)])
    assert answer.status == "ok"
    method.close()


@pytest.mark.parametrize(
    ("least", "wanted"),
    [
        (3e-3, [1e-3, 3e-3, 1e-2]),
        (3e-2, [1e-3, 3e-3, 1e-2, 3e-2, 9e-2]),
        (1e-4, [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]),
    ],
)
def test_a_sweep_goes_on_beyond_an_end_that_is_the_best(least: float, wanted: list[float]) -> None:
    found = baselines.sweep((1e-3, 3e-3, 1e-2), lambda rate: abs(math.log(rate / least)))
    assert list(found) == pytest.approx(wanted, rel=0.2)
    assert list(found) == sorted(found)
