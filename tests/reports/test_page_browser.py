"""The page in a real browser, opened from disk: sort, filter, open, follow a flip, and hostile text."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from deltamem_eval.reports.page import PageFigure, document, write_page
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.serving import HOST, serve

from paged import episode, told, write_paged

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on this machine")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='10'><rect width='9' height='9'/></svg>"
HOSTILE = {
    "script": "<script>window.hacked = 1</script>",
    "end": "</script><script>window.hacked = 1</script><!--",
    "image": '"><img src=x onerror="window.hacked = 1"><svg onload="window.hacked = 1">',
    "nul": "a\x00b\x1b[31mred\r",
    "bidi": "user\u202egnp.exe\u2066 \u200f",
    "separators": "one\u2028two\u2029three\ufeff",
    "spelled": '[["accuracy", 0], ["f1", 0]]',
    "proto": "__proto__",
    "template": "{{ 7 * 7 }} ${alert(1)} %s &lt;i&gt; &#60;",
    "empty": "",
    "rtl": "שלום עולם",
}


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
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
        assert [trouble for trouble in made.troubles if not trouble.startswith(allowed)] == []
        context.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of one run of 40 contexts: vanilla right about 30 of 120 questions, token-write about others."""
    root = tmp_path_factory.mktemp("browser")
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


def test_headers_sort_a_table_with_mouse_and_keyboard(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    table = "#accuracy-and-cost"
    before = opened.rows(table, 4)
    head = opened.page.locator(f"{table} th").nth(3)
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(text.split()[0]) for text in opened.rows(table, 4)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 3
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(text.split()[0]) for text in opened.rows(table, 4)] == sorted(values)
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "none"
    assert opened.rows(table, 4) == before
    name = opened.page.locator(f"{table} th").nth(0)
    name.get_by_role("button").click()
    assert name.get_attribute("aria-sort") == "ascending"
    assert opened.rows(table, 1) == sorted(opened.rows(table, 1))
    vanilla = opened.page.locator(f"{table} th", has_text="over vanilla").get_by_role("button")
    for _ in range(2):
        vanilla.click()
        assert opened.rows(table, 6)[-1] == "–"  # rows without a value stay last


def test_tables_are_filtered_by_words_and_by_column(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    tools = opened.page.locator(".table-section").first.locator(".tools")
    assert "8 rows" in tools.inner_text()
    tools.get_by_role("searchbox").fill("forgetting TOKEN")
    assert opened.rows("#accuracy-and-cost", 1) == ["token-write"]
    assert "1 of 8 rows" in tools.inner_text()
    tools.get_by_role("searchbox").fill("")
    tools.get_by_label("window").select_option(label="64")
    assert set(opened.rows("#accuracy-and-cost", 2)) == {"64"}
    assert "4 of 8 rows" in tools.inner_text()


def test_samples_are_filtered_and_paged(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    assert opened.told == "480 of 480 samples"
    assert len(opened.rows("#list", 1)) == 50
    opened.choose("method", "token-write")
    assert opened.told == "120 of 480 samples"
    opened.page.get_by_role("button", name="Last").click()
    assert opened.page.locator("#page").inner_text() == "101–120 of 120"
    assert opened.page.get_by_role("button", name="Next").nth(0).is_disabled()
    opened.choose("category", "selective-forgetting")
    assert opened.told == "60 of 480 samples"
    opened.choose("outcome", "right")
    assert set(opened.rows("#list", 5)) == {"right"}
    opened.page.locator("#filters [name=words]").fill("e3/q1")
    assert opened.told == "1 of 480 samples"
    assert opened.rows("#list", 6) == ["value1"]
    opened.page.locator("#filters [name=words]").fill("no such words")
    assert opened.page.locator("#page").inner_text() == "nothing matches"


def test_a_sample_is_opened_and_left_by_keyboard(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    opened.choose("method", "token-write")
    keys = opened.page.keyboard
    opened.page.locator("#list button.open").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        keys.press(key)
    opened.page.wait_for_selector(".card")
    assert opened.page.locator("#sample-title").inner_text() == "e0/q1"
    assert opened.page.evaluate("document.activeElement.id") == "sample-title"
    asked = opened.page.locator(".asked").inner_text()
    assert "what is fact 1?" in asked
    assert "value1" in asked
    assert opened.page.locator(".asked mark.evidence").all_inner_texts() == ["fact 1 of 0 is value1."]
    card = opened.card()
    assert "token-write · window 64" in card
    assert "wrong" in card
    assert "fact 7 of 0 is value7." in card
    assert "20 tokens, 12 of context" in card
    assert "3 tokens, 12.5 ms" in card
    assert "2.1 KiB (text 100 B, state 2.0 KiB)" in card
    keys.press("ArrowRight")
    playwright.expect(opened.page.locator("#sample-title")).to_have_text("e0/q2")
    keys.press("Escape")
    assert not opened.page.locator("#sample").is_visible()
    assert opened.page.evaluate("document.activeElement.textContent") == "what is fact 2?"
    assert "#" not in opened.page.url


def test_a_flipped_question_is_followed_to_both_answers(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    opened.page.get_by_label("two settings compared").check()
    assert opened.page.locator("[name=a] option:checked").inner_text() == "token-write · window 64"
    assert opened.page.locator("[name=b] option:checked").inner_text() == "vanilla · window 64"
    opened.choose("b", "vanilla · window 8")
    counts = "120 questions in common: A is better on 20, B on 10, equal on 90"
    assert opened.told == f"{counts}; 30 listed"
    opened.choose("flip", "B better than A")
    assert opened.told == f"{counts}; 10 listed"
    assert set(opened.rows("#list", 4)) == {"wrong"}
    assert set(opened.rows("#list", 6)) == {"right"}
    opened.page.locator("#list tbody tr").nth(3).click()
    opened.page.wait_for_selector(".card")
    assert opened.page.locator("#sample-title").inner_text() == "e1/q0"
    left, right = opened.card(0), opened.card(1)
    assert "token-write · window 64 wrong" in left
    assert "vanilla · window 8 right" in right
    boxes = [opened.page.locator(".card").nth(number).bounding_box() for number in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    opened.page.get_by_text("every setting's answer").click()
    others = opened.page.locator(".others tbody tr")
    playwright.expect(others).to_have_count(4)
    opened.page.get_by_role("button", name="vanilla [closed-book] · window 0 beside").click()
    playwright.expect(opened.page.locator(".card").nth(1)).to_contain_text("no text of the context")
    address = opened.page.url
    again = open_page(file, at="#" + address.split("#")[1])
    again.page.wait_for_selector(".card")
    assert again.card(1) == opened.card(1)


def test_two_runs_of_one_setting_are_compared_on_what_both_were_asked(
    tmp_path: Path, open_page: Callable[..., Opened]
) -> None:
    episodes = [episode(number) for number in range(3)]
    fewer = episodes[:2]
    before = told(episodes, "token-write", right=[0, 1, 2])
    after = told(fewer, "token-write", right=[1, 2, 3])
    runs = [
        write_paged(tmp_path / "before", episodes, [before]),
        write_paged(tmp_path / "after", fewer, [after], stored=False),
    ]
    write_page(tmp_path / "page.html", [], [], runs)
    opened = open_page(tmp_path / "page.html")
    opened.choose("run", "after")
    assert opened.told == "6 of 15 samples"
    opened.page.get_by_label("two settings compared").check()
    opened.choose("a", "token-write · window 8 · before")
    opened.choose("b", "token-write · window 8 · after")
    assert opened.told == "6 questions in common: A is better on 1, B on 1, equal on 4; 2 listed"
    opened.choose("category", "selective-forgetting")
    assert opened.told == "3 questions in common: A is better on 0, B on 1, equal on 2; 1 listed"
    opened.page.locator("#list button.open").first.click()
    opened.page.wait_for_selector(".card")
    assert "not stored by this run" not in opened.card(0)
    assert "not stored by this run" in opened.card(1)


def test_a_run_that_stored_no_texts_says_so(tmp_path: Path, open_page: Callable[..., Opened]) -> None:
    episodes = [episode(0)]
    run = write_paged(tmp_path / "run", episodes, [told(episodes, "vanilla", right=[0])], stored=False)
    write_page(tmp_path / "page.html", [], [], [run])
    opened = open_page(tmp_path / "page.html")
    opened.page.locator("#list button.open").first.click()
    opened.page.wait_for_selector(".card")
    assert opened.page.get_by_text("not stored by this run").count() == 3  # question, context, prompt
    assert "value0" in opened.card()


def test_a_table_s_row_leads_to_its_samples(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    opened.page.get_by_role("button", name="list samples: token-write, 64, selective-forgetting").click()
    assert opened.told == "60 of 480 samples"
    assert set(opened.rows("#list", 2)) == {"token-write"}
    assert opened.page.evaluate("document.activeElement.className") == "open"


def write_hostile(root: Path, texts: dict[str, str]) -> Path:
    """A page in which questions, contexts, prompts and answers are these texts, one a question by name."""
    plain = episode(0, questions=1)
    query, chunk = plain.queries[0], plain.chunks[0]
    queries = tuple(
        replace(query, id=name, prompt=text, targets=(text, "other"), metadata={"evidence": [text]})
        for name, text in texts.items()
    )
    chunks = tuple(replace(chunk, text=text + "\n", index=at) for at, text in enumerate(texts.values()))
    item = replace(
        plain,
        id=HOSTILE["image"],
        source=HOSTILE["script"],
        category=HOSTILE["bidi"],
        chunks=chunks,
        queries=queries,
    )
    method = told(
        [item],
        "toy",
        answers=texts,
        shown=texts,
        effective={"label": HOSTILE["end"], "notices": list(HOSTILE.values())},
        options={HOSTILE["image"]: HOSTILE["nul"]},
    )
    run = write_paged(root / "<img src=x onerror=hacked=1>", [item], [method])
    figure = PageFigure("f", HOSTILE["script"], SVG, HOSTILE["image"])
    write_page(root / "page.html", [summary_table([run])], [figure], [run])
    return root / "page.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hostile(tmp_path_factory.mktemp("hostile"), HOSTILE)


SHOWN = {
    "nul": "a␀b␛[31mred␍",
    "bidi": "user[U+202E]gnp.exe[U+2066] [U+200F]",
    "separators": "one[U+2028]two[U+2029]three[U+FEFF]",
    "empty": "empty",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_shown_as_it_is_and_does_nothing(
    name: str, hostile: Path, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(hostile, at=f"#sample={list(HOSTILE).index(name)}")
    opened.page.wait_for_selector(".card")
    wanted = SHOWN.get(name, HOSTILE[name])
    for label in ("question", "answer", "context in the prompt"):
        box = opened.page.get_by_label(label, exact=True)
        assert box.text_content() == wanted
        assert box.locator("*:not(mark):not(.code):not(.quiet)").count() == 0
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("#sample :is(script, img, svg, b, i)").count() == 0
    assert opened.page.locator("main img").count() == 1  # the figure
    body = opened.page.locator("body").text_content().split('{"hidden"')[0]
    assert not {"\x00", "\u202e", "\u2066", "\u200f", "\u2028"} & set(body)


def test_a_line_of_a_million_characters_is_clipped_until_asked_for(
    tmp_path: Path, open_page: Callable[..., Opened]
) -> None:
    line = "<b>" + "x" * 1_000_000
    opened = open_page(write_hostile(tmp_path, {"line": line}))
    row = opened.page.locator("#list tbody tr").first
    assert len(row.inner_text()) < 500
    row.get_by_role("button").click()
    opened.page.wait_for_selector(".card")
    box = opened.page.get_by_label("answer", exact=True)
    assert len(box.text_content()) < 3_000
    assert "998,003 more characters" in box.text_content()
    box.get_by_role("button", name="show all 1,000,003 characters").click()
    assert box.text_content() == line
    assert opened.page.evaluate("document.activeElement.getAttribute('aria-label')") == "answer"
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_samples_in_side_files_are_read_from_disk_and_never_those_of_another_page(
    tmp_path: Path, open_page: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "PAGE_BYTES", 10_000)
    monkeypatch.setattr(document, "SIDE_CHARACTERS", 1_500)
    episodes = [episode(number) for number in range(8)]
    answers = {"e0/q0": HOSTILE["end"], "e0/q1": HOSTILE["separators"]}
    run = write_paged(tmp_path / "run", episodes, [told(episodes, "vanilla", range(9, 12), answers=answers)])
    _, *parts = write_page(tmp_path / "a page.html", [], [], [run])
    assert len(parts) > 3
    side = tuple(f"request: {part.as_uri()}" for part in parts)
    opened = open_page(tmp_path / "a page.html", side)
    playwright.expect(opened.page.locator("#list td.answer").first).to_have_text(HOSTILE["end"])
    opened.page.locator("#list button.open").nth(1).click()
    opened.page.wait_for_selector(".card")
    assert SHOWN["separators"] in opened.card()
    assert "fact 7 of 0 is value7." in opened.card()
    assert any(trouble.startswith(side) for trouble in opened.troubles)
    first = parts[0].read_text()
    parts[0].write_text(first.replace('deltamemPart(0,"', 'deltamemPart(0,"x'))
    stale = open_page(tmp_path / "a page.html", side, at="#sample=0")
    playwright.expect(stale.page.get_by_role("alert")).to_contain_text("belongs to another page")
    parts[0].unlink()
    gone = open_page(tmp_path / "a page.html", (*side, "console: Failed to load"), at="#sample=0")
    playwright.expect(gone.page.get_by_role("alert")).to_contain_text("a page.samples/0000.js cannot be read")


def test_a_served_page_reads_its_side_files(
    tmp_path: Path, open_page: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "PAGE_BYTES", 10_000)
    episodes = [episode(number) for number in range(3)]
    run = write_paged(tmp_path / "run", episodes, [told(episodes, "vanilla", right=[0])])
    (tmp_path / "served").mkdir()
    assert len(write_page(tmp_path / "served" / "index.html", [], [], [run])) > 1
    with serve(tmp_path / "served", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            opened = open_page(f"http://{HOST}:{server.server_port}/", at="#sample=0")
            opened.page.wait_for_selector(".card")
            assert "value0" in opened.card()
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_contrast_in_light_and_dark(
    scheme: str, file: Path, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(file, at="#sample=0", color_scheme=scheme)
    opened.page.wait_for_selector(".card")
    seen = opened.page.evaluate(COLOURS)
    assert len(seen) > 10
    assert {name: ratio for name, ratio in seen.items() if ratio < 4.5} == {}
    back = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


# Contrast of text and what lies behind it, by WCAG 2.1's formula, for each kind of element.
COLOURS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const kinds = ["h1", "nav a", "figcaption", "td", "th", "th button", "select", "label", ".badge.bad",
    ".quiet", ".badge.good", "mark", ".text", "dt", "dd", "h4", "summary", "button.open", "#count"];
  const found = {};
  for (const kind of kinds) {
    const node = document.querySelector(kind);
    if (!node) continue;
    const pair = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
    found[kind] = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }
  return found;
}"""


def test_a_narrow_screen_scrolls_tables_inside_their_boxes(
    file: Path, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(file, viewport={"width": 390, "height": 844})
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert opened.page.evaluate(fits)
    assert opened.page.evaluate(
        "(box => box.scrollWidth > box.clientWidth)(document.querySelector('.scroll'))"
    )
    head = opened.page.locator("#accuracy-and-cost th").first
    box = opened.page.locator("#accuracy-and-cost .scroll")
    box.evaluate("box => box.scrollTop = 1000")
    assert abs(head.bounding_box()["y"] - box.bounding_box()["y"]) < 2  # headers stay in sight
    opened.page.locator("#list button.open").first.click()
    opened.page.wait_for_selector(".card")
    assert opened.page.evaluate(fits)


def test_every_control_has_a_name_and_can_be_reached(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    nameless = """[...document.querySelectorAll('input, select, button, [role=region], img')].filter((node) =>
      !(node.labels?.length || node.textContent.trim() || node.ariaLabel || node.alt)).length"""
    assert opened.page.evaluate(nameless) == 0
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert opened.page.evaluate(outline) == "solid"
    for node in opened.page.locator(".scroll").all():
        assert node.get_attribute("tabindex") == "0"


def test_printing_shows_whole_tables_or_the_open_sample(file: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(file)
    opened.page.emulate_media(media="print")
    assert not opened.page.locator(".tools").first.is_visible()
    assert not opened.page.locator("#browser").is_visible()
    assert opened.page.evaluate("getComputedStyle(document.querySelector('.scroll')).maxHeight") == "none"
    opened.page.emulate_media(media="screen")
    opened.page.locator("#list button.open").first.click()
    opened.page.wait_for_selector(".card")
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    printed = opened.page.locator("#printed")
    assert "what is fact 0?" in printed.inner_text()
    assert not opened.page.locator("#accuracy-and-cost").is_visible()
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert printed.count() == 0
