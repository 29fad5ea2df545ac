"""Reading of a task's JSON file, and the checking of its texts."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from deltamem_eval.errors import UserError

_HALF = re.compile(r"[\ud800-\udfff]")  # of a surrogate pair
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(file: Path) -> tuple[Any, str]:
    """The file's value and the SHA-256 of its bytes (64 hex digits).

    Raises UserError for a file that is absent, cannot be read, or is not JSON in UTF-8.
    """
    try:
        if not file.exists():
            raise UserError(f"{file}: no such file")
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start})") from None
    return parse_json(text, str(file)), hashlib.sha256(data).hexdigest()


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises UserError, beginning with `where`, for another text, one nested too deeply, numbers too long, or
    half of a surrogate pair, which JSON can escape and UTF-8 cannot hold.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise UserError(f"{where} is nested too deeply to be read") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    except ValueError:  # the interpreter's limit of digits
        most = sys.get_int_max_str_digits()
        raise UserError(f"{where} holds a whole number of more than {most} digits") from None
    if _ESCAPED.search(text) or _HALF.search(text):
        check_texts(value, where)
    return value


def check_texts(value: Any, where: str) -> None:
    """Raises UserError, naming `where` and the place, for a text in dicts and lists that is no UTF-8."""
    left = [("", value)]
    while left:
        path, item = left.pop()
        inside: list[tuple[str, Any]] = []
        if isinstance(item, str) and (half := _HALF.search(item)):
            place = f": {path}" if path else ""
            raise UserError(f"{where}{place} holds {half[0]!a}, half of a surrogate pair, which is no UTF-8")
        if isinstance(item, dict):
            inside = [(f"{path}[{key!a}]", part) for key, held in item.items() for part in (key, held)]
        elif isinstance(item, list):
            inside = [(f"{path}[{index}]", held) for index, held in enumerate(item)]
        left += reversed(inside)


def is_text(value: Any) -> TypeGuard[str]:
    """Whether `value` is a text that holds more than white space."""
    return isinstance(value, str) and bool(value.strip())


def one_line(text: str) -> str:
    """The text with each run of white space made one space and none at its ends."""
    return " ".join(text.split())


def refuse(where: str, field: str, wanted: str, found: Any) -> NoReturn:
    """Raises UserError: at `where`, `field` must be `wanted`, and what it is, cut to 60 characters."""
    shown = "nothing" if found is None else repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise UserError(f"{where}: {field} must be {wanted}, not {shown}")
