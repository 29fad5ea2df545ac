"""Shards handed to workers that are lost and heard twice, at random: ray's executor without ray."""

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.executors import open_executor
from deltamem_eval.executors.board import TRIES, Assignment, Board, longest_first
from deltamem_eval.executors.ray import _check_code, _seats
from deltamem_eval.executors.ray import _device as device_of
from deltamem_eval.executors.weights import Weights
from deltamem_eval.executors.worker import Ended, Facts, Refusal, Start, Worker, trained_by_method
from deltamem_eval.phases import DeviceLostError
from deltamem_eval.runner import cell_identity, open_cell
from deltamem_eval.session import Job, Request, make_job, make_task
from deltamem_eval.store import RunStore, read_run
from deltamem_eval.tokens import Counter
from runs_alike import asked_again, cut_off, ends, prompts, run_here, run_out_of_time, small

from raising import breaking, register
from stored import stored_samples

NOT_CLOSED = (
    "could not be taken off the backbone: ZeroDivisionError: no room; what it left there may change later "
    "answers"
)


def started(request: Request, folder: Path, *paths: str) -> tuple[Worker, Facts]:
    worker = Worker()
    return worker, worker.load(Start(request, "cpu", str(folder), paths, ""))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(small(), tmp_path_factory.mktemp("whole") / "run")


def through(job: Job, facts: Facts, store: RunStore, workers: list[Worker], chance: random.Random) -> None:
    """What the crew does, a step at a time; one in four loses a worker whose last words are heard twice."""
    with Display(6, quiet=True) as display:
        opened = (
            open_cell(
                cell,
                job.task,
                job.episodes[cell.seed],
                store,
                cell_identity(cell, job.task, facts, job.request.limit),
                display,
            )
            for cell in job.cells
        )
        board = Board(run for run in opened if run is not None)
        busy: dict[int, Assignment] = {}
        while board.unfinished:
            number = chance.randrange(len(workers))
            worker = workers[number]
            if number in busy:
                events = worker.call("step")
            elif (assignment := board.take()) is not None:
                busy[number] = assignment
                events = worker.call("begin", assignment.shard)
            else:
                continue
            hear(board, busy, number, events, facts)
            if number in busy and busy[number].lost < TRIES - 1 and chance.random() < 0.25:
                hear(board, busy, number, [event for event in events if not isinstance(event, Ended)], facts)
                board.lost(busy.pop(number), "drawn by lot", facts.device)


def hear(board: Board, busy: dict[int, Assignment], number: int, events: list[Any], facts: Facts) -> None:
    assignment = busy[number]
    for event in events:
        if isinstance(event, Ended):
            board.ended(busy.pop(number), event.effective)
        else:
            assert assignment.episode is not None
            assignment.run.take(assignment.episode, event, facts.device)


@pytest.mark.parametrize("seed", range(3))
def test_shards_of_any_workers_in_any_order_make_the_same_run(seed: int, whole: Path, tmp_path: Path) -> None:
    request = small(batch_size=2 + seed)
    workers = [started(request, tmp_path) for _ in range(1 + seed)]
    facts = workers[0][1]
    job = make_job(request, make_task(request), Counter(request.model, facts.positions))
    assert workers[0][0].trained(job.cells) == trained_by_method(job.cells)
    store = RunStore.open(tmp_path / "run", request.record(), {})
    through(job, facts, store, [worker for worker, _ in workers], random.Random(seed))
    store.close()
    assert stored_samples(tmp_path / "run") == stored_samples(whole)
    assert prompts(tmp_path / "run") == prompts(whole)
    made, wanted = ends(tmp_path / "run"), ends(whole)
    for end in (*made.values(), *wanted.values()):
        del end["effective"]["batch_size"]
    assert made == wanted


@pytest.mark.parametrize("stage", ["answer", "parts", "label", "capacity", "close"])
def test_a_plug_in_that_raises_does_to_workers_what_it_does_here(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(breaking(stage), monkeypatch)
    request = small(methods=("toy", "vanilla"), controls=False)
    worker, facts = started(request, tmp_path)
    job = make_job(request, make_task(request), Counter(request.model, facts.positions))
    assert worker.trained(job.cells) == trained_by_method(job.cells)
    store = RunStore.open(tmp_path / "run", request.record(), {})
    through(job, facts, store, [worker], random.Random(0))
    store.close()
    run_here(request, tmp_path / "here")
    assert stored_samples(tmp_path / "run") == stored_samples(tmp_path / "here")
    made, wanted = ends(tmp_path / "run"), ends(tmp_path / "here")
    if stage == "close":  # a worker closes a method when another cell comes, which alone is told of it
        (toy,) = (end for end in made.values() if end["identity"]["method"] == "toy")
        toy["effective"]["notices"] = [f"toy {NOT_CLOSED}"]
    assert made == wanted


def test_a_run_cut_off_goes_on_in_this_process(whole: Path, tmp_path: Path) -> None:

    shutil.copytree(whole, tmp_path / "run")
    cut_off(tmp_path / "run")
    run_here(small(), tmp_path / "run")
    assert stored_samples(tmp_path / "run") == stored_samples(whole)
    assert prompts(tmp_path / "run") == prompts(whole)
    assert ends(tmp_path / "run") == ends(whole)
    executions = read_run(tmp_path / "run").executions
    assert [told.executor for told in executions] == ["local", "local"]
    run_here(small(), tmp_path / "run")  # nothing is left to do: nobody worked
    assert read_run(tmp_path / "run").executions == executions


def test_what_ran_out_of_less_time_is_asked_again(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    late = run_out_of_time(run, 1.0)
    run_here(small(timeout=1.0), run)  # no more time than before
    assert sum(sample["status"] == "timeout" for sample in stored_samples(run).values()) == late > 0
    run_here(small(timeout=600.0), run)
    assert stored_samples(run) == stored_samples(whole)
    assert prompts(run) == prompts(whole)
    assert asked_again(run) == late


def test_a_cell_s_end_has_the_smallest_batch_size_of_its_workers(tmp_path: Path) -> None:
    request = small(methods=("vanilla",), controls=False)
    worker, facts = started(request, tmp_path)
    job = make_job(request, make_task(request), Counter(request.model, facts.positions))
    store, (cell,) = RunStore.open(tmp_path / "run", request.record(), {}), job.cells
    identity = cell_identity(cell, job.task, facts, None)
    with Display(1, quiet=True) as display:
        run = open_cell(cell, job.task, job.episodes[0], store, identity, display)
        assert run is not None
        board = Board([run])
        for size in (3, 1, 2, 3):
            assignment = board.take()
            assert assignment is not None
            assert assignment.episode is not None
            events = worker.call("begin", assignment.shard)
            while not isinstance(events[-1], Ended):
                events += worker.call("step")
            for event in events[:-1]:
                run.take(assignment.episode, event, facts.device)
            board.ended(assignment, events[-1].effective | {"batch_size": size})
    assert board.take() is None
    assert not board.unfinished
    store.close()
    (end,) = ends(tmp_path / "run").values()
    assert end["effective"]["batch_size"] == 1


def test_the_longest_contexts_are_handed_out_first(tmp_path: Path) -> None:
    request = small(methods=("vanilla",))
    _, facts = started(request, tmp_path)
    job = make_job(request, make_task(request), Counter(request.model, facts.positions))
    store, cells = RunStore.open(tmp_path / "run", request.record(), {}), longest_first(job.cells)
    assert [cell.window for cell in cells][:2] == [None, 0]
    assert cells[1:] == [cell for cell in job.cells if cell is not cells[0]]
    with Display(len(cells), quiet=True) as display:
        runs = [
            open_cell(
                cell,
                job.task,
                job.episodes[0],
                store,
                cell_identity(cell, job.task, facts, None),
                display,
            )
            for cell in cells
        ]
        board, taken = Board(run for run in runs if run is not None), []
        while (assignment := board.take()) is not None:
            taken.append(assignment)
    store.close()
    assert [assignment.run for assignment in taken] == sorted(
        (assignment.run for assignment in taken), key=runs.index
    )
    for run in runs:
        lengths = [
            len(assignment.shard.source.context)
            for assignment in taken
            if assignment.run is run and assignment.shard.source is not None
        ]
        assert lengths == sorted(lengths, reverse=True)
        assert len(lengths) == len(job.episodes[0])
    given = [len(episode.context) for episode in job.episodes[0]]
    assert given != sorted(given, reverse=True)


@pytest.mark.parametrize(
    ("device", "workers", "cluster", "count"),
    [
        ("cpu", None, {"CPU": 8.0}, 8),
        ("cpu", None, {"CPU": 0.5}, 1),
        ("cpu", 3, {"CPU": 8.0}, 3),
        ("cuda", None, {"CPU": 8.0, "GPU": 2.0}, 2),
    ],
)
def test_all_cores_or_all_gpus_work(
    device: str, workers: int | None, cluster: dict[str, float], count: int
) -> None:
    with Display(1, quiet=True) as display:
        assert _seats(device, workers, cluster, display)[0] == count


def test_a_users_mistake_on_a_worker_comes_back_as_a_line(tmp_path: Path) -> None:
    start = Start(small(), "cpu", str(tmp_path), (str(tmp_path / "gone"),), "")
    refusal = Worker().call("load", start)
    assert isinstance(refusal, Refusal)
    assert "must be on every machine" in refusal.text


def test_weights_are_loaded_once_for_requests_of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from deltamem_eval import backbone

    real, loads = backbone.load_backbone, []

    def counted(*arguments: Any) -> Any:
        loads.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(backbone, "load_backbone", counted)
    weights = Weights()
    first = weights.load(small())
    first.batch_size, first.system = 1, "Be brief."
    first.notices.append("out of memory")
    again = weights.load(small(limit=2, batch_size=5))
    assert again is first
    assert (again.batch_size, again.system, again.notices) == (5, "", [])
    assert len(loads) == 1
    assert weights.load(small(dtype="bfloat16")) is not first
    assert len(loads) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rai",), "did you mean ray"),
        (("local", "auto"), "--address is for --executor ray"),
        (("local", None, 2), "--workers is for --executor ray"),
        (("ray", None, 0), "--workers must be at least 1"),
    ],
)
def test_what_no_executor_can_be_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_executor(*arguments)


def test_without_ray_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'deltamem-eval\[ray\]'"):
        open_executor("ray")


@pytest.mark.parametrize(
    ("asked", "cluster", "words"),
    [
        ("spread", {"GPU": 2.0}, "each worker one device: --device spread"),
        ("cuda:1", {"GPU": 2.0}, "use --device cuda, not cuda:1"),
        ("cuda", {"CPU": 2.0}, "the ray cluster has no GPU"),
    ],
)
def test_devices_that_ray_does_not_deal_out_are_refused(
    asked: str, cluster: dict[str, float], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        device_of(asked, cluster)


def test_gpus_are_taken_where_the_cluster_has_one() -> None:
    assert device_of("auto", {"CPU": 8.0, "GPU": 1.0}) == "cuda"
    assert device_of("auto", {"CPU": 8.0}) == "cpu"


def test_workers_with_other_code_are_refused(tmp_path: Path) -> None:
    _, facts = started(small(), tmp_path)
    _check_code(facts)
    other = replace(facts, node="far", code="0" * 16)
    with pytest.raises(UserError, match=r"worker on far runs other code of deltamem-eval than this process"):
        _check_code(other)
    pytest.importorskip("ray")
    from deltamem_eval.executors.crew import check_alike

    with pytest.raises(UserError, match="workers differ in code of deltamem-eval"):
        check_alike(facts, other)


def test_a_worker_whose_device_is_lost_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: Worker) -> str:
        raise DeviceLostError("cuda:0 answers no more")

    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(Worker, "place", lost)
    monkeypatch.setattr("os._exit", ended)
    with pytest.raises(SystemExit, match="1"):
        Worker().call("place")
