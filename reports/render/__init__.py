"""One table, every format: each writer takes a `Table` and gives text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deltamem_eval.reports.render.html import to_html
from deltamem_eval.reports.render.latex import to_latex
from deltamem_eval.reports.render.markdown import to_markdown
from deltamem_eval.reports.render.plain import to_csv, to_json
from deltamem_eval.reports.table import Table

__all__ = ["WRITERS", "to_csv", "to_html", "to_json", "to_latex", "to_markdown"]
WRITERS: Mapping[str, Callable[[Table], str]] = {
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "html": to_html,
}
