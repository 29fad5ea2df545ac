"""A table in Markdown."""

from __future__ import annotations

from deltamem_eval.reports.table import Table, notes, show_noted, without_empty


def to_markdown(table: Table) -> str:
    """A Markdown table, its caption below."""

    def line(texts: list[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |\n"

    table = without_empty(table)
    head = line([column.heading for column in table.columns])
    rule = line(["---" if column.kind == "text" else "---:" for column in table.columns])
    body = "".join(
        line([show_noted(table, row, column) for column in range(len(table.columns))])
        for row in range(len(table.rows))
    )
    return f"**{table.title}**\n\n{head}{rule}{body}\n{notes(table)}\n"
