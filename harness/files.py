"""Files that survive a kill: written whole and put in place, or appended line by line. Locks of folders."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TypeVar

from deltamem_eval.errors import UserError
from pydantic import BaseModel, ValidationError

Record = TypeVar("Record", bound=BaseModel)
LOCK = ".lock"


def write_atomic(file: Path, text: str) -> None:
    """Replace `file` by `text`, whole or not at all, surviving a power cut once this returns.

    Raises OSError where it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
        _sync_folder(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """Have the folder's names on disk too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def append_lines(file: Path, records: Sequence[BaseModel]) -> None:
    """Add a line a record and sync the file to disk. Raises UserError where it cannot be written."""
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.writelines(record.model_dump_json() + "\n" for record in records)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UserError(f"cannot write to {file}: {error.strerror or error}") from None


def is_empty(path: Path) -> bool:
    """Whether a folder holds nothing but what a kill may leave of making it: a lock, a temporary file."""
    return all(
        child.name == LOCK or (child.name.startswith(".") and child.name.endswith(".tmp"))
        for child in path.iterdir()
    )


def drop_torn_line(file: Path) -> None:
    """Cut off a last line that a kill left unfinished, so that appending starts a new one.

    Raises UserError where the file cannot be read or written.
    """
    try:
        if file.exists():
            data = file.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                os.truncate(file, whole)
    except OSError as error:
        raise UserError(f"cannot write to {file}: {error.strerror or error}") from None


def read_lines(file: Path, kind: type[Record]) -> list[Record]:
    """Records of a file's whole lines; none where there is no file.

    Raises UserError for a file that cannot be read, and for a damaged line.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    lines = text.split("\n")
    try:
        return [kind.model_validate_json(line) for line in lines[:-1]]
    except ValidationError as error:
        raise UserError(f"{file} is damaged: {error.error_count()} bad fields in a line") from None


def take_lock(path: Path) -> IO[str]:
    """Hold a folder until the stream is closed. Raises UserError where another process holds it."""
    try:
        stream = (path / LOCK).open("w")
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path} is in use by another process: wait for it or name another folder") from None
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}") from None
    return stream
