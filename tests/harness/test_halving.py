"""A batch size that one cell had to halve is that cell's alone, and its record says what it came to."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.decoding import Request as Asked
from deltamem_eval.display import Display
from deltamem_eval.interface import Answer, Query
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.registry import METHODS
from deltamem_eval.session import Request, check, execute
from deltamem_eval.store import read_cells
from tiny import tiny_backbone


class Tight(Vanilla):
    """No more than one row fits while it answers."""

    name = "tight"
    answering: ClassVar[bool] = False

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        Tight.answering = True
        try:
            return super().answer(queries)
        finally:
            Tight.answering = False


def test_the_next_cell_begins_with_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {
        "context": "fact 1 is 7.\n",
        "questions": [f"fact {number}?" for number in range(8)],
        "answers": [["7"]] * 8,
        "metadata": {
            "source": "factconsolidation_sh_6k",
            "qa_pair_ids": [f"q{number}" for number in range(8)],
        },
    }
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    backbone = tiny_backbone()
    backbone.model.save_pretrained(tmp_path / "model")
    backbone.tokenizer.save_pretrained(tmp_path / "model")
    real, load = Backbone._generate_batch, METHODS.load
    sizes: dict[bool, list[int]] = {True: [], False: []}

    def short_of_memory(self: Backbone, requests: list[Asked], prefix: Any) -> Any:
        if Tight.answering and len(requests) > 1:
            raise torch.OutOfMemoryError("out of memory")
        sizes[Tight.answering].append(len(requests))
        return real(self, requests, prefix)

    monkeypatch.setattr(Backbone, "_generate_batch", short_of_memory)
    monkeypatch.setattr(METHODS, "load", lambda name: Tight if name == "tight" else load(name))
    request = Request(
        methods=("tight", "vanilla"),
        model=str(tmp_path / "model"),
        rows=str(tmp_path / "rows.json"),
        windows=(20,),
        controls=False,
        device="cpu",
        batch_size=4,
    )
    with Display(2, quiet=True) as display:
        execute(check(request), tmp_path / "run", display)
    assert sizes == {True: [1] * 8, False: [4, 4]}
    records = {record.identity["method"]: record for record, _ in read_cells(tmp_path / "run")}
    assert {name: record.effective["batch_size"] for name, record in records.items()} == {
        "tight": 1,
        "vanilla": 4,
    }
    assert records["tight"].effective["notices"] == [
        "out of memory at 4 rows: batch size is now 2",
        "out of memory at 2 rows: batch size is now 1",
    ]
    assert records["vanilla"].effective["notices"] == []


def test_what_is_set_is_what_is_asked_for() -> None:
    backbone = tiny_backbone(batch_size=6)

    def full() -> None:
        raise torch.OutOfMemoryError("out of memory")

    assert backbone.try_batch(6, full, None) is None
    assert backbone.batch_size == 3
    backbone.full_batches()
    assert backbone.batch_size == 6
    assert backbone.try_batch(6, full, None) is None
    backbone.batch_size = 5
    backbone.full_batches()
    assert backbone.batch_size == 5
