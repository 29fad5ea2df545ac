"""QASPER's JSON as rows."""

import json
from pathlib import Path

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.common import read_json
from deltamem_eval.tasks.memory_agent_bench.rows import check_row, load_rows
from deltamem_eval.tasks.qasper import rows_from_qasper
from typer.testing import CliRunner


def answer(**given: object) -> dict:
    base = {"unanswerable": False, "extractive_spans": [], "yes_no": None, "free_form_answer": ""}
    return {"answer": {**base, **given}}


def paper(*asked: list[dict]) -> dict:
    return {
        "title": "Title",
        "abstract": "Abstract.",
        "full_text": [
            {"section_name": None, "paragraphs": ["One.", " "]},
            {"section_name": "S", "paragraphs": ["Two."]},
        ],
        "qas": [
            {"question": f"q{index}?", "question_id": f"id{index}", "answers": answers}
            for index, answers in enumerate(asked)
        ],
    }


def write(tmp_path: Path, value: object) -> Path:
    file = tmp_path / "qasper.json"
    file.write_text(json.dumps(value))
    return file


def test_answers_of_every_kind(tmp_path: Path) -> None:
    made = paper(
        [answer(yes_no=True), answer(yes_no=True), answer(yes_no=False)],
        [answer(extractive_spans=["a b", "c"]), answer(free_form_answer=" free ")],
        [answer(unanswerable=True)],
    )
    (row,) = rows_from_qasper(write(tmp_path, {"p1": made, "p2": paper([answer(unanswerable=True)])}))
    check_row(row, "row")
    assert row["context"] == "Title\nAbstract.\nOne.\nS\nTwo.\n"
    assert row["questions"] == ["q0?", "q1?"]
    assert row["answers"] == [["Yes", "No"], ["a b, c", "free"]]
    assert row["metadata"]["qa_pair_ids"] == ["p1_id0", "p1_id1"]


def test_the_command_writes_rows_to_train_on(tmp_path: Path) -> None:
    papers = {
        "p1": paper([answer(yes_no=True)], [answer(free_form_answer="café")]),
        "p2": paper([answer(extractive_spans=["a b"])], [answer(unanswerable=True)]),
    }
    file, out = write(tmp_path, papers), tmp_path / "rows.jsonl"
    done = CliRunner().invoke(app, ["convert-qasper", str(file), "--out", str(out)])
    assert (done.exit_code, done.stdout) == (0, f"2 episodes, 3 questions in {out}\n")
    assert load_rows(out) == rows_from_qasper(file)
    assert "café" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "words"),
    [([], "expected an object"), ({"p": {"title": "x"}}, "paper p"), ({"p": paper()}, "no paper")],
)
def test_other_files_are_refused(value: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        rows_from_qasper(write(tmp_path, value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ("1" * 5000, "holds a whole number of more than 4300 digits"),
        ("{", "is not JSON"),
    ],
)
def test_files_that_are_no_json_are_refused(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "qasper.json"
    file.write_text(text)
    for read in (rows_from_qasper, read_json):
        with pytest.raises(UserError, match=f"qasper.json {words}"):
            read(file)
