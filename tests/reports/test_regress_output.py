"""What a verdict looks like to code hosts and CI, and the workflow that uses it."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from deltamem_eval.cli.main import app, entry
from deltamem_eval.reports.compare.difference import Difference
from deltamem_eval.reports.compare.pairing import Pair
from deltamem_eval.reports.regress.output import to_annotations, to_comment, to_junit
from deltamem_eval.reports.regress.rules import DEFAULTS, Rule, read_rules
from deltamem_eval.reports.regress.verdicts import RowVerdict, Verdicts
from deltamem_eval.stats import Interval, PValue
from typer.main import get_command

from grids import halves, make_run
from shared import ROOT
from stored import sample


def forgets(method: str, category: str, number: int) -> float:
    """As `halves`, but token-write loses every right answer of one category."""
    worse = method == "token-write" and category == "selective-forgetting"
    return 0.0 if worse else halves(method, category, number)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line in this process; gives the exit code."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["deltamem-eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            entry()
        return int(ended.value.code or 0)

    return call


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `before` and `after`, which lost a category and has a method more."""
    place = tmp_path_factory.mktemp("runs")
    make_run(place / "before", halves)
    make_run(place / "after", forgets, methods=("vanilla", "token-write", "bm25-rag"))
    return place


def test_everything_a_job_needs_from_one_command(
    runs: Path, tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    comment, junit = tmp_path / "comment.md", tmp_path / "junit.xml"
    more = ("--markdown", comment, "--junit", junit, "--github")
    assert run("regress", runs / "before", runs / "after", *more) == 1
    out = capsys.readouterr().out
    errors = [line for line in out.splitlines() if line.startswith("::error")]
    assert len(errors) == 1
    assert errors[0].startswith(
        "::error title=regression%3A token-write%2C window 64%2C selective-forgetting::"
    )
    assert "lost: selective-forgetting/0/0/q0" in errors[0]
    assert sum(line.startswith("::notice title=new%3A bm25-rag") for line in out.splitlines()) == 2
    assert "regression: 1 of 4 rows regressed, 0 vanished, 2 new" in out
    text = comment.read_text()
    assert text.startswith("### Regression: 1 of 4 rows regressed")
    assert "| token-write | 64 | selective-forgetting | regression |" in text
    assert "selective-forgetting/0/0/q0" in text
    root = ElementTree.fromstring(junit.read_text())
    suite = root.find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "skipped": "2",
    }
    (failure,) = root.iter("failure")
    assert "p <0.001 by sign flip, Holm" in str(failure.get("message"))


def test_json_and_a_pass(runs: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("regress", runs / "before", runs / "after", "--json") == 1
    plain = json.loads(capsys.readouterr().out)
    assert plain["passed"] is False
    assert len(plain["flips"]["rows"]) == 18
    assert run("regress", runs / "before", runs / "before") == 0
    assert "no regression: 0 of 4 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--markdown", "."), "is a folder"),
        (("--junit", "nowhere/j.xml"), "no folder"),
        (("--json", "--github"), "give one"),
        (("--rules", "nothing.toml"), "cannot be read"),
        (("--update", "--rules", "r.toml", "--subset"), "leave out --rules, --subset"),
        (("--update", "--bootstrap-seed", "1"), "leave out --bootstrap-seed"),
        (("--update", "--markdown", "c.md", "--junit", "j.xml"), "leave out --markdown, --junit"),
        (("--update", "--json"), "leave out --json"),
        (("--update", "--github"), "leave out --github"),
        (("--by", "colour"), "unknown breakdown 'colour'"),
    ],
)
def test_options_that_cannot_be(
    runs: Path,
    tmp_path: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("regress", runs / "before", runs / "after", *more) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_run(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    assert run("regress", runs / "before", tmp_path) == 2
    assert "is" in capsys.readouterr().err
    assert run("regress", tmp_path, runs / "before") == 2
    assert "a run?" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_bad_input(
    runs: Path, tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "after", tmp_path / "after")
    file = next(tmp_path.glob("after/cells/*/samples.jsonl"))
    file.unlink()
    file.mkdir()  # cannot be read, not even by root
    assert run("regress", runs / "before", tmp_path / "after") == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"error: {file} cannot be read: Is a directory\n")


def test_a_crash_is_no_verdict(
    runs: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashing(*_: object, **__: object) -> Verdicts:
        raise ZeroDivisionError("no room")

    monkeypatch.setattr("deltamem_eval.reports.regress.verdicts.judge", crashing)
    assert run("regress", runs / "before", runs / "after") == 3
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):")
    assert told.endswith("ZeroDivisionError: no room\n")


def strange() -> Verdicts:
    """A failed row whose name and text hold everything that has a meaning of its own somewhere."""
    label = 'a,b: 100 %\n<c> & "d" | \x00\x1b\ud800\uffff'
    row = RowVerdict((label, "64"), "regression", 0.5, 0.25, None, ("50 % → 25 %\r\n::error::\x07",))
    gone = RowVerdict(("gone", "all that fits"), "vanished", 0.5, None)
    return Verdicts(Path("base.csv"), (), (row, gone), (), 0)


def test_annotations_escape_what_ends_them() -> None:
    first, second = to_annotations(strange()).splitlines()[:2]
    assert first.startswith('::error title=regression%3A a%2Cb%3A 100 %25%0A<c> & "d" | ')
    assert first.endswith("::50 %25 → 25 %25%0D%0A::error::\x07")
    assert second == (
        "::error title=vanished%3A gone%2C all that fits::the baseline has this row and the run has not"
    )


def test_junit_drops_what_xml_cannot_hold() -> None:
    root = ElementTree.fromstring(to_junit(strange()))
    case = next(root.iter("testcase"))
    assert case.get("classname") == 'a,b: 100 %\n<c> & "d" | '
    assert case.get("name") == "window 64"
    assert [failure.get("type") for failure in root.iter("failure")] == ["regression", "vanished"]


def test_a_comment_stays_under_what_the_host_takes() -> None:
    rows = tuple(RowVerdict((f"method {number}", "64"), "new", None, 0.5) for number in range(2000))
    text = to_comment(Verdicts(Path("base.csv"), (), rows, ("A note.",), 0))
    assert len(text) < 65_536
    assert "too many rows" in text
    assert "A note." in text


def lost(number: int, breach: str = "accuracy 100.0 % → 0.0 %") -> RowVerdict:
    """A failed row of one flipped question, whose texts take eight characters to show one."""
    key, text = (f"method {number}", "64"), "\u202e" * 500
    before, after = (sample(number, right, answer=text, targets=[text]) for right in (True, False))
    pair = Pair("c", before, after, text)
    interval, p = Interval(-1.0, None, None, 1, 1), PValue(1.0, "none")
    difference = Difference(key, (1, 1), (1, 1), 1.0, 0.0, interval, p, None, (pair,))
    return RowVerdict(key, "regression", 1.0, 0.0, difference, (breach,))


@pytest.mark.parametrize(("breach", "least"), [("accuracy fell", 50), ("b" * 5_000, 2), ("b" * 100_000, 0)])
def test_a_comment_of_many_failures_says_how_many_it_leaves_out(breach: str, least: int) -> None:
    rows = tuple(lost(number, breach) for number in range(1000))
    text = to_comment(Verdicts(Path("base.csv"), (), rows, ("note " * 20_000,), 0))
    assert len(text) < 65_536
    assert text.startswith("### Regression: 1000 of 1000 rows regressed")
    shown = len(re.findall(r"^\| method \d+ \| 64 \| regression \|", text, re.MULTILINE))
    assert least <= shown <= 50
    assert f"{1000 - shown} more of 1000 failed rows are not shown" in text
    flips = len(re.findall(r"^\| method \d+ \| 64 \| `e\d+/q\d+` \|", text, re.MULTILINE))
    assert 0 < flips < 20
    assert f"1000 questions scored otherwise, the first {flips} shown" in text
    assert "too many rows" in text


def test_a_comment_of_few_failures_leaves_nothing_out() -> None:
    rows = tuple(lost(number) for number in range(3))
    text = to_comment(Verdicts(Path("base.csv"), (), rows, (), 0))
    assert len(re.findall(r"^\| method \d \| 64 \| regression \|", text, re.MULTILINE)) == 6  # and all rows
    assert "not shown" not in text
    assert "3 questions scored otherwise." in text


def test_the_workflow_and_the_make_target_use_options_there_are() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "regression.yml").read_text())
    steps = workflow["jobs"]["regress"]["steps"]
    texts = [step["run"] for step in steps if "run" in step]
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)/", "")
    texts += [line for line in makefile.splitlines() if line.startswith("\tdeltamem-eval regress")]
    commands = [text for text in texts if "deltamem-eval regress" in text]
    assert len(commands) == 5
    known = {option for item in get_command(app).commands["regress"].params for option in item.opts}  # type: ignore[attr-defined]
    for command in commands:
        assert any(f"results/{name}.csv" in command for name in ("embedded", "bench-cpu"))
        assert set(re.findall(r"(?<!\S)--[a-z-]+", command)) <= known
    assert workflow["jobs"]["regress"]["env"]["OMP_NUM_THREADS"] == "1"


def test_the_workflow_leaves_out_the_rule_for_runs_that_repeat_exactly() -> None:
    workflow = (ROOT / ".github" / "workflows" / "regression.yml").read_text()
    (file,) = re.findall(r"--rules (\S+)", workflow)
    left_out = Rule(metric="accuracy", kind="absolute", limit=0.03)
    rules = read_rules(ROOT / file)
    assert left_out in DEFAULTS.rule
    assert rules.rule == [rule for rule in DEFAULTS.rule if rule != left_out]
    assert rules.controls == DEFAULTS.controls


def test_the_workflow_finds_torch_and_the_rest_on_different_indexes() -> None:
    workflow = (ROOT / ".github" / "workflows" / "regression.yml").read_text()
    (torch,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f'"torch=={torch}+cpu"' in workflow
    assert re.findall(r"--(?:extra-)?index-url", workflow) == ["--extra-index-url"]
