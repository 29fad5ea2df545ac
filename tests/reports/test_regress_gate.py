"""The gate on the embedded model: a weakened memory is caught and named; another order and batch are not."""

from pathlib import Path

import pytest
from deltamem_eval.backbone import Backbone, embedded_folder, load_backbone
from deltamem_eval.cells import Cell
from deltamem_eval.display import Display
from deltamem_eval.interface import Episode
from deltamem_eval.methods.delta_mem.memory import LayerMemory
from deltamem_eval.reports.regress.baseline import read_baseline, update
from deltamem_eval.reports.regress.rules import DEFAULTS
from deltamem_eval.reports.regress.verdicts import judge
from deltamem_eval.runner import cell_identity, run_cell
from deltamem_eval.store import RunStore
from deltamem_eval.tasks.embedded.task import EmbeddedTask
from torch import Tensor

METHOD, CATEGORY = "sequence-write", "long-range-understanding"


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """The shorter contexts of one category."""
    return [
        episode
        for episode in EmbeddedTask().episodes(0, None)
        if episode.category == CATEGORY and episode.queries[0].metadata["context_tokens"] <= 512
    ]


def answered(folder: Path, episodes: list[Episode], backbone: Backbone) -> Path:
    """A run of the method from its state alone."""
    task, cell = EmbeddedTask(), Cell(METHOD, "embedded", 0, 0, adapter=str(embedded_folder() / METHOD))
    store = RunStore.open(folder, {}, {})
    identity = cell_identity(cell, task, backbone, None)
    with Display(1, quiet=True) as display:
        run_cell(cell, task, episodes, backbone, store, identity, display)
    store.close()
    return folder


def test_half_a_write_gate_is_caught_and_order_and_batch_are_not(
    tmp_path: Path, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone("embedded", "cpu", "auto", 8)
    table, _ = update(tmp_path / "base.csv", [answered(tmp_path / "before", episodes, backbone)])
    baseline = read_baseline(table)

    backbone.batch_size = 3
    again = answered(tmp_path / "again", episodes[::-1], backbone)
    for seed in range(10):
        found = judge(baseline, [again], DEFAULTS, seed=seed)
        assert [row.verdict for row in found.rows] == ["holds"]
        assert found.rows[0].difference is not None
        assert found.rows[0].difference.flips == []

    gate = LayerMemory._gate

    def half(self: LayerMemory, projected: Tensor) -> Tensor:
        return gate(self, projected) / 2

    monkeypatch.setattr(LayerMemory, "_gate", half)
    found = judge(baseline, [answered(tmp_path / "half", episodes, backbone)], DEFAULTS)
    assert [row.key for row in found.failed] == [(METHOD, "0", CATEGORY)]
    assert found.failed[0].difference is not None
    assert found.failed[0].difference.lost > found.failed[0].difference.won
