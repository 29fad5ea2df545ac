"""Errors inside lm-eval: a user's mistake is a line, a fault of ours stays what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from bridged import changed_task
from deltamem_eval.errors import UserError
from deltamem_eval.lm_eval_bridge import MODEL_NAME, register, tasks_folder
from deltamem_eval.lm_eval_bridge.mistakes import in_a_line


def load(folder: Path, name: str) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(folder), include_defaults=False).load(name)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (
            ["custom_dataset: null", "dataset_path: json", "dataset_kwargs: {data_files: {test: none.json}}"],
            r"x: FileNotFoundError: Unable to find .*none\.json'",
        ),
        (["custom_dataset: !function docs.laod"], r"x: AttributeError: .*docs\.py' has no function 'laod'"),
        (["test_split: tset"], "x: KeyError: 'tset'"),
        (["doc_to_text: '{{contxt}}'"], "x: UndefinedError: 'contxt' is undefined"),
        (["doc_to_text: '{{context'"], "x: TemplateSyntaxError: "),
        (["output_type: generate"], "x: Got invalid output_type 'generate', must be in"),  # a ValueError
        (["doc_to_txt: question"], "x: TypeError: .*unexpected keyword argument 'doc_to_txt'"),
        (
            ["custom_dataset: !function docs.bare"],
            "x: No module named 'no_such_module_here': pip install no_such_module_here, or the extra",
        ),
        (["custom_dataset: !function wrong.load"], r"x: SyntaxError: .*wrong\.py, line 1"),
    ],
)
def test_what_lm_eval_cannot_work_with_is_a_line(lines: list[str], line: str, tmp_path: Path) -> None:
    folder = changed_task(tmp_path / "toy", "mine", *lines)
    (folder / "wrong.py").write_text("def load(:\n", encoding="utf-8")
    with (folder / "docs.py").open("a", encoding="utf-8") as stream:
        stream.write("\n\ndef bare(**_):\n    import no_such_module_here.deep\n")
    with pytest.raises(UserError, match=f"^{line}") as caught, in_a_line("x"):
        load(folder, "mine")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_user_s_mistake_of_ours_passes() -> None:
    register()
    from lm_eval.api.registry import get_model

    with pytest.raises(UserError, match=r"^model argument seed is"), in_a_line("x"):
        get_model(MODEL_NAME).create_from_arg_obj({"seed": 1.9}, {})


def lookup(*_: Any, **__: Any) -> Any:
    return {}["nothing"]


def in_a_library(*_: Any, **__: Any) -> Any:
    import json

    return json.loads("{")


@pytest.mark.parametrize(("fault", "kind"), [(lookup, KeyError), (in_a_library, ValueError)])
def test_faults_of_ours_stay_as_they_are(
    fault: Callable[..., Any], kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    from lm_eval.api.registry import get_model

    model = get_model(MODEL_NAME)
    monkeypatch.setattr("deltamem_eval.lm_eval_bridge.model.parse", fault)
    with pytest.raises(kind), in_a_line("x"):
        model.create_from_arg_obj({}, {})
    monkeypatch.setattr("deltamem_eval.tasks.embedded.task.EmbeddedTask.episodes", fault)
    with pytest.raises(kind), in_a_line("x"):
        load(tasks_folder(), "dme_embedded_retrieval")


def test_other_kinds_stay_as_they_are(tmp_path: Path) -> None:
    folder = changed_task(tmp_path / "toy", "mine", "custom_dataset: !function docs.full")
    with (folder / "docs.py").open("a", encoding="utf-8") as stream:
        stream.write("\n\ndef full(**_):\n    raise MemoryError\n")
    with pytest.raises(MemoryError), in_a_line("x"):
        load(folder, "mine")
