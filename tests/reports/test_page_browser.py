"""The page in a real browser: sort, filter, open a sample, follow a flip, compare two runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deltamem_eval.reports.page import write_page

from browsed import Opened, expect, needs_chromium, write_browsed
from paged import episode, told, write_paged

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_browsed(tmp_path_factory.mktemp("browser"))


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
    expect(opened.page.locator("#sample-title")).to_have_text("e0/q2")
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
    expect(others).to_have_count(4)
    opened.page.get_by_role("button", name="vanilla [closed-book] · window 0 beside").click()
    expect(opened.page.locator(".card").nth(1)).to_contain_text("no text of the context")
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
