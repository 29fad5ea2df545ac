"""The parameter table: the paper's arithmetic, what does not follow from it, and names of backbones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Overhead
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.reports.paper import BACKBONE, PARAMETERS
from deltamem_eval.reports.parameters import parameter_table
from deltamem_eval.shapes import CONFIGS, find_shape

from shared import ROOT


def table(name: str) -> dict[str, dict[str, float | None]]:
    made = parameter_table(*find_shape(name))
    keys = [column.key for column in made.columns]
    return {row[0].value: dict(zip(keys, (cell.value for cell in row), strict=True)) for row in made.rows}


def test_ours_beside_the_paper_s_on_qwen3_4b() -> None:
    found = table("Qwen3-4B-Instruct-2507")
    wanted = {
        "vanilla": 0,
        "bm25-rag": 0,
        "token-write": 4_866_336,
        "sequence-write": 4_866_336,
        "multi-write": 19_465_344,
        "context2lora": 5_898_240,
        "memgen": 46_198_788,
        "mlp-memory": 3_078_648_320,
    }
    assert {name: found[name]["trainable"] for name in wanted} == wanted
    for name, printed in PARAMETERS.items():
        assert abs(found[name]["difference"]) < 0.006e6 or name == "mlp-memory"
        assert found[name]["paper"] == printed.added
    assert found["mlp-memory"]["difference"] == pytest.approx(0.648320e6)
    assert found["vanilla"]["paper"] is None
    notes = " ".join(parameter_table(*find_shape(BACKBONE)).footnotes)
    assert "memgen: the paper prints 1.13 %, but its own 46.20M are 1.15 %" in notes
    assert "mlp-memory: the paper prints 76.40 %, but its own 3,078.00M are 76.52 %" in notes
    assert "token-write" not in notes


@pytest.mark.parametrize(
    ("name", "millions"), [("Qwen/Qwen3-8B", 8190.74), ("smollm3-3b", 3075.10), (BACKBONE, 4022.47)]
)
def test_backbones_that_are_listed(name: str, millions: float) -> None:
    full, shape = find_shape(name)
    assert full in CONFIGS
    assert shape.parameters / 1e6 == pytest.approx(millions, abs=0.005)
    if full != BACKBONE:
        assert all(row["paper"] is None for row in table(name).values())


def test_a_config_file_a_folder_and_the_embedded_one_are_counted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["Qwen/Qwen3-8B"]))
    assert find_shape(str(tmp_path))[1] == find_shape(str(tmp_path / "config.json"))[1]
    assert find_shape("embedded")[1].hidden == 128
    with pytest.raises(UserError, match="did you mean Qwen3-8B"):
        find_shape("Qwen3-8b-x")


def test_a_method_that_cannot_be_counted_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Overhead:
        raise ZeroDivisionError("no layers")

    monkeypatch.setattr(Vanilla, "overhead", broken)
    made = parameter_table(*find_shape("Qwen3-8B"))
    assert "vanilla cannot be counted: no layers." in made.footnotes
    assert len(made.rows) > 8


def test_the_command_needs_no_torch_and_no_weights() -> None:
    code = (
        "import sys\nfrom deltamem_eval.cli.main import app\n"
        "try: app(['params', '--model', 'Qwen3-8B', '--json'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["method"]["value"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["multi-write"]["trainable"]["value"] == 36 * (
        3 * 32 * 4096 + 32 * 4096 + 32 * 4096 + 32 * 4096 + 32
    )
