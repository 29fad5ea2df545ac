"""Updates worked on in parts give the gradient of the whole batch."""

import json
from pathlib import Path
from random import Random

import pytest
import torch
from deltamem_eval.tasks.embedded.ladder import IGNORED, RUNGS, Drawer, Drawn, Rung
from deltamem_eval.tasks.embedded.pretrain import Climb, in_parts, new_model, pretrain
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()


def batch(rows: int) -> list[Drawn]:
    drawer = Drawer(lambda text: list(TOKENIZER.encode(text)), range(300, 700))
    return drawer.batch(Rung("plain", rows, 1.0, 1), Random(4))


@pytest.mark.parametrize(("rows", "parts"), [(7, 3), (8, 2), (5, 1)])
def test_parts_hold_every_row_once_and_shares_add_up(rows: int, parts: int) -> None:
    drawn = batch(rows)
    made = in_parts(drawn, parts)
    assert len(made) == parts
    assert sorted(str(item) for part, _ in made for item in part) == sorted(map(str, drawn))
    assert sum(share for _, share in made) == pytest.approx(1.0)
    lengths = [len(item.ids) for part, _ in made for item in part]
    assert parts == 1 or lengths == sorted(lengths)


def test_gradients_are_those_of_the_whole(tmp_path) -> None:
    torch.manual_seed(0)
    model = new_model(TOKENIZER).eval()
    (tmp_path / "log").write_text("")
    climb = Climb(model, TOKENIZER, 0, tmp_path / "log")
    drawn, found = batch(7), {}
    for parts in (1, 3):
        model.zero_grad()
        for part, share in in_parts(drawn, parts):
            climb._backward(part, share, 0.0)
        found[parts] = torch.cat([item.grad.flatten() for item in model.parameters()])
    torch.testing.assert_close(found[3], found[1], atol=1e-6, rtol=1e-4)


def test_every_rung_draws_rows_that_teach_something() -> None:
    drawer = Drawer(lambda text: list(TOKENIZER.encode(text)), range(300, 700))
    for rung in RUNGS:
        for item in drawer.batch(rung, Random(1)):
            assert len(item.ids) == len(item.labels)
            learnt = [
                (token, label) for token, label in zip(item.ids, item.labels, strict=True) if label != IGNORED
            ]
            assert learnt
            assert all(token == label for token, label in learnt)


def test_a_ladder_climbed_in_two_goes_ends_where_one_climb_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rungs = (
        Rung("copying", 2, 2.0, 2),
        Rung("gist", 2, 2.0, 2, fresh=True, gist=0.3),
        Rung("long", 2, 2.0, 2, fresh=True, rate=0.5, gist=0.3, parts=2, threads=1),
    )
    monkeypatch.setattr("deltamem_eval.tasks.embedded.pretrain.RUNGS", rungs)
    threads = torch.get_num_threads()
    try:
        pretrain(tmp_path / "whole", seed=5)
        pretrain(tmp_path / "parts", seed=5, stop="long")
        first = (tmp_path / "parts" / "model.safetensors").read_bytes()
        pretrain(tmp_path / "parts", seed=5, start="long")
    finally:
        torch.set_num_threads(threads)
    whole, parts = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert parts.read_bytes() == whole.read_bytes() != first
    logs = [
        [
            {key: value for key, value in json.loads(line).items() if key != "seconds"}
            for line in (folder / "train_log.jsonl").read_text().splitlines()
        ]
        for folder in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="unpack"):
        pretrain(tmp_path / "other", seed=5, start="copying")
