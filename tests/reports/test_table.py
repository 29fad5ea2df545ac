"""Every renderer of a table, against what it must print."""

import csv
import io
import json

from deltamem_eval.reports.render import to_csv, to_json, to_markdown
from deltamem_eval.reports.render.terminal import to_terminal
from deltamem_eval.reports.table import Cell, Column, Table
from rich.console import Console

TABLE = Table(
    "Title [bold]",
    (
        Column("method", "method"),
        Column("accuracy", "accuracy %", "percent", True),
        Column("lift", "lift", "points", True),
        Column("bytes", "memory", "bytes", False),
        Column("seconds", "seconds", "seconds", False),
        Column("count", "count", "count"),
    ),
    (
        (
            Cell("a|b"),
            Cell(0.5, 0.25, 0.75, 8),
            Cell(-0.125, -0.25, 0.0, 8),
            Cell(1536.0),
            Cell(0.0123),
            Cell(25344),
        ),
        (Cell("[red]x"), Cell(None), Cell(None), Cell(12.0), Cell(12.34), Cell(1.5)),
    ),
    "8 questions.",
    ("A note.",),
)

MARKDOWN = """**Title [bold]**

| method | accuracy % | lift | memory | seconds | count |
| --- | ---: | ---: | ---: | ---: | ---: |
| a\\|b | 50.0 [25.0, 75.0] | -12.5 [-25.0, +0.0] | 1.5 KiB | 0.012 | 25,344 |
| [red]x | – | – | 12 B | 12.3 | 1.5 |

8 questions. A note.
"""


def test_markdown() -> None:
    assert to_markdown(TABLE) == MARKDOWN


def test_csv_holds_plain_numbers_and_a_blank_for_what_is_missing() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == {
        "method": "a|b",
        "accuracy": "0.5",
        "accuracy_low": "0.25",
        "accuracy_high": "0.75",
        "accuracy_n": "8",
        "lift": "-0.125",
        "lift_low": "-0.25",
        "lift_high": "0.0",
        "lift_n": "8",
        "bytes": "1536.0",
        "seconds": "0.0123",
        "count": "25344",
    }
    assert rows[1]["accuracy"] == rows[1]["accuracy_low"] == ""


def test_json_names_every_column_and_keeps_the_numbers() -> None:
    value = json.loads(to_json(TABLE))
    assert value["rows"][0]["accuracy"] == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    assert [column["key"] for column in value["columns"]] == [column.key for column in TABLE.columns]
    assert value["caption"] == "8 questions."
    assert value["footnotes"] == ["A note."]


def test_terminal_shows_texts_as_they_are() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(to_terminal(TABLE))
    text = console.export_text()
    for part in ("Title [bold]", "[red]x", "50.0 [25.0, 75.0]", "8 questions. A note."):
        assert part in text
