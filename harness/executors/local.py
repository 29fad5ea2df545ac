"""One process, one device, one cell after the other."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from deltamem_eval.executors.weights import Weights
from deltamem_eval.session import Request, make_job, make_task, try_out

if TYPE_CHECKING:
    from deltamem_eval.runner import Progress


class LocalExecutor(AbstractContextManager["LocalExecutor"]):
    """Runs cells in this process. Weights stay loaded from one request to the next with the same model."""

    def __init__(self) -> None:
        self._weights = Weights()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._weights = Weights()

    def execute(self, request: Request, out: Path, progress: Progress) -> None:
        """Run every cell of a checked request that `out` does not hold yet."""
        from deltamem_eval.provenance import device_line, provenance
        from deltamem_eval.registry import packages_of
        from deltamem_eval.runner import cell_identity, run_cell
        from deltamem_eval.store import RunStore

        task = make_task(request)
        backbone = self._weights.load(request)
        job = make_job(request, task, backbone)
        backbone.system = task.system
        try_out(job.cells, job.queries, backbone)
        told = provenance(device_line(backbone.devices), packages_of(request.methods, request.task))
        store = RunStore.open(out, request.record(), told, request.manner())
        try:
            for cell in job.cells:
                identity, episodes = (
                    cell_identity(cell, task, backbone, request.limit),
                    job.episodes[cell.seed],
                )
                run_cell(cell, task, episodes, backbone, store, identity, progress, request.timeout)
        finally:
            store.close()
