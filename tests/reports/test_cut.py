"""What a protocol cut of the contexts: source by source, in tokens, the same for every method."""

import json
from pathlib import Path

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.reports.artefacts import Inputs, gather
from deltamem_eval.reports.cut import BY_CHARACTERS, CUT_BY, cut_table
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.table import Table
from typer.testing import CliRunner

from stored import sample, write_run

OFFICIAL = {"protocol": "official", "counted_by": "o200k_base", "input_limit": 128_000, "buffer": 4000}
CUT = [  # of four contexts of two questions: source, what was cut in tokens and characters, what survives
    ("icl_x", 0.0, 0.0, (1.0, 1.0)),
    ("eventqa_full", 0.5, 0.25, (1.0, 0.0)),
    ("eventqa_full", 0.9, 0.25, (0.0, None)),
    ("infbench_sum", 0.2, 0.1, (None, None)),
]


def run(folder: Path, data: dict, share: float = 1.0, old: bool = False) -> Path:
    """Two methods' answers under a protocol. share: of CUT's numbers that was cut. old: characters alone."""
    samples = []
    for context, (source, tokens, characters, survives) in enumerate(CUT):
        for question, kept in enumerate(survives):
            extras = {"context_cut": share * characters, "tokens_cut": share * tokens}
            extras |= {} if kept is None else {"gold_survives": kept}
            if old:
                del extras["tokens_cut"]
            samples.append(sample(2 * context + question, True, source=source, extras=extras))
    cells = [{"method": method, "task": "rows", "data": data} for method in ("vanilla", "bm25-rag")]
    return write_run(folder, [(cell, samples) for cell in cells])


def read(table: Table) -> dict[str, tuple[object, ...]]:
    """By source: contexts, tokens cut, gold that survives and of how many questions."""
    keys = [column.key for column in table.columns]
    found = {}
    for row in table.rows:
        named = dict(zip(keys, row, strict=True))
        survives = named["gold_survives"]
        found[str(named["source"].value)] = (
            named["contexts"].value,
            named["context_cut"].value,
            survives.value,
            survives.n,
        )
    return found


def test_tokens_cut_and_golds_that_survive_by_source(tmp_path: Path) -> None:
    made = run(tmp_path / "run", OFFICIAL)
    table = cut_table([made])
    assert read(table) == {
        "eventqa_full": (2.0, pytest.approx(0.7), pytest.approx(1 / 3), 3),
        "icl_x": (1.0, 0.0, 1.0, 2),
        "infbench_sum": (1.0, pytest.approx(0.2), None, 0),
    }
    assert [cell.value for cell in table.rows[0][:6]] == [
        "rows",
        "tiny",
        "official",
        128_000,
        4000,
        "o200k_base",
    ]
    assert table.name in {made.name for made in gather(Inputs((made,))).tables}
    summary = summary_table([made], ("source",))
    place = [column.heading for column in summary.columns].index("context tokens cut %")
    assert [row[place].value for row in summary.rows[:1]] == [pytest.approx(0.7)]
    assert CUT_BY in summary.footnotes


def test_where_nothing_is_cut_there_is_no_table(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", {"protocol": "isolated"}, share=0.0)
    assert cut_table([whole]).rows == ()
    assert "protocol-cut" not in {made.name for made in gather(Inputs((whole,))).tables}
    assert CUT_BY not in summary_table([whole]).footnotes
    both = cut_table([whole, run(tmp_path / "cut", {"protocol": "delta-mem-release"})])
    assert {row[2].value for row in both.rows} == {"delta-mem-release"}
    assert {row[5].value for row in both.rows} == {"the backbone's tokenizer"}


def test_runs_that_stored_characters_alone_say_so(tmp_path: Path) -> None:
    old = run(tmp_path / "old", OFFICIAL, old=True)
    assert read(cut_table([old]))["eventqa_full"][1] == pytest.approx(0.25)
    notes = [row[-2].note for row in cut_table([old]).rows]
    assert notes == [BY_CHARACTERS, None, BY_CHARACTERS]  # of nothing cut the share is the same


def test_report_prints_it_where_something_was_cut(tmp_path: Path) -> None:
    cut = run(tmp_path / "cut", OFFICIAL)
    whole = run(tmp_path / "whole", {"protocol": "isolated"}, share=0.0)

    def told(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["report", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "What the protocol cut" in told(cut, "--format", "markdown")
    assert "What the protocol cut" not in told(whole, "--format", "markdown")
    assert len(json.loads(told(cut, "--table", "cut", "--format", "json"))["rows"]) == 3
    assert "No context was cut by a protocol." in told(whole, "--table", "cut", "--format", "markdown")
