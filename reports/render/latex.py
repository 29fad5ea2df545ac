r"""A table in LaTeX with booktabs, to be read by any engine.

Needs `\usepackage{booktabs}`; wide tables also `\usepackage{graphicx}`. Text outside Latin script is left as
it is and needs XeLaTeX or LuaLaTeX with a font that has it: a comment then says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from math import floor, isfinite, log10

from deltamem_eval.reports.rank import ranks
from deltamem_eval.reports.table import Cell, Column, Kind, Table, marks, show, without_empty

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}",
    "–": r"\textendash{}", "—": r"\textemdash{}", "−": r"\ensuremath{-}",
    "×": r"\ensuremath{\times}", "±": r"\ensuremath{\pm}",
    "≤": r"\ensuremath{\leq}", "≥": r"\ensuremath{\geq}", "→": r"\ensuremath{\to}",
    "▲": r"\ensuremath{\uparrow}", "▼": r"\ensuremath{\downarrow}", "∞": r"\ensuremath{\infty}",
    "…": r"\dots{}", "[": "{[}", "]": "{]}",
    "α": r"\ensuremath{\alpha}", "β": r"\ensuremath{\beta}", "δ": r"\ensuremath{\delta}",
    "λ": r"\ensuremath{\lambda}", "\u00a0": "~", "“": "``", "”": "''", "‘": "`", "’": "'",
}  # fmt: skip
_SCALES: dict[Kind, tuple[float, int]] = {
    "percent": (100.0, 1),
    "points": (100.0, 1),
    "share": (100.0, 2),
    "millions": (1e-6, 2),
    "seconds": (1.0, 3),
}
_PAGE = 45  # rows beyond which a table is broken over pages
_WIDE = 6  # columns beyond which a table is shrunk to the text's width
_LOPSIDED = 1.25  # one side of an interval so many times the other is printed apart


def to_latex(table: Table) -> str:
    """A `table` environment: best in bold, second underlined, ± half the interval, missing as a dash.

    An interval much longer on one side prints both sides. Caption: title, n and settings, what ± is, notes.
    Wide tables are shrunk to the text's width; those longer than a page are `longtable`s, in small print.
    """
    table = without_empty(table)
    places, numbers = ranks(table), marks(table)
    lines = [
        _line(
            _cell(cell, column, places.get((row, index)), numbers)
            for index, (cell, column) in enumerate(zip(cells, table.columns, strict=True))
        )
        for row, cells in enumerate(table.rows)
    ]
    shape = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    head = _line(escape(_heading(column)) for column in table.columns)
    caption = f"\\caption{{{_caption(table)}}}\n\\label{{tab:{_label(table.name)}}}"
    make = _long if len(lines) > _PAGE else _float
    text = make(caption, shape, head, "".join(lines))
    return _warning(text) + text


def _float(caption: str, shape: str, head: str, body: str) -> str:
    tabular = (
        f"\\begin{{tabular}}{{{shape}}}\n\\toprule\n{head}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}"
    )
    wide = len(shape) > _WIDE
    if wide:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}"
    name = "table*" if wide else "table"
    return f"\\begin{{{name}}}\n\\centering\n{caption}\n\\small\n{tabular}\n\\end{{{name}}}\n"


def _long(caption: str, shape: str, head: str, body: str) -> str:
    return (
        "% needs \\usepackage{longtable}\n"
        f"\\begingroup\\scriptsize\\setlength{{\\tabcolsep}}{{2pt}}\n\\begin{{longtable}}{{{shape}}}\n"
        f"{caption}\\\\\n\\toprule\n{head}\\midrule\n\\endfirsthead\n\\toprule\n{head}\\midrule\n\\endhead\n"
        f"\\bottomrule\n\\endfoot\n{body}\\end{{longtable}}\n\\endgroup\n"
    )


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands, hyphens in a row too; control characters become spaces.

    Brackets are put in braces: a line that begins with one would be read as an option of the line before.
    """
    cleaned = (" " if unicodedata.category(char) == "Cc" else char for char in text)
    return "".join(_ESCAPES.get(char, char) for char in cleaned).replace("--", "-{}-")


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\" + "\n"


def _heading(column: Column) -> str:
    return column.heading.replace(" [95 %]", "")


def _cell(cell: Cell, column: Column, place: int | None, numbers: dict[str, int]) -> str:
    if cell.value is None:
        text = "--"
    elif isinstance(cell.value, str):
        text = escape(cell.value)
    else:
        text = with_interval(cell, column.kind) + (f" {escape(cell.mark)}" if cell.mark else "")
    if place is not None:
        text = f"\\textbf{{\\boldmath {text}}}" if place == 1 else f"\\underline{{{text}}}"
    return text if cell.note is None else f"{text}\\textsuperscript{{{numbers[cell.note]}}}"


def with_interval(cell: Cell, kind: Kind) -> str:
    """A number and its interval, rounded to two significant digits of the interval's half width.

    Numbers whose unit changes with their size (bytes) or that have no interval are printed as everywhere.
    """
    value, low, high = cell.value, cell.low, cell.high
    if isinstance(value, str) or value is None or low is None or high is None or kind == "bytes":
        return escape(show(Cell(value), kind)) + (_range(cell, kind) if kind == "bytes" else "")
    if not all(isfinite(number) for number in (value, low, high)):
        return escape(show(Cell(value), kind))
    scale, default = _SCALES.get(kind, (1.0, 1))
    below, above = scale * (value - low), scale * (high - value)
    half = (below + above) / 2
    digits = default if half <= 0 else max(0, min(6, 1 - floor(log10(half))))
    sign = "+" if kind == "points" else "-"
    number = f"{scale * value:{sign},.{digits}f}".replace(",", "{,}")
    if max(below, above) > _LOPSIDED * max(min(below, above), 0.5 * 10**-digits):
        return f"${number}^{{+{above:.{digits}f}}}_{{-{below:.{digits}f}}}$"
    return f"${number} \\pm {half:.{digits}f}$"


def _range(cell: Cell, kind: Kind) -> str:
    if cell.low is None or cell.high is None or cell.low == cell.high:
        return ""
    return escape(f" [{show(Cell(cell.low), kind)}, {show(Cell(cell.high), kind)}]")


def _caption(table: Table) -> str:
    parts = [f"{table.title}.", table.caption]
    if any(cell.low is not None for row in table.rows for cell in row):
        parts.append("± is half the 95 % interval; both sides stand where they differ.")
    if any(column.higher_is_better is not None for column in table.columns):
        alike = f" with the same {' and '.join(table.within)}" if table.within else ""
        parts.append(f"Bold: best, underlined: second best among rows{alike}; controls do not compete.")
    parts += table.footnotes
    noted = [f"\\textsuperscript{{{number}}} {escape(note)}" for note, number in marks(table).items()]
    return " ".join([escape(" ".join(parts)), *noted])


def _label(name: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "-:") else "-" for char in name)


def _warning(text: str) -> str:
    foreign = any(ord(char) > 0x24F for char in text)
    return "% This table holds text that needs XeLaTeX or LuaLaTeX.\n" if foreign else ""
