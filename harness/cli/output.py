"""What commands share: words of help, files written whole or not at all, and checks made before the work."""

from __future__ import annotations

from pathlib import Path

from deltamem_eval.errors import UserError

# Those of `deltamem_eval.reports.groups`, which help must not wait for.
BREAKDOWNS = (
    "breakdowns, separated by commas: task, category, source, associations, updates, context_tokens, "
    "question_types, window_share"
)


def check_file(path: Path) -> None:
    """Raises UserError where a file of that name cannot be written."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}")


def check_seed(seed: int) -> None:
    """Raises UserError for a number that seeds no resampling."""
    if seed < 0:
        raise UserError(f"--bootstrap-seed cannot be negative: {seed}")


def check_timeout(seconds: float) -> None:
    """As `deadline.check_timeout`, which help must not wait for."""
    from deltamem_eval.deadline import check_timeout as check

    check(seconds)


def write_file(path: Path, text: str) -> None:
    """Write a checked file, whole or not at all. Raises UserError where the disk refuses."""
    from deltamem_eval.files import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}") from None
