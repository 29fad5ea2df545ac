"""The page as a file: what it holds, what it lets run, and where the samples of large runs go."""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.averages import averages_table
from deltamem_eval.reports.page import PageFigure, collect, document, encode, write_page
from deltamem_eval.reports.page.text import script_json
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.visible import visible
from deltamem_eval.store import RunStore

from paged import episode, told, write_paged
from stored import sample, write_run

FIGURE = PageFigure(
    "f", "Bars", "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "two bars"
)


def island(text: str, name: str) -> Any:
    """A data block of a page."""
    found = re.search(
        rf'<script type="application/json" id="deltamem-{name}">(.*?)</script>', text, re.DOTALL
    )
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    episodes = [episode(number) for number in range(4)]
    methods = [told(episodes, "vanilla", right=range(3)), told(episodes, "token-write", right=range(6))]
    return write_paged(tmp_path_factory.mktemp("page") / "run", episodes, methods)


def test_one_file_with_everything_and_the_same_bytes_each_time(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert write_page(file, [averages_table([run])], [FIGURE], [run]) == [file]
    text = file.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "macro average % [95 %]" in text
    assert 'alt="two bars"' in text
    assert base64.b64encode(FIGURE.svg.encode()).decode() in text
    assert "fact 7 of 3 is value7." in text
    write_page(file, [averages_table([run])], [FIGURE], [run])
    assert file.read_text(encoding="utf-8") == text


def test_the_policy_allows_the_page_s_own_script_and_style_and_no_address(run: Path, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", [summary_table([run])], [FIGURE], [run])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for rule, tag in (("script-src", '<script type="module">'), ("style-src", "<style>")):
        inner = text.split(tag)[1].split("</")[0]
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"https?://", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert not re.search(r"<[^>]+ (on\w+|style)=", text)


def test_what_strangers_wrote_is_escaped_wherever_it_stands(tmp_path: Path) -> None:
    bad = "</script><img src=x onerror=alert(1)>\u202e\x00"
    episodes = [episode(0, source=bad, category=bad)]
    run = write_paged(
        tmp_path / "<b>run", episodes, [told(episodes, bad, answers={"e0/q0": bad}, effective={"label": bad})]
    )
    table = Table(bad, (Column("a", bad),), ((Cell(bad, note=bad, runs=(bad,)),),), bad, (bad,))
    write_page(tmp_path / "page.html", [table], [PageFigure("f", bad, "<svg/>", bad)], [run])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "<b>run" not in text
    assert text.count("</script>") == 3  # index, part, program
    assert "\x00" not in text
    assert "\u202e" not in text.split("<script")[0]
    assert "[U+202E]␀" in text
    index = island(text, "index")
    assert index["settings"][0][1] == bad
    assert bad in island(text, "part-0")["values"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x00\x1f\r\x7f\x85", "␀␟␍[U+007F][U+0085]"),
        ("\u202e\u2066\u200e\u061c", "[U+202E][U+2066][U+200E][U+061C]"),
        ("\U000e0041\ufeff\u2028", "[U+E0041][U+FEFF][U+2028]"),
        ("é שלום 🙂", "é שלום 🙂"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_json_for_a_script_reads_back_and_ends_no_element() -> None:
    value = ["</script><!--<script>&", "\u2028\u2029\ud800", {"\x00": 1.5}]
    text = script_json(value)
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


def test_a_text_stands_once_whatever_the_number_of_samples(tmp_path: Path) -> None:
    episodes = [episode(number, questions=8) for number in range(5)]
    few = [told(episodes, "vanilla")]
    many = few + [told(episodes, f"method-{number}", right=range(0, 40, 3)) for number in range(20)]
    sizes = []
    for name, methods in (("few", few), ("many", many)):
        write_page(tmp_path / f"{name}.html", [], [], [write_paged(tmp_path / name, episodes, methods)])
        text = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        sizes.append(len(text))
        values = island(text, "part-0")["values"]
        assert values.count("fact 7 of 4 is value7.") == 1
        assert len(values) == len({json.dumps(value) for value in values})
    assert (sizes[1] - sizes[0]) / (20 * 40) < 30  # bytes a sample


def test_a_text_is_never_taken_for_the_list_that_it_spells(tmp_path: Path) -> None:
    episodes = [episode(0)]
    answer = '[["accuracy", 0], ["f1", 0]]'
    methods = [told(episodes, "vanilla", answers={query.id: answer for query in episodes[0].queries})]
    write_page(tmp_path / "page.html", [], [], [write_paged(tmp_path / "run", episodes, methods)])
    values = island((tmp_path / "page.html").read_text(), "part-0")["values"]
    assert answer in values
    assert json.loads(answer) in values


@pytest.mark.parametrize("column", [[], [1], [1, 1, 1], [1, 1, 1, 2, 2, 2, 2], [1, 2, 3], [None, None, 0.5]])
def test_columns_and_ranges_read_back(column: list[Any]) -> None:
    packed = encode._column(column)
    if isinstance(packed, dict):
        runs = [packed["c"], packed["n"]] if "c" in packed else packed["r"]
        packed = [value for value, rows in zip(runs[::2], runs[1::2], strict=True) for _ in range(rows)]
    assert packed == column
    numbers = [3, 4, 5, 9, 1, 2]
    flat = encode._ranges(numbers)
    pairs = zip(flat[::2], flat[1::2], strict=True)
    assert [first + step for first, count in pairs for step in range(count)] == numbers


def test_settings_of_several_runs_are_pooled_where_no_question_is_asked_twice(tmp_path: Path) -> None:
    episodes = {seed: [episode(seed)] for seed in (0, 1)}
    runs = [
        write_paged(tmp_path / f"seed{seed}", episodes[seed], [told(episodes[seed], "vanilla", seed=seed)])
        for seed in (0, 1)
    ]
    assert collect.pools(collect.collect(runs)) == [
        ("vanilla · window 8 · 2 runs", [0, 1]),
        ("vanilla · window 8 · seed0", [0]),
        ("vanilla · window 8 · seed1", [1]),
    ]
    again = write_paged(tmp_path / "again", episodes[0], [told(episodes[0], "vanilla", right=[0])])
    found = collect.collect([runs[0], again])
    assert len(found.questions) == 3
    assert [name for name, _ in collect.pools(found)] == [
        "vanilla · window 8 · seed0",
        "vanilla · window 8 · again",
    ]


def test_a_run_without_contexts_borrows_them_from_one_that_stored_them(tmp_path: Path) -> None:
    episodes = [episode(0)]
    old = write_paged(tmp_path / "old", episodes, [told(episodes, "vanilla")], stored=False)
    new = write_paged(tmp_path / "new", episodes, [told(episodes, "vanilla", right=[1])])
    assert all(question.record is None for question in collect.collect([old]).questions)
    assert all(question.record is not None for question in collect.collect([old, new]).questions)


def test_samples_of_a_large_run_lie_beside_the_page(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page.html"
    monkeypatch.setattr(document, "PAGE_BYTES", 10_000)
    monkeypatch.setattr(document, "SIDE_CHARACTERS", 1_000)
    written = write_page(file, [], [], [run])
    assert written[0] == file
    assert sorted(written[1:]) == sorted((tmp_path / "page.samples").iterdir())
    text = file.read_text()
    index = island(text, "index")
    assert len(index["files"]) == len(written) - 1 > 3
    assert "deltamem-part" not in text.split('<script type="module">')[0]
    assert "&#39;strict-dynamic&#39;" in text
    part = re.fullmatch(r'deltamemPart\(0,"(\w+)",(.*)\);\n', written[1].read_text(), re.DOTALL)
    assert part
    assert index["files"][0] == part[1]
    assert "fact 0 of 0 is value0." in json.loads(part[2])["values"]
    parts = {number for block in index["blocks"] for number in _plain(block["part"])}
    assert parts <= set(range(len(written) - 1))

    monkeypatch.setattr(document, "SIDE_CHARACTERS", 4_000)
    fewer = write_page(file, [], [], [run])
    assert len(fewer) < len(written)
    assert sorted(fewer[1:]) == sorted((tmp_path / "page.samples").iterdir())
    monkeypatch.undo()
    assert write_page(file, [], [], [run]) == [file]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def _plain(column: Any) -> list[int]:
    if isinstance(column, list):
        return column
    return [column["c"]] if "c" in column else column["r"][::2]


def test_a_page_of_tables_alone_has_no_browser(tmp_path: Path) -> None:
    table = Table("Peaks", (Column("a", "method"),), ((Cell("vanilla"),),), "One device.")
    write_page(tmp_path / "page.html", [table], [], [])
    text = (tmp_path / "page.html").read_text()
    assert "One device." in text
    assert 'href="#samples"' not in text


def test_what_cannot_be_made_is_one_line_and_writes_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunStore.open(tmp_path / "empty", {}, {}).close()
    page = tmp_path / "page.html"
    with pytest.raises(UserError, match=r"no finished cell in .*empty: let the run end first"):
        write_page(page, [], [], [tmp_path / "empty"])
    with pytest.raises(UserError, match=r"is .*gone a run"):
        write_page(page, [], [], [tmp_path / "gone"])
    with pytest.raises(UserError, match="cannot write"):
        write_page(tmp_path / "nowhere" / "page.html", [], [], [run])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"pip install 'deltamem-eval\[reports\]'"):
        write_page(page, [], [], [run])
    assert not page.exists()


def test_questions_stand_as_they_are_numbered_however_they_were_answered(tmp_path: Path) -> None:
    names = ["b/q10", "b/q9", "b/q2", "a/q1", "a/q0"]
    samples = [sample(0, True, episode=name[0], cluster=name[0], query=name) for name in names]
    found = collect.collect([write_run(tmp_path / "run", [({}, samples)])])
    assert [question.sample.query for question in found.questions] == [
        "b/q2",
        "b/q9",
        "b/q10",
        "a/q0",
        "a/q1",
    ]
