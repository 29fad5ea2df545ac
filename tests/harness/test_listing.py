"""What `list`, `show` and help say is there is there, and can be typed as it stands."""

import inspect
import json
from typing import Any

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.cli.run import parse_options
from deltamem_eval.registry import METHODS, TASKS
from deltamem_eval.reports.groups import BREAKDOWNS
from deltamem_eval.session import DEFAULT_WINDOW, EMBEDDED_WINDOW
from deltamem_eval.shapes import CONFIGS
from deltamem_eval.suites import SUITES
from typer.main import get_command
from typer.testing import CliRunner


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def help_of(command: str, option: str) -> str:
    """The help of a command's option, unwrapped."""
    params: list[Any] = get_command(app).commands[command].params  # type: ignore[attr-defined]
    (found,) = (item for item in params if option in item.opts)
    return str(found.help)


def test_suites_are_listed_with_their_tasks() -> None:
    rows = {row["name"]: row["summary"] for row in json.loads(printed("list", "suites", "--json"))}
    assert list(rows) == list(SUITES)
    assert "lm-eval:ifeval, hotpotqa" in rows["paper"]
    assert printed("list", "suites").count("\n") == len(SUITES)


def test_models_are_listed_by_their_full_names() -> None:
    names = [line.split()[0] for line in printed("list", "models").splitlines()]
    assert set(CONFIGS) < set(names)
    assert {"embedded", "FOLDER", "OWNER/NAME"} < set(names)


@pytest.mark.parametrize(
    ("registry", "option", "name"),
    [
        *((METHODS, "--option", name) for name in METHODS.names()),
        *((TASKS, "--task-option", name) for name in TASKS.names()),
    ],
)
def test_defaults_are_shown_as_they_are_typed(registry: Any, option: str, name: str) -> None:
    kind = registry.load(name)
    lines = [line.strip() for line in printed("show", name).splitlines()]
    assert kind.summary in lines[0]
    pairs = [line.removeprefix(f"{option} ") for line in lines if line.startswith(f"{option} ")]
    assert parse_options(pairs) == dict(kind.defaults)
    if kind.defaults:
        assert inspect.getdoc(kind) is not None


@pytest.mark.parametrize("command", ["report", "compare", "regress", "bundle"])
def test_help_names_every_breakdown(command: str) -> None:
    assert help_of(command, "--by").partition(": ")[2].split(", ") == list(BREAKDOWNS)


def test_help_names_suites_and_default_windows() -> None:
    assert help_of("run", "--suite").partition(": ")[2].split(", ") == list(SUITES)
    assert f"else {EMBEDDED_WINDOW} for the embedded model, {DEFAULT_WINDOW} " in help_of("run", "--window")
