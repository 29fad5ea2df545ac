"""Every renderer of a table against a file of what it must print, and the hard cases by hand."""

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from deltamem_eval.reports.rank import ranks
from deltamem_eval.reports.render import WRITERS, to_csv, to_html, to_json, to_latex, to_markdown
from deltamem_eval.reports.render.latex import escape, with_interval
from deltamem_eval.reports.render.terminal import to_terminal
from deltamem_eval.reports.table import Cell, Column, Table
from rich.cells import cell_len
from rich.console import Console

GOLDEN = Path(__file__).parent / "golden"
ENDINGS = {"markdown": "md", "latex": "tex"}
COLUMNS = (
    Column("method", "method"),
    Column("window", "window"),
    Column("accuracy", "accuracy % [95 %]", "percent", True),
    Column("lift", "lift", "points", True),
    Column("bytes", "memory", "bytes", False),
    Column("seconds", "seconds", "seconds", False),
    Column("count", "count", "count"),
    Column("nothing", "nothing", "count"),
)
TABLE = Table(
    "Title [bold] & 5 % of $x_1$",
    COLUMNS,
    (
        (
            Cell("a|b", runs=("run-1/abc",)),
            Cell("64"),
            Cell(0.5, 0.25, 0.75, 8, runs=("run-1/abc",)),
            Cell(-0.125, -0.25, 0.0, 8, mark="▼"),
            Cell(1536.0),
            Cell(0.0123),
            Cell(25344),
            Cell(None),
        ),
        (
            Cell("[red]x <b> δ"),
            Cell("64"),
            Cell(0.9, 0.8, 0.92, 8),
            Cell(None, note="No partner."),
            Cell(12.0),
            Cell(12.34),
            Cell(1.5),
            Cell(None),
        ),
        (
            Cell("記憶"),
            Cell("64"),
            Cell(0.4, 0.4, 0.4, 8),
            Cell(0.0, None, None, 8, note="No partner."),
            Cell(12.0),
            Cell(0.5),
            Cell(2),
            Cell(None),
        ),
        (
            Cell("vanilla [full-context]"),
            Cell("64"),
            Cell(1.0, 0.9, 1.0, 8),
            Cell(0.5, 0.4, 0.6, 8),
            Cell(0.0),
            Cell(0.0001),
            Cell(2),
            Cell(None),
        ),
    ),
    "8 questions.",
    ("A note.",),
    name="some_table",
    within=("window",),
    aside=frozenset({3}),
)


@pytest.mark.parametrize("form", list(WRITERS))
def test_renderers_print_what_their_golden_file_holds(form: str) -> None:
    file = GOLDEN / f"table.{ENDINGS.get(form, form)}"
    assert WRITERS[form](TABLE) == file.read_text(encoding="utf-8")


def test_terminal_shows_texts_as_they_are() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    (whole,) = to_terminal(TABLE, 160)
    console.print(whole)
    text = console.export_text()
    for part in ("Title [bold]", "[red]x <b>", "50.0 [25.0, 75.0]", "8 questions. A note. (1) No partner."):
        assert part in text
    assert "nothing" not in text


@pytest.mark.parametrize("width", [24, 40, 60, 80])
def test_a_narrow_terminal_gets_parts_with_whole_numbers(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    parts = to_terminal(TABLE, width)
    for part in parts:
        console.print(part)
    lines = console.export_text().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert sum(line.startswith("└") and line.rstrip().endswith("┘") for line in lines) == len(parts)
    assert len(parts) > 1 or width == 80
    assert width < 60 or any("50.0 [25.0, 75.0]" in line for line in lines)
    assert "…" not in "".join(lines)


def test_csv_holds_plain_numbers_and_a_blank_for_what_is_missing() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert (rows[0]["accuracy"], rows[0]["accuracy_low"], rows[0]["accuracy_n"]) == ("0.5", "0.25", "8")
    assert (rows[0]["lift_mark"], rows[1]["lift_note"]) == ("▼", "No partner.")
    assert rows[1]["lift"] == rows[1]["lift_low"] == rows[0]["nothing"] == ""


def test_the_same_numbers_come_out_of_csv_and_json() -> None:
    plain = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    value = json.loads(to_json(TABLE))
    for text, row in zip(plain, value["rows"], strict=True):
        for key in ("accuracy", "lift", "bytes", "seconds", "count"):
            number = row[key]["value"]
            assert text[key] == ("" if number is None else str(number))
    assert value["rows"][0]["accuracy"]["runs"] == ["run-1/abc"]


def test_the_best_and_the_second_best_of_a_column_and_no_control() -> None:
    found = ranks(TABLE)
    accuracy, lift, memory = 2, 3, 4
    assert {key: place for key, place in found.items() if key[1] == accuracy} == {
        (1, accuracy): 1,
        (0, accuracy): 2,
    }
    assert found[2, lift] == 1
    assert [found[row, memory] for row in (1, 2, 0)] == [1, 1, 2]  # what prints alike ranks alike
    assert not any(row == 3 for row, _ in found)
    assert not any(column in (0, 1, 6) for _, column in found)


def test_nobody_wins_alone_or_among_equals() -> None:
    columns = (Column("group", "group"), Column("x", "x", "percent", True))
    rows = (
        (Cell("a"), Cell(0.5)),
        (Cell("b"), Cell(0.5)),
        (Cell("b"), Cell(0.50001)),
        (Cell("c"), Cell(None)),
        (Cell("c"), Cell(float("nan"))),
    )
    assert ranks(Table("t", columns, rows, "", within=("group",))) == {}


@pytest.mark.parametrize(
    ("cell", "kind", "text"),
    [
        (Cell(0.543, 0.515, 0.571), "percent", r"$54.3 \pm 2.8$"),
        (Cell(0.54, 0.41, 0.67), "percent", r"$54 \pm 13$"),
        (Cell(0.0125, 0.0, 0.0375), "percent", r"$1.2^{+2.5}_{-1.2}$"),
        (Cell(0.0, 0.0, 0.0), "percent", r"$0.0 \pm 0.0$"),
        (Cell(0.1, 0.05, 0.15), "points", r"$+10.0 \pm 5.0$"),
        (Cell(0.00012), "share", "0.01"),
        (Cell(4_866_336), "millions", "4.87M"),
        (Cell(2048.0, 1024.0, 3072.0), "bytes", "2.0 KiB {[}1.0 KiB, 3.0 KiB{]}"),
        (Cell(1.5, 1.0, 2.0), "seconds", r"$1.50 \pm 0.50$"),
    ],
)
def test_latex_rounds_to_the_interval(cell: Cell, kind: str, text: str) -> None:
    assert with_interval(cell, kind) == text  # type: ignore[arg-type]


def test_latex_escapes_all_that_it_would_read() -> None:
    hard = '\\ { } $ & # % _ ~ ^ < > | " `--` \x00 \n'
    made = escape(hard)
    for command in (r"\textbackslash{}", r"\{", r"\}", r"\$", r"\&", r"\#", r"\%", r"\_", "-{}-"):
        assert command in made
    assert "\x00" not in made
    assert "\n" not in made


def structure(text: str) -> None:
    """Braces and environments of LaTeX text pair up."""
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    begun = [part.split("}")[0] for part in text.split(r"\begin{")[1:]]
    ended = [part.split("}")[0] for part in text.split(r"\end{")[1:]]
    assert sorted(begun) == sorted(ended)


def long_table() -> Table:
    rows = tuple((Cell(f"m_{number}"), Cell(number / 100, 0.0, 1.0, 5)) for number in range(60))
    return Table("Long", (Column("method", "m"), Column("x", "x %", "percent", True)), rows, "c", name="long")


def test_latex_has_the_structure_of_latex() -> None:
    for table in (TABLE, long_table(), Table("None", COLUMNS, (), "Nothing here.")):
        structure(to_latex(table))
    assert "longtable" in to_latex(long_table())
    assert to_latex(TABLE).startswith("% This table holds text that needs XeLaTeX or LuaLaTeX.\n")


def test_latex_compiles(tmp_path: Path) -> None:
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("no pdflatex here; the structure is checked by another test")
    latin = tuple(row for row in TABLE.rows if row[0].value != "記憶")
    texts = [to_latex(Table(TABLE.title, COLUMNS, latin, TABLE.caption)), to_latex(long_table())]
    head = r"\documentclass{article}\usepackage{booktabs,graphicx,longtable}\usepackage[T1]{fontenc}"
    source = head + r"\begin{document}" + "\n".join(texts) + r"\end{document}"
    (tmp_path / "a.tex").write_text(source, encoding="utf-8")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "a.pdf").stat().st_size > 1000


def test_html_escapes_texts_and_marks_the_best() -> None:
    text = to_html(TABLE)
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "<strong>90.0 [80.0, 92.0]</strong>" in text
    assert 'data-value="0.5"' in text


def test_markdown_keeps_its_columns_whatever_names_hold() -> None:
    lines = [line for line in to_markdown(TABLE).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {8}


HOSTILE = "a|b `c` ``d`` <img src=x> [see](http://x) @all *b* _i_ \\ \\|\nnext\x1b[31m\u202e"


def hostile() -> Table:
    columns = (Column("method", "method"), Column("answer_b", "B answered"))
    rows = ((Cell("vanilla [full-context]"), Cell(HOSTILE, note="A note.")), (Cell("x"), Cell("`")))
    return Table("T", columns, rows, "c", foreign=frozenset({"answer_b"}))


def test_what_a_model_wrote_is_code_in_markdown() -> None:
    markdown = to_markdown(hostile())
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert lines[0] == "| method | B answered |"
    assert lines[2] == (
        "| vanilla [full-context] | ```a\\|b `c` ``d`` <img src=x> [see](http://x) @all *b* _i_ \\ \\\\| "
        "next␛[31m[U+202E]``` (1) |"
    )
    assert lines[3] == "| x | `` ` `` |"
    assert to_json(hostile()) == to_json(replace(hostile(), foreign=frozenset()))


def test_a_terminal_is_sent_no_control_characters() -> None:
    console = Console(width=60, file=io.StringIO(), record=True)
    for part in to_terminal(replace(hostile(), title="T\x1b]0;x\x07", caption="\x1b[2J"), 60):
        console.print(part)
    assert not set(console.export_text()) & {"\x1b", "\x07", "\u202e"}
