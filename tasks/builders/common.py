"""What builders share: settings, results, sources' files, reading and writing."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.files import parse_json
from deltamem_eval.tasks.memory_agent_bench.rows import Row

Count = Callable[[str], int]
SUFFIXES = (".json", ".jsonl", ".parquet")
# Keys that every row's metadata holds, empty where they do not apply.
EMPTY = (
    "demo",
    "haystack_sessions",
    "keypoints",
    "previous_events",
    "question_dates",
    "question_ids",
    "question_types",
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Settings:
    """What rows are wanted.

    tokens: a context's budget, in `count`'s tokens. questions: questions a row. seed: of the first row; each
    further of `resamples` rows takes the next. count: tokens of a text.
    """

    tokens: int
    questions: int
    count: Count
    seed: int = 0
    resamples: int = 1

    def __post_init__(self) -> None:
        """Raises UserError for a number that is too small."""
        for name, value, least in (
            ("--tokens", self.tokens, 1),
            ("--questions", self.questions, 1),
            ("--resamples", self.resamples, 1),
            ("--seed", self.seed, 0),
        ):
            if value < least:
                raise UserError(f"{name} must be {least} or more, not {value}")

    @property
    def seeds(self) -> range:
        """One seed a row."""
        return range(self.seed, self.seed + self.resamples)


@dataclass(frozen=True)
class Built:
    """Rows, and notes for the user, a line each: what was left out and how much."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Builder:
    """A source that can be made. files: what it is made from, in words; empty where it needs none.

    make takes the files or folders given and the settings; it raises UserError for what does not fit.
    """

    summary: str
    files: str
    make: Callable[[Sequence[Path], Settings], Built]


def key(text: str) -> str:
    """A text's words, lower case, one space between them: what counts as the same text."""
    return " ".join(_WORD.findall(text.casefold()))


def read_text(file: Path, encoding: str = "utf-8") -> str:
    """A file's text. Raises UserError where there is none or it is not in that encoding."""
    try:
        with file.open(encoding=encoding, newline="") as stream:
            return stream.read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not {encoding.upper()} text (byte {error.start})") from None
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None


def read_json(file: Path) -> Any:
    """A file's JSON value. Raises UserError where there is none that can be read."""
    return parse_json(read_text(file), str(file))


def listed(paths: Sequence[Path]) -> list[Path]:
    """The files given, and those directly in folders given, sorted. Raises UserError for a missing path."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        files += sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
    return files


def pick(paths: Sequence[Path], what: str, suffix: str, *patterns: str) -> Path:
    """The one file whose name has the suffix and holds a pattern, in any case of letters.

    Earlier patterns go first; none at all takes any file with the suffix. `what` names it in the UserError
    raised where there is none, or more than one.
    """
    files = [file for file in listed(paths) if file.suffix.lower() == suffix]
    for pattern in patterns or ("",):
        found = [file for file in files if pattern in file.name.lower()]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"--source gives {len(found)} files for {what}: {found[0]}, {found[1]}")
    named = f" with {' or '.join(patterns)} in its name" if patterns else ""
    raise UserError(f"--source gives no {what}: a {suffix} file{named}")


def check_target(file: Path) -> None:
    """Raises UserError where rows cannot be written there: a wrong suffix, an existing file, no folder."""
    if file.suffix not in SUFFIXES:
        raise UserError(f"{file}: rows are written as {', '.join(SUFFIXES)}")
    if file.exists():
        raise UserError(f"{file} exists already: remove it, or choose another name")
    if not file.parent.is_dir():
        raise UserError(f"{file.parent} is not a folder")


def write_rows(rows: Iterable[Row], file: Path) -> None:
    """Write rows in the format of the suffix; the file is there whole or not at all.

    Raises UserError as `check_target` does, or where the file cannot be written.
    """
    check_target(file)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.stem}.", suffix=file.suffix, dir=file.parent)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        _write(list(rows), temporary)
        temporary.chmod(0o644)
        temporary.replace(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write(rows: list[Row], file: Path) -> None:
    if file.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        # Lines are told apart by every line end there is, so those within texts are written as escapes.
        for end in "\x85\u2028\u2029":
            text = text.replace(end, f"\\u{ord(end):04x}")
        file.write_text(text, encoding="utf-8")
    else:
        file.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
