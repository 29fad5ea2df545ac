"""Pages in a real browser, opened as from disk; importing this skips a test's module where there is no
playwright.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.reports.page import PageFigure, write_page
from deltamem_eval.reports.summary import summary_table

from paged import episode, told, write_paged

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on this machine")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='10'><rect width='9' height='9'/></svg>"


@dataclass
class Opened:
    """A page in the browser, and what went wrong in it or left the machine."""

    page: Any
    troubles: list[str]

    def rows(self, selector: str, column: int) -> list[str]:
        """Texts of a column of the rows shown."""
        cells = f"{selector} tbody tr:not([hidden]) td:nth-child({column})"
        texts: list[str] = self.page.locator(cells).all_inner_texts()
        return texts

    def choose(self, name: str, label: str) -> None:
        """Pick an option of the sample browser's filters."""
        self.page.locator(f"#filters [name={name}]").select_option(label=label)

    @property
    def told(self) -> str:
        """What the browser says it lists."""
        return str(self.page.locator("#count").inner_text())

    def card(self, number: int = 0) -> str:
        """A method's part of the open sample."""
        return str(self.page.locator(".card").nth(number).inner_text())


@contextmanager
def launched() -> Iterator[Any]:
    """A browser, for as long as the block lasts."""
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@contextmanager
def opening(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a file as a browser does from disk; nothing may fail in it, nor ask for anything else."""
    opened: list[tuple[Any, Opened, tuple[str, ...]]] = []

    def open_file(file: Path | str, allowed: tuple[str, ...] = (), at: str = "", **options: Any) -> Opened:
        address = file if isinstance(file, str) else file.as_uri()
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        page = context.new_page()
        troubles: list[str] = []
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: troubles.append(f"request: {request.url}"))
        page.goto(address + at)
        made = Opened(page, troubles)
        opened.append((context, made, (f"request: {address}", "request: data:", *allowed)))
        return made

    yield open_file
    for context, made, allowed in opened:
        wrong = [trouble for trouble in made.troubles if not trouble.startswith(allowed)]
        assert wrong == [], wrong
        context.close()


def write_browsed(root: Path) -> Path:
    """A page of one run of 40 contexts: vanilla right about 30 of 120 questions, token-write about others."""
    episodes = [episode(number) for number in range(40)]
    methods = [
        told(episodes, "vanilla", right=range(30)),
        told(episodes, "token-write", right=range(10, 50), window=64),
        told(episodes, "vanilla", right=range(5), shown=False, control="closed-book", window=0),
        told(episodes, "vanilla", right=range(20), window=64),
    ]
    run = write_paged(root / "run", episodes, methods)
    write_page(root / "page.html", [summary_table([run])], [PageFigure("f", "Bars", SVG, "two bars")], [run])
    return root / "page.html"
