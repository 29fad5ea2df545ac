"""A tracked CSV's lines, each as long as the first: a file that was cut short is refused, not half read."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError


def csv_lines(file: Path) -> list[dict[Any, Any]]:
    """Every line's cells by the names in the first. Raises UserError for a file that cannot be read."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def check_whole(cells: Mapping[Any, Any], where: str) -> None:
    """Raises UserError for a line with more or fewer cells than the first. where: file and line."""
    if None in cells or None in cells.values():
        raise UserError(f"{where}: not as many cells as in the first line: is the file whole?")
