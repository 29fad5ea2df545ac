"""The page in a real browser, whatever it holds and wherever it is read: hostile and endless text, samples in
files of their own, a server, light and dark, a narrow screen, the keyboard alone, paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from deltamem_eval.reports.page import PageFigure, document, write_page
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.serving import HOST, serve

from browsed import SVG, Opened, expect, needs_chromium, write_browsed
from paged import episode, told, write_paged

pytestmark = needs_chromium
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


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_browsed(tmp_path_factory.mktemp("browser"))


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
    opened = open_page(hostile, at=f"#sample={sorted(HOSTILE).index(name)}")
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
    expect(opened.page.locator("#list td.answer").first).to_have_text(HOSTILE["end"])
    opened.page.locator("#list button.open").nth(1).click()
    opened.page.wait_for_selector(".card")
    assert SHOWN["separators"] in opened.card()
    assert "fact 7 of 0 is value7." in opened.card()
    assert any(trouble.startswith(side) for trouble in opened.troubles)
    first = parts[0].read_text()
    parts[0].write_text(first.replace('deltamemPart(0,"', 'deltamemPart(0,"x'))
    stale = open_page(tmp_path / "a page.html", side, at="#sample=0")
    expect(stale.page.get_by_role("alert")).to_contain_text("belongs to another page")
    parts[0].unlink()
    gone = open_page(tmp_path / "a page.html", (*side, "console: Failed to load"), at="#sample=0")
    expect(gone.page.get_by_role("alert")).to_contain_text("a page.samples/0000.js cannot be read")


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
