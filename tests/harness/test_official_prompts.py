"""Imported prompts through the command line: importing, cells of their own, refusals."""

import json
from pathlib import Path

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError
from typer.testing import CliRunner, Result

from miniature import COMMIT, source, write_checkout

ROW = {
    "context": "".join(f"{n}. Person {n} lives in City{n}.\n" for n in range(60)),
    "questions": ["Where does Person 2 live?", "Where does Person 58 live?"],
    "answers": [["City2"], ["City58"]],
    "metadata": {"source": "factconsolidation_sh_6k"},
}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("deltamem_eval.tasks.memory_agent_bench.task.official_counter", lambda: None)
    (tmp_path / "rows.json").write_text(json.dumps([ROW]))


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def run(out: str, *more: object) -> dict[str, dict]:
    """The rows of a run's table, by method."""
    done = cli(
        "run", "--method", "vanilla", "--rows", "rows.json", "--window", 30, "--protocol", "official",
        "--task-option", "input_limit=600", "--no-controls", "--quiet", "--json", "--out", out, *more,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)
    (line,) = table["cut"]["rows"]  # one source, the same for every method
    assert (line["source"]["value"], line["input_limit"]["value"]) == ("factconsolidation_sh_6k", 600)
    assert line["context_cut"] == {**table["rows"][0]["context_cut"], "n": 1}
    return {row["method"]["value"]: row for row in table["rows"]}


def identities(out: str) -> dict[str, dict]:
    """Each cell's hash and identity."""
    cells = (
        json.loads(file.read_text()) | {"hash": file.parent.name} for file in Path(out).rglob("cell.json")
    )
    return {cell["hash"]: cell["identity"] for cell in cells}


def test_other_prompts_are_other_cells_and_the_cut_is_counted() -> None:
    own = run("own")
    assert cli("data", "import-prompts", write_checkout(Path("checkout"))).exit_code == 0
    official = run("official", "--prompts", "official")
    again = cli("data", "import-prompts", write_checkout(Path("other"), source(), commit=None))
    assert "8 families, unknown commit, content hash" in again.stdout
    changed = run("changed", "--prompts", "official")
    found = [identities(out) for out in ("own", "official", "changed")]
    assert len({*found[0], *found[1], *found[2]}) == sum(map(len, found)) == 3
    prompts = [next(iter(cells.values()))["data"]["prompts"] for cells in found]
    assert prompts[0] == 1
    assert [item["name"] for item in prompts[1:]] == ["official", "official"]
    assert prompts[1]["templates"] != prompts[2]["templates"]
    for table in (own, official, changed):
        for row in table.values():
            assert 0.3 < row["context_cut"]["value"] < 0.9
            assert row["gold_survives"]["value"] == 0.5
            assert "gold_fits" not in row  # all do
    samples = [json.loads(line) for line in next(Path("official").rglob("samples.jsonl")).open()]
    assert [sample["extras"]["gold_survives"] for sample in samples] == [0.0, 1.0]
    assert [sample["extras"]["gold_fits"] for sample in samples] == [1.0, 1.0]


def test_an_import_says_what_it_took() -> None:
    done = cli("data", "import-prompts", write_checkout(Path("checkout")))
    assert done.exit_code == 0
    assert f"official_prompts.json: templates of 8 families, commit {COMMIT}, content hash " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--prompts", "official"),
            "run deltamem-eval data import-prompts CHECKOUT, with a checkout of github.com",
        ),
        (("--prompts", "ofical"), "unknown prompts 'ofical': did you mean official"),
        (("--task-option", "buffer=3"), "belongs to --protocol official"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = cli("run", "--method", "vanilla", "--rows", "rows.json", *arguments)
    assert isinstance(done.exception, UserError)
    assert words in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_a_refused_import_keeps_the_former_one(tmp_path: Path) -> None:
    cli("data", "import-prompts", write_checkout(Path("checkout")))
    file = tmp_path / "cache" / "deltamem-eval" / "official_prompts.json"
    before = file.read_text()
    leaking = source(in_context_learning={"long_context_agent": '"label: {label} {question}"'})
    done = cli("data", "import-prompts", write_checkout(Path("leaking"), leaking))
    assert "in_context_learning query long_context_agent: {label} would print" in str(done.exception)
    assert file.read_text() == before
