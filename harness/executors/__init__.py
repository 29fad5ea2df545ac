"""Who runs a job's cells: this process, or workers on many devices and machines."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from deltamem_eval.errors import UserError, unknown

if TYPE_CHECKING:
    from deltamem_eval.runner import Progress
    from deltamem_eval.session import Request

NAMES = ("local", "ray")


class Executor(Protocol):
    """Runs one request after another. Whichever does, the run's folder is the same, and either can go on with
    what the other began.
    """

    def execute(self, request: Request, out: Path, progress: Progress) -> None:
        """Run every cell of a checked request that `out` does not hold yet."""


def open_executor(
    name: str, address: str | None = None, workers: int | None = None
) -> AbstractContextManager[Executor]:
    """The executor of that name. address, workers: ray's. Raises UserError for what it cannot be."""
    if name not in NAMES:
        raise unknown("executor", name, NAMES)
    if name == "local":
        given = {"--address": address, "--workers": workers}
        for option, value in given.items():
            if value is not None:
                raise UserError(f"{option} is for --executor ray")
        from deltamem_eval.executors.local import LocalExecutor

        return LocalExecutor()
    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1: {workers}")
    from deltamem_eval.executors.ray import RayExecutor

    return RayExecutor(address, workers)
