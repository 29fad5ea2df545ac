"""The commands: lm-eval's own arguments pass through, and our tasks are found."""

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from bridged import changed_task
from deltamem_eval.cli.lm_eval import PASS_THROUGH, arguments, lm_eval, lm_eval_tasks
from deltamem_eval.errors import UserError
from deltamem_eval.lm_eval_bridge import tasks_folder
from typer.testing import CliRunner

app = typer.Typer()
app.command("lm-eval", context_settings=PASS_THROUGH)(lm_eval)
app.command("lm-eval-tasks")(lm_eval_tasks)


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], ["--help"]),
        (["--help"], ["--help"]),
        (["run", "--help"], ["run", "--help"]),
        (["ls", "tasks"], ["ls", "tasks"]),
        (["--tasks", "x"], ["run", "--model", "deltamem-eval", "--tasks", "x"]),
        (["--model_args", "a=b"], ["run", "--model", "deltamem-eval", "--model_args", "a=b"]),
        (["run", "--tasks", "x"], ["run", "--model", "deltamem-eval", "--tasks", "x"]),
        (["--model", "hf", "--tasks", "x"], ["run", "--model", "hf", "--tasks", "x"]),
        (["--model=hf", "--tasks", "x"], ["run", "--model=hf", "--tasks", "x"]),
        (["-C", "run.yaml"], ["run", "-C", "run.yaml"]),
    ],
)
def test_arguments_pass_through(given: list[str], passed: list[str]) -> None:
    assert arguments(given) == passed


@pytest.mark.parametrize(
    "given", [["--use_cache", "x"], ["run", "--use_cache=x"], ["--tasks", "x", "--use_c", "y"]]
)
def test_the_response_cache_is_refused(given: list[str]) -> None:
    with pytest.raises(UserError, match="leave it out"):
        arguments(given)


def test_what_lm_eval_does_not_have_is_a_user_s_mistake() -> None:
    result = CliRunner().invoke(app, ["lm-eval", "--tasks", "no_such_task"])
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == "lm-eval: Tasks not found: no_such_task"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("just text", "lm-eval: TypeError: YAML root must be a mapping in "),
        ("- a\n- b\n", "lm-eval: TypeError: YAML root must be a mapping in "),
        ("tasks: [a\n", "lm-eval: Invalid YAML in "),
        ("tasks: dme_embedded\nnonsense: 1\n", "lm-eval: TypeError: .*argument 'nonsense'"),
        (None, "lm-eval: FileNotFoundError: Config file not found: "),
    ],
)
def test_a_config_that_cannot_be_is_a_user_s_mistake(text: str | None, line: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    before = list(sys.argv)
    result = CliRunner().invoke(app, ["lm-eval", "--config", str(file)])
    assert isinstance(result.exception, UserError)
    assert re.match(line, str(result.exception))
    assert "\n" not in str(result.exception)
    assert sys.argv == before


def test_a_task_whose_data_are_away_is_a_user_s_mistake(tmp_path: Path) -> None:
    lines = ("custom_dataset: null", "dataset_path: json", "dataset_kwargs: {data_files: {test: none.json}}")
    folder = changed_task(tmp_path / "toy", "toy_away", *lines)
    job = ["lm-eval", "--model_args", "model=embedded", "--device", "cpu", "--tasks", "toy_away"]
    result = CliRunner().invoke(app, [*job, "--include_path", str(folder)])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("lm-eval: FileNotFoundError: Unable to find ")


def test_our_tasks_are_listed() -> None:
    result = CliRunner().invoke(app, ["lm-eval-tasks", "--path"])
    assert result.output == f"{tasks_folder()}\n"
    names = CliRunner().invoke(app, ["lm-eval-tasks"]).output.split()
    assert names == sorted(names)
    assert {"dme_embedded", "dme_embedded_retrieval", "dme_rows"} <= set(names)


def test_the_whole_job(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    before = list(sys.argv)
    job = ["lm-eval", "--model_args", "model=embedded,method=bm25-rag,window=64,options=top_k:3;words:plain"]
    job += ["--tasks", "dme_embedded", "--include_path", str(tasks_folder()), "--batch_size", "8"]
    job += ["--metadata", '{"episode_limit": 1}', "--output_path", str(tmp_path), "--device", "cpu"]
    result = CliRunner().invoke(app, [*job, "--log_samples"])
    assert result.exit_code == 0, result.output
    assert sys.argv == before
    (file,) = tmp_path.rglob("results_*.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["config"]["method_options"]["words"] == "plain"
    assert found["config"]["contexts_written"] == 4
    assert 0 <= found["results"]["dme_embedded"]["exact_match,none"] <= 1
    assert len(list(tmp_path.rglob("samples_dme_embedded_*.jsonl"))) == 4
