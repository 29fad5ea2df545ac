"""The `data` command: files it writes, lines it refuses with, figures it prints."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from deltamem_eval.cli.data import data
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.common import write_rows
from deltamem_eval.tasks.builders.describe import to_text
from deltamem_eval.tasks.memory_agent_bench.rows import load_rows
from typer.testing import CliRunner

from shared import shared


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(data, [str(argument) for argument in arguments])


@pytest.fixture
def banking(tmp_path: Path) -> Path:
    folder = tmp_path / "banking"
    folder.mkdir()
    for name, count in (("train", 30), ("test", 8)):
        lines = [f"{name} {n} about {label},{label}\n" for n in range(count) for label in ("x", "y", "z")]
        (folder / f"{name}.csv").write_text("text,category\n" + "".join(lines))
    return folder


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_rows_are_written_and_read_again(banking: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"rows.{suffix}"
    job = ("build", "banking77", "--source", banking, "--tokens", 500, "--questions", 6, "--resamples", 2)
    result = cli(*job, "--out", out)
    assert result.exit_code == 0, result.exception
    assert "12 questions" in result.output
    rows = load_rows(out)
    assert len(rows) == 2
    assert rows[0]["metadata"]["source"].startswith("icl_banking77_")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["banking", out.name]
    again = tmp_path / f"again.{suffix}"
    cli(*job, "--out", again)
    assert again.read_bytes() == out.read_bytes()


def test_an_existing_file_is_left_alone(banking: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    out.write_text("mine")
    refused(cli("build", "banking77", "--source", banking, "--out", out), "exists already")
    assert out.read_text() == "mine"


def refused(result: Result, message: str) -> None:
    assert isinstance(result.exception, UserError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


BAD = [
    (("bankin77",), "unknown source 'bankin77': did you mean banking77?"),
    (("banking77",), "banking77 is made from train.csv and test.csv"),
    (("banking77", "--source", "nothing"), "nothing: no such file or folder"),
    (("banking77", "--source", "empty"), "gives no train set of Banking77"),
    (("banking77", "--source", "header"), "header must be text,category, not 'utterance,label'"),
    (("banking77", "--source", "latin"), "is not UTF-8 text (byte 15)"),
    (("banking77", "--source", "fields"), "line 3: expected 2 fields, found 3"),
    (("banking77", "--source", "blank"), "line 2: an utterance and its label must not be empty"),
    (("banking77", "--source", "bare"), "holds no examples"),
    (("banking77", "--source", "banking", "--source", "header"), "gives 2 files for train set"),
    (("banking77", "--source", "banking", "--questions", 25), "only 24 held-out utterances"),
    (("banking77", "--source", "banking", "--questions", 5, "--tokens", 9), "fewer than one for each of 3"),
    (("banking77", "--source", "banking", "--questions", 0), "--questions must be 1 or more, not 0"),
    (("banking77", "--source", "banking", "--tokenizer", "no/such"), "no tokenizer 'no/such'"),
    (("nlu", "--source", "banking"), "lacks scenario"),
    (("nlu", "--source", "hwu"), "seq.in has 1 lines and label 2"),
    (("clinc150", "--source", "clinc/list.json"), "must hold an object"),
    (("clinc150", "--source", "clinc/lacks.json"), "lacks a list under val"),
    (("clinc150", "--source", "clinc/pairs.json"), "val must be a list of [text, intent] pairs"),
    (("clinc150", "--source", "clinc/broken.json"), "is not JSON"),
    (("trec-fine", "--source", "trec"), "line 2: expected COARSE:fine question, found 'How far ?'"),
    (("live", "--source", "banking"), "live is made without files"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: tuple[Any, ...], message: str, banking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    files = {
        "header/train.csv": b"utterance,label\na,b\n",
        "latin/train.csv": "text,category\n\u00e9,x\n".encode("latin-1").replace(b"\n\xe9", b"\na\xe9"),
        "fields/train.csv": b"text,category\na,x\na,b,x\n",
        "blank/train.csv": b"text,category\n ,x\n",
        "bare/train.csv": b"text,category\n",
        "hwu/train/seq.in": b"a\n",
        "hwu/train/label": b"x\ny\n",
        "clinc/list.json": b"[]",
        "clinc/lacks.json": b'{"train": []}',
        "clinc/pairs.json": b'{"train": [["a", "x"]], "val": [["a"]]}',
        "clinc/broken.json": b"{",
        "trec/train_5500.label": b"NUM:dist How far ?\nHow far ?\n",
        "trec/TREC_10.label": b"NUM:dist How far ?\n",
    }
    (tmp_path / "empty").mkdir()
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
        if name.endswith("train.csv"):
            (tmp_path / name).with_name("test.csv").write_bytes(b"text,category\nq,x\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    refused(cli("build", *arguments, "--out", "rows.json"), message)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("out", "message"), [("rows.csv", "rows are written as .json"), ("no/rows.json", "no is not a folder")]
)
def test_targets_are_checked_first(
    out: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(cli("build", "live", "--out", out), message)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_rows([{"context": object()}], tmp_path / "rows.json")
    assert list(tmp_path.iterdir()) == []


def test_line_ends_within_texts_stay_within_a_line(tmp_path: Path) -> None:
    row = {
        "context": "a\u2028b\x85c\n",
        "questions": ["q"],
        "answers": [["a"]],
        "metadata": {"source": "ruler_qa1_1K"},
    }
    write_rows([row, row], tmp_path / "rows.jsonl")
    assert load_rows(tmp_path / "rows.jsonl") == [row, row]


def test_sources_are_listed() -> None:
    output = cli("sources").output
    assert all(
        name in output for name in ("banking77", "clinc150", "trec-coarse", "factconsolidation", "live")
    )


def row(source: str, context: str, asked: dict[str, str]) -> dict[str, Any]:
    answers = [[gold] for gold in asked.values()]
    return {
        "context": context,
        "questions": list(asked),
        "answers": answers,
        "metadata": {"source": source, "qa_pair_ids": [str(n) for n in range(len(answers))]},
    }


def test_describe_finds_leaks(tmp_path: Path) -> None:
    labelled = "one two\nlabel: 0\nthree\nlabel: 1\nfour\nlabel: 1\n"
    rows = [
        row("icl_toy_3shot_balance", labelled, {"One, two!": "0", "new": "1"}),
        row(
            "longmemeval_s*", "[{'has_answer': True}, {'has_answer': False}]", {"Is Rome in Italy?": "italy"}
        ),
        row("ruler_qa1_197K", "text", {"Who is it?": "Ann", "who is it": "Ann"}),
    ]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    result = cli("describe", file, "--json")
    assert result.exit_code == 0, result.exception
    found = json.loads(result.output)
    icl = found["icl_toy_3shot_balance"]
    assert icl["icl"] == {
        "labels": {"min": 2, "max": 2},
        "shots": {"min": 1, "max": 2},
        "questions_in_context": 1,
    }
    assert icl["context_characters"] == {"min": len(labelled), "max": len(labelled)}
    assert icl["context_tokens"]["min"] > 10
    assert found["longmemeval_s*"]["longmemeval"] == {"has_answer": 2}
    assert found["longmemeval_s*"]["answers_in_question"] == 1
    assert found["ruler_qa1_197K"]["duplicated_questions"] == 1
    assert found["ruler_qa1_197K"]["answers_in_question"] == 0
    text = cli("describe", file).output
    assert "icl questions in context" in text
    assert "1 to 2" in text


def test_describe_refuses_what_is_no_file_of_rows(tmp_path: Path) -> None:
    refused(cli("describe", tmp_path / "none.json"), "no such file")
    (tmp_path / "rows.json").write_text("[{}]")
    refused(cli("describe", tmp_path / "rows.json"), "lacks context")


def test_describe_on_the_benchmarks_own_rows() -> None:
    file = shared("data", "memoryagentbench", "Conflict_Resolution.json")
    found = json.loads(cli("describe", file, "--json").output)
    short, long = (found[f"factconsolidation_sh_{size}"]["facts"] for size in ("6k", "262k"))
    assert (short["conflict_free"], short["contradicting"]) == (0.26, 0)
    assert (long["conflict_free"], long["contradicting"]) == (0.23, 3)
    assert (short["conflict_free_by_gold"], long["conflict_free_by_gold"]) == (0.26, 0.21)
    assert "facts conflict free by gold  21.0%" in to_text(found)
    assert "facts" not in found["factconsolidation_mh_6k"]
