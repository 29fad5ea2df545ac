"""The page as one document, and the side files of runs that are too large for one."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.files import write_atomic
from deltamem_eval.hashing import hash_text
from deltamem_eval.reports.page.collect import Collected, Run, as_text, collect
from deltamem_eval.reports.page.encode import Layout, index_of, parts
from deltamem_eval.reports.page.text import island
from deltamem_eval.reports.render.html import to_html
from deltamem_eval.reports.table import Table
from deltamem_eval.reports.visible import visible

PAGE_BYTES = 4_800_000  # a document that would be larger keeps its samples in side files
SIDE_CHARACTERS = 1_000_000  # about as many to a side file
_FOLDER = Path(__file__).parent
_SCRIPTS = ("data", "text", "tables", "list", "sample", "links", "start")


@dataclass(frozen=True)
class PageFigure:
    """A figure: SVG text, shown as a picture so that nothing in it can run; alt says what it shows."""

    name: str
    title: str
    svg: str
    alt: str


def write_page(
    file: Path, tables: Sequence[Table], figures: Sequence[PageFigure], runs: Sequence[Path]
) -> list[Path]:
    """Write the page of some runs: tables, figures and the sample browser; the files written, the page first.

    Without runs there is no browser. Where the page would be larger than PAGE_BYTES, samples go to the folder
    `<stem>.samples` beside it.
    Raises UserError, writing nothing, where jinja2 is missing or the runs cannot be read or hold no finished
    cell, and where the place cannot be written.
    """
    template = _template()
    found = collect(runs)
    shown = {
        "title": f"Report of {', '.join(run.name for run in found.runs) or 'profiles'}",
        "tables": [_table(table) for table in tables],
        "figures": [_figure(figure) for figure in figures],
        "runs": [_run(run, found) for run in found.runs],
    }
    try:
        text = _whole(template, shown, found)
        if text is not None:
            write_atomic(file, text)
            _remove_side_files(file, 0)
            return [file]
        return _with_side_files(file, template, shown, found)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}") from None


def _template() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise UserError("the page needs jinja2: pip install 'deltamem-eval[reports]'") from None

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=finalize)
    return environment.from_string((_FOLDER / "page.html.jinja").read_text(encoding="utf-8"))


def _table(table: Table) -> dict[str, Any]:
    from markupsafe import Markup

    return {"title": table.title, "html": Markup(visible(to_html(table)))}


def _figure(figure: PageFigure) -> dict[str, str]:
    data = base64.b64encode(figure.svg.encode("utf-8")).decode("ascii")
    return {"title": figure.title, "alt": figure.alt, "data": data}


def _run(run: Run, found: Collected) -> dict[str, Any]:
    """A run's name, and where its numbers come from."""
    return {"name": run.name, "facts": list(_facts(run, found))}


def _facts(run: Run, found: Collected) -> Iterator[tuple[str, str]]:
    record = run.record
    yield "command", shlex.join(record.command) or "not recorded"
    yield "made", record.created
    commit = "not known" if record.commit is None else record.commit
    yield "commit", commit + (", with changes that were not committed" if record.dirty else "")
    yield "code", record.code or "not recorded"
    yield "device", record.device
    for name, value in record.request.items():
        if value not in (None, [], {}):
            yield name.replace("_", " "), as_text(value)
    yield "versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    number = found.runs.index(run)
    own = [block for block in found.blocks if found.settings[block.setting].run == number]
    yield "samples", f"{sum(len(block.samples) for block in own):,} in {len(own)} cells"


def _whole(template: Any, shown: dict[str, Any], found: Collected) -> str | None:
    """The document with all samples in it; None where it would be too large."""
    layout = Layout(found)
    made = parts(found, PAGE_BYTES, layout)
    only = next(made)
    if next(made, None) is not None:
        return None
    text = _document(template, shown, index_of(found, layout), [only])
    return text if len(text.encode("utf-8")) <= PAGE_BYTES else None


def _with_side_files(file: Path, template: Any, shown: dict[str, Any], found: Collected) -> list[Path]:
    """Write the side files, each named in the index by its hash, then the page."""
    folder = _side_folder(file)
    folder.mkdir(exist_ok=True)
    layout, hashes, written = Layout(found), [], [file]
    for number, part in enumerate(parts(found, SIDE_CHARACTERS, layout)):
        hashes.append(hash_text(part))
        written.append(folder / f"{number:04d}.js")
        write_atomic(written[-1], f'deltamemPart({number},"{hashes[-1]}",{part});\n')
    index = {**index_of(found, layout), "folder": folder.name, "files": hashes}
    write_atomic(file, _document(template, shown, index, []))
    _remove_side_files(file, len(hashes))
    return written


def _side_folder(file: Path) -> Path:
    return file.with_name(f"{file.stem}.samples")


def _remove_side_files(file: Path, first: int) -> None:
    """Remove what an earlier, larger page left: numbered files from `first` on, and a folder left empty."""
    folder = _side_folder(file)
    for old in folder.glob("[0-9][0-9][0-9][0-9]*.js"):
        if old.stem.isdecimal() and int(old.stem) >= first:
            old.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _document(template: Any, shown: dict[str, Any], index: dict[str, Any], inside: Sequence[str]) -> str:
    from markupsafe import Markup

    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = "".join((_FOLDER / "js" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    # Side files are allowed through the page's own script, which alone may add script elements: a page opened
    # from disk has no origin that could be named, and its scripts no integrity that a browser would check.
    trusted = "" if inside else " 'strict-dynamic'"
    policy = (
        f"default-src 'none'; script-src '{_source_hash(script)}'{trusted}; "
        f"style-src '{_source_hash(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    text: str = template.render(
        **shown,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        index=island(index),
        parts=[Markup(part) for part in inside],
    )
    return text


def _source_hash(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
