"""A report on disk: every table and every figure in every format that was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.reports.artefacts import Artefacts, Drawing, Inputs, gather
from deltamem_eval.reports.render import WRITERS
from deltamem_eval.reports.table import Table

if TYPE_CHECKING:
    from deltamem_eval.reports.figures.style import Style
    from matplotlib.figure import Figure

# Format as asked for: the writer's name and the files' ending.
TABLE_FORMATS = {
    "md": ("markdown", "md"),
    "csv": ("csv", "csv"),
    "json": ("json", "json"),
    "latex": ("latex", "tex"),
}
FIGURE_FORMATS = ("pdf", "png", "svg")
PAGE = "html"
FORMATS = (*TABLE_FORMATS, *FIGURE_FORMATS, PAGE)


@dataclass(frozen=True)
class Wanted:
    """What to write: formats, breakdowns of the long table, a style file over ours, and traces to draw."""

    formats: tuple[str, ...] = FORMATS
    by: tuple[str, ...] = ("category",)
    style: Path | None = None
    traces: tuple[Path, ...] = ()


def parse_formats(text: str) -> tuple[str, ...]:
    """'md, csv' as formats. Raises UserError for an unknown one."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    return names or FORMATS


def write_report(inputs: Inputs, wanted: Wanted, out: Path) -> list[Path]:
    """Write the report into `out`: `tables/`, `figures/` and `report.html`; the files written, sorted.

    All of it is made beside `out` first and then moved there file by file, so that a report that cannot be
    made changes nothing. Raises UserError for inputs that cannot be read and a place that cannot be written.
    """
    _check_place(out)
    made = gather(inputs, wanted.by)
    drawings = (*made.drawings, *trace_drawings(wanted.traces))

    def page(file: Path) -> None:
        write_whole_page(file, made.tables, drawings, inputs, wanted.style)

    return write_artefacts(Artefacts(made.tables, drawings), wanted, out, page)


def write_artefacts(
    made: Artefacts, wanted: Wanted, out: Path, page: Callable[[Path], object] | None = None
) -> list[Path]:
    """Write tables and figures into `out`, and the page where there is one and it is wanted; as
    `write_report`.
    """
    _check_place(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".report-") as scratch:
            place = Path(scratch)
            _write_tables(made.tables, wanted.formats, place / "tables")
            drawn = [form for form in wanted.formats if form in FIGURE_FORMATS]
            if drawn:
                _draw(made.drawings, drawn, wanted, place / "figures")
            if page is not None and PAGE in wanted.formats:
                page(place / "report.html")
            return _move(place, out)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from None


def _check_place(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder for --out")
    if (out / "run.json").exists() or (out / "profile.json").exists():
        raise UserError(f"{out} is the folder of a run or a profile: choose another for --out")


def _write_tables(tables: Sequence[Table], formats: Sequence[str], place: Path) -> None:
    place.mkdir()
    for form in formats:
        if form in TABLE_FORMATS:
            writer, ending = TABLE_FORMATS[form]
            for table in tables:
                (place / f"{table.name}.{ending}").write_text(WRITERS[writer](table), encoding="utf-8")


def _draw(drawings: Sequence[Drawing], forms: Sequence[str], wanted: Wanted, place: Path) -> None:
    from deltamem_eval.reports.figures.canvas import save
    from deltamem_eval.reports.figures.style import load_style

    style = load_style(wanted.style)
    place.mkdir()
    for drawing in drawings:
        figure = drawing.draw(style)
        for form in forms:
            save(figure, place / f"{drawing.name}.{form}", form)


def write_whole_page(
    file: Path, tables: Sequence[Table], drawings: Sequence[Drawing], inputs: Inputs, style_file: Path | None
) -> list[Path]:
    """The page of some runs with every table and figure; the files written."""
    from deltamem_eval.reports.figures.canvas import save
    from deltamem_eval.reports.figures.style import load_style
    from deltamem_eval.reports.page import PageFigure, write_page

    style = load_style(style_file)
    with tempfile.TemporaryDirectory() as scratch:
        figures = []
        for drawing in drawings:
            place = Path(scratch) / "figure.svg"
            save(drawing.draw(style), place, "svg")
            svg = place.read_text(encoding="utf-8")
            figures.append(PageFigure(drawing.name, drawing.title, svg, drawing.alt))
        return write_page(file, tables, figures, inputs.runs)


def trace_drawings(files: Sequence[Path]) -> tuple[Drawing, ...]:
    """One drawing for each recorded trace."""
    from deltamem_eval.reports.figures.trace import trace_figure

    def drawer(file: Path) -> Callable[[Style], Figure]:
        return lambda style: trace_figure(file, style)

    alt = "Heat maps over tokens, a row a layer: the write gate, and the norm of the state after the token."
    return tuple(
        Drawing(f"trace-{file.stem}", f"Inside δ-mem: {file.stem}", alt, drawer(file)) for file in files
    )


def _move(place: Path, out: Path) -> list[Path]:
    written = []
    for file in sorted(path for path in place.rglob("*") if path.is_file()):
        target = out / file.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        written.append(target)
    return written
