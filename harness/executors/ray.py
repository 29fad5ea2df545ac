"""Many devices and many machines: ray's workers answer, this process alone scores and writes the run.

A worker needs the package, the model and the adapter, but neither the task's data nor the run's folder.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError
from deltamem_eval.executors.board import Board, longest_first
from deltamem_eval.executors.worker import Facts, Start, trained_by_method
from deltamem_eval.runner import CellRun, Progress, cell_identity, open_cell
from deltamem_eval.session import Job, Request, make_job, make_task
from deltamem_eval.spread import SPREAD
from deltamem_eval.store import RunStore
from deltamem_eval.tokens import Counter

if TYPE_CHECKING:
    from deltamem_eval.executors.crew import Crew

REACH_SECONDS = 10.0
STORE_BYTES = 256 * 2**20  # of memory shared on this machine: a context and its questions, a few times over


class RayExecutor(AbstractContextManager["RayExecutor"]):
    """Runs cells on ray's workers, which keep their weights from one request to the next.

    address: of a cluster (`auto`, HOST:PORT or ray://HOST:PORT); None starts ray on this machine. workers:
    how many; None means one for each GPU, and without any GPU one for each core: on a CPU a worker is one
    thread. Raises UserError without ray and for an address where none is.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._workers = workers
        self._crew: Crew | None = None
        self._device = ""
        self._cluster = _connect(address, workers)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        with _no_output():
            if self._crew is not None:
                self._crew.close()
            ray.shutdown()

    def execute(self, request: Request, out: Path, progress: Progress) -> None:
        """Run every cell of a checked request that `out` does not hold yet."""
        with _no_output():
            task = make_task(request)
            crew = self._crew_for(request, progress)
            facts = crew.load(self._start(request, task.system))
            _check_code(facts)
            job = make_job(request, task, Counter(request.model, facts.positions))
            self._try_out(crew, job)
            self._work(crew, job, facts, out, progress)

    def _crew_for(self, request: Request, progress: Progress) -> Crew:
        """The workers, started for the first request."""
        from deltamem_eval.executors.crew import Crew

        device = _device(request.device, self._cluster)
        if self._crew is not None and device != self._device:
            self._crew.close()
            self._crew = None
        if self._crew is None:
            count, resources = _seats(device, self._workers, self._cluster, progress)
            self._crew, self._device = Crew(count, resources, progress.notice), device
        self._crew.notice = progress.notice
        return self._crew

    def _start(self, request: Request, system: str) -> Start:
        named = [request.model, request.adapter, *request.options.values()]
        paths = tuple(
            value for value in named if isinstance(value, str) and os.sep in value and Path(value).exists()
        )
        return Start(request, self._device, str(Path.cwd()), paths, system)

    def _try_out(self, crew: Crew, job: Job) -> None:
        """Let a worker make each method and measure each question, and all compare their trained files."""
        cells = list({(cell.method, cell.window): cell for cell in job.cells}.values())
        crew.try_out(cells, list(job.queries), trained_by_method(cells))

    def _work(self, crew: Crew, job: Job, facts: Facts, out: Path, progress: Progress) -> None:
        from deltamem_eval.provenance import provenance
        from deltamem_eval.registry import packages_of

        told = provenance(facts.device, packages_of(job.request.methods, job.request.task))
        store = RunStore.open(out, job.request.record(), told, job.request.manner())

        def runs() -> Iterator[CellRun]:
            for cell in longest_first(job.cells):
                identity = cell_identity(cell, job.task, facts, job.request.limit)
                episodes, timeout = job.episodes[cell.seed], job.request.timeout
                run = open_cell(cell, job.task, episodes, store, identity, progress, timeout)
                if run is not None:
                    yield run

        try:
            crew.work(Board(runs()), lambda worker: store.note_worker("ray", worker))
        finally:
            store.close()


def _check_code(facts: Facts) -> None:
    """Raises UserError where the workers run another deltamem-eval than this process."""
    from deltamem_eval.provenance import code_facts

    here = code_facts()["code"]
    if facts.code != here:
        raise UserError(
            f"worker on {facts.node} runs other code of deltamem-eval "
            f"than this process ({facts.code}, not {here}): install the same on every machine"
        )


def _connect(address: str | None, workers: int | None) -> dict[str, float]:
    """Connect to a cluster or start one here; its resources. Raises UserError where that cannot be."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray needs ray: pip install 'deltamem-eval[ray]'") from None
    if address is not None:
        _check_reachable(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with _no_output():
        try:
            if address is None:
                cores = max(os.cpu_count() or 1, workers or 1)
                ray.init(
                    address="local",
                    num_cpus=cores,
                    include_dashboard=False,
                    object_store_memory=STORE_BYTES,
                    **quiet,
                )
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"no ray cluster at {address or 'this machine'}: {first}") from None
        found: dict[str, float] = ray.cluster_resources()
    return found


def _check_reachable(address: str) -> None:
    """Raises UserError where nobody listens at HOST:PORT: ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        if address == "auto":
            return
        raise UserError(f"--address is auto, HOST:PORT or ray://HOST:PORT, not {address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no ray cluster at {address}: {error}") from None


def _device(asked: str, cluster: dict[str, float]) -> str:
    """`cpu` or `cuda`, for every worker alike. Raises UserError for what the cluster does not have."""
    if asked == SPREAD:
        raise UserError(f"ray gives each worker one device: --device {SPREAD} is for the local executor")
    if asked.startswith("cuda:"):
        raise UserError(f"ray gives each worker a GPU of its own: use --device cuda, not {asked}")
    if asked == "auto":
        return "cuda" if cluster.get("GPU", 0) >= 1 else "cpu"
    if asked == "cuda" and cluster.get("GPU", 0) < 1:
        raise UserError("the ray cluster has no GPU: use --device cpu or --device auto")
    return asked


def _seats(
    device: str, workers: int | None, cluster: dict[str, float], progress: Progress
) -> tuple[int, dict[str, Any]]:
    """How many workers, and what ray is to give each."""
    kind = "GPU" if device == "cuda" else "CPU"
    room = int(cluster.get(kind, 0))
    count = workers or max(room, 1)
    if count > room:
        progress.notice(f"the cluster has {room} {kind}s for {count} workers: the others wait for more")
    resources: dict[str, Any] = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
    return count, {**resources, "num_gpus": 1} if device == "cuda" else resources


class _Nowhere(io.TextIOBase):
    """Takes text and drops it."""

    def write(self, text: str) -> int:
        return len(text)


def _no_output() -> redirect_stdout[_Nowhere]:
    """Ray tells of lost workers on standard output, which is for tables; losses are told as notices."""
    return redirect_stdout(_Nowhere())
