"""A plug-in that raises, wherever it does, fails its own cell with the error recorded; the others go on."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.files import append_lines
from deltamem_eval.interface import Answer, Query
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.phases import DeviceLostError, Gpus
from deltamem_eval.registry import METHODS
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.store import RunStore, read_cells, read_run
from deltamem_eval.tasks.memory_agent_bench.task import RowsTask
from tiny import tiny_backbone

from raising import breaking, register
from stored import assert_published

STAGES = ("__init__", "reset", "write", "snapshot", "restore", "answer", "footprint", "parts", "adapter_hash")
TOLD = {  # stages after which the answers are as good as any, and the notice
    "added": "toy: added parameters unknown: ZeroDivisionError: no room",
    "capacity": "toy: capacity unknown: ZeroDivisionError: no room",
    "label": "toy: label unknown: ZeroDivisionError: no room",
    "close": "toy could not be taken off the backbone: ZeroDivisionError: no room; what it left there may "
    "change later answers",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("failures")
    backbone = tiny_backbone()
    backbone.model.save_pretrained(root / "model")
    backbone.tokenizer.save_pretrained(root / "model")
    row = {
        "context": "fact 1 is 7.\nfact 2 is 9.\n",
        "questions": ["fact 1?", "fact 2?"],
        "answers": [["7"], ["9"]],
        "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b"]},
    }
    (root / "rows.json").write_text(json.dumps([row]))
    return root


def asked(
    place: Path, rows: Path, methods: tuple[str, ...], limit: int | None = None, adapter: str | None = None
) -> Request:
    return Request(
        methods=methods,
        model=str(place / "model"),
        rows=str(rows),
        windows=(20,),
        limit=limit,
        adapter=adapter,
        controls=False,
        device="cpu",
    )


def run(request: Request, out: Path) -> None:
    with Display(2, quiet=True) as display:
        execute(check(request), out, display)


def beside_vanilla(
    toy: type[Vanilla], place: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[Any, dict[str, Any]]:
    """The table's rows by method, of a run of the toy and vanilla, which is as good as without the toy."""
    register(toy, monkeypatch)
    request = asked(
        place, place / "rows.json", ("toy", "vanilla"), adapter=str(place) if toy.trained else None
    )
    run(request, out)
    assert_published(out, "run", "cell", "sample")
    table = summary_table([out])
    keys = [column.key for column in table.columns]
    rows = {row[0].value: dict(zip(keys, row, strict=True)) for row in table.rows}
    assert rows["vanilla"]["not_ok"].value == "0"
    assert rows["vanilla"]["accuracy"].n == rows["toy"]["accuracy"].n == 2
    before = {file: file.read_bytes() for file in out.rglob("*.json*")}
    run(request, out)  # nothing is left to do
    assert {file: file.read_bytes() for file in out.rglob("*.json*")} == before
    return rows


@pytest.mark.parametrize("stage", STAGES)
def test_it_fails_alone(stage: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = beside_vanilla(breaking(stage), place, tmp_path / "run", monkeypatch)
    assert rows["toy"]["not_ok"].value == "2 failed"
    assert rows["toy"]["accuracy"].value == 0.0
    lines = [json.loads(line) for file in (tmp_path / "run").rglob("samples.jsonl") for line in file.open()]
    assert {line["error"] for line in lines} == {None, "ZeroDivisionError: no room"}


@pytest.mark.parametrize("stage", TOLD)
def test_what_it_cannot_tell_of_itself_is_a_notice(
    stage: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = beside_vanilla(breaking(stage), place, tmp_path / "run", monkeypatch)
    assert rows["toy"]["not_ok"].value == "0"
    assert (rows["toy"]["added_parameters"].value is None) == (stage == "added")
    notices = {
        record.identity["method"]: record.effective["notices"] for record, _ in read_cells(tmp_path / "run")
    }
    assert notices["toy"] == [TOLD[stage]]
    assert notices["vanilla"] == ([TOLD[stage]] if stage == "close" else [])  # which it may have changed


@pytest.mark.parametrize("stage", ["parts", "adapter_hash", "close"])
def test_a_user_s_mistake_ends_the_run_in_a_line(
    stage: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = breaking(stage, UserError("no weights in it"))
    with pytest.raises(UserError, match="no weights in it"):
        beside_vanilla(toy, place, tmp_path / "run", monkeypatch)


def test_a_score_that_raises_fails_its_question_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RowsTask.score

    def choking(task: RowsTask, query: Query, answer: str) -> dict[str, float]:
        if query.id.endswith("q000"):
            raise KeyError("odd answer")
        return real(task, query, answer)

    monkeypatch.setattr(RowsTask, "score", choking)
    request = asked(place, place / "rows.json", ("vanilla",))
    run(request, tmp_path / "run")
    ((record, samples),) = read_cells(tmp_path / "run")
    assert record.samples == 2
    assert {sample.query[-4:]: sample.status for sample in samples} == {"q000": "failed", "q001": "ok"}
    assert samples[0].error == "the task's score raised KeyError: 'odd answer'"


def test_rows_that_changed_under_a_run_s_folder_are_refused(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    (row,) = json.loads((place / "rows.json").read_text())
    request = asked(place, file, ("vanilla",))

    def answered(name: str, gold: str) -> None:
        file.write_text(json.dumps([{**row, "answers": [[gold], ["9"]]}]))
        run(request, tmp_path / name)

    answered("run", "7")
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(UserError, match=r"run was answered with other data than now .*: choose another"):
        answered("run", "8")
    assert sorted((tmp_path / "run").rglob("*")) == before
    answered("other", "8")
    with pytest.raises(UserError, match=r"vanilla answered rows/0/q000 .* twice.*report the runs apart"):
        summary_table([tmp_path / "run", tmp_path / "other"])


def test_a_trial_s_questions_do_not_count_twice(place: Path, tmp_path: Path) -> None:
    (row,) = json.loads((place / "rows.json").read_text())
    (tmp_path / "rows.json").write_text(json.dumps([row, row]))
    for name, limit in (("trial", 1), ("whole", None)):
        request = asked(place, tmp_path / "rows.json", ("vanilla",), limit=limit)
        run(request, tmp_path / name)
    with pytest.raises(UserError, match=r"twice, of other data or under another --limit"):
        summary_table([tmp_path / "trial", tmp_path / "whole"])


def test_a_score_that_is_no_number_fails_its_question(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RowsTask, "score", lambda *_: {"accuracy": float("nan")})
    request = asked(place, place / "rows.json", ("vanilla",))
    run(request, tmp_path / "run")
    _, samples = read_cells(tmp_path / "run")[0]
    assert {sample.status for sample in samples} == {"failed"}
    assert {sample.error for sample in samples} == {"the task's score is no number: accuracy is nan"}


def test_one_question_that_fails_leaves_its_batch_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(Vanilla):
        name = "picky"
        asked: ClassVar[list[int]] = []

        def answer(self, queries: Sequence[Query]) -> list[Answer]:
            self.asked.append(len(queries))
            if any(query.id.endswith("q000") for query in queries):
                raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling it")
            return super().answer(queries)

    real = METHODS.load
    monkeypatch.setattr(METHODS, "load", lambda name: Picky if name == "picky" else real(name))
    run(asked(place, place / "rows.json", ("picky",)), tmp_path / "run")
    ((_, samples),) = read_cells(tmp_path / "run")
    assert {sample.query[-4:]: sample.status for sample in samples} == {"q000": "oom", "q001": "ok"}
    assert Picky.asked == [2, 1, 1]
    assert all(sample.memory_bytes for sample in samples)


@pytest.mark.parametrize("stage", ["__init__", "answer"])
def test_a_lost_device_ends_the_run_and_the_same_command_goes_on(
    stage: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(breaking(stage), monkeypatch)

    def gone(_: Gpus) -> None:
        raise DeviceLostError("cuda:0 answers no more")

    with monkeypatch.context() as broken:
        broken.setattr(Gpus, "check", gone)
        with pytest.raises(UserError, match="cuda:0 answers no more"):
            run(asked(place, place / "rows.json", ("toy",)), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("cell.json"))
    assert not any(file.read_text() for file in (tmp_path / "run").rglob("samples.jsonl"))
    run(asked(place, place / "rows.json", ("toy",)), tmp_path / "run")
    assert read_cells(tmp_path / "run")[0][0].samples == 2


def test_notices_outlive_a_kill(tmp_path: Path) -> None:
    for text in ("first", "second", "first"):
        store = RunStore.open(tmp_path / "run", {}, {})
        store.cell({"method": "m"}).note(text)
        store.close()
    store = RunStore.open(tmp_path / "run", {}, {})
    assert store.cell({"method": "m"}).notices() == ["first", "second"]


def test_a_folder_that_a_kill_left_empty_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".lock", ".run.json.7.tmp"):
        (tmp_path / "run" / name).write_text("")
    RunStore.open(tmp_path / "run", {}, {}).close()
    assert (tmp_path / "run" / "run.json").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(UserError, match="exists and is no run"):
        RunStore.open(tmp_path / "other", {}, {})


def test_how_each_stretch_of_work_was_done_is_on_record(place: Path, tmp_path: Path) -> None:
    request = replace(asked(place, place / "rows.json", ("vanilla",)), batch_size=3, timeout=60.0)
    run(request, tmp_path / "run")
    (stretch,) = read_run(tmp_path / "run").executions
    assert (stretch.batch_size, stretch.timeout) == (3, 60.0)
    assert stretch.command[0] == "deltamem-eval"


def test_a_disk_that_is_full_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write to .*: No space left on device"):
        append_lines(tmp_path / "lines.jsonl", [])
