"""Files that commands write: checked before the work, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from deltamem_eval.errors import UserError


def check_file(path: Path) -> None:
    """Raises UserError where a file of that name cannot be written."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}")


def write_file(path: Path, text: str) -> None:
    """Write a checked file, whole or not at all. Raises UserError where the disk refuses."""
    from deltamem_eval.store import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}") from None
