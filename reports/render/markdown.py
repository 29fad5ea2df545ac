"""A table in Markdown."""

from __future__ import annotations

import re

from deltamem_eval.reports.table import Table, notes, show_noted, without_empty
from deltamem_eval.reports.visible import visible


def to_markdown(table: Table) -> str:
    """A Markdown table, its caption below. Texts that models or data wrote stand in it as code."""

    def line(texts: list[str]) -> str:
        return "| " + " | ".join(" ".join(text.split("\n")).replace("|", "\\|") for text in texts) + " |\n"

    table = without_empty(table)
    head = line([column.heading for column in table.columns])
    rule = line(["---" if column.kind == "text" else "---:" for column in table.columns])
    body = "".join(
        line([_shown(table, row, column) for column in range(len(table.columns))])
        for row in range(len(table.rows))
    )
    return f"**{table.title}**\n\n{head}{rule}{body}\n{notes(table)}\n"


def _shown(table: Table, row: int, column: int) -> str:
    value, text = table.rows[row][column].value, show_noted(table, row, column)
    if table.columns[column].key not in table.foreign or not isinstance(value, str):
        return text
    return _code(value) + text.removeprefix(value)


def _code(text: str) -> str:
    """A text in a code span on one line: neither markup, HTML, a link, nor a name that a code host would call
    (it looks for names where backslashes are gone already).
    """
    line = visible(" ".join(text.split()))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""
