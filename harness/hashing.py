"""Content hashes: SHA-256, the first 16 hex digits."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError

DIGITS = 16
_WEIGHTS = (".safetensors", ".bin", ".pt")


def hash_json(value: Any) -> str:
    """Hash of a JSON value in canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hash_text(text)


def hash_text(text: str) -> str:
    """Hash of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:DIGITS]


def hash_ids(ids: Sequence[int]) -> str:
    """Hash of token ids, each as four little-endian bytes."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()[:DIGITS]


def hash_weights(folder: str | Path) -> str:
    """Hash of a folder's configs and weights; logs and checkpoints do not count.

    Raises UserError where there are no weights.
    """
    place = Path(folder)
    found = [path for path in place.glob("*") if path.suffix in (*_WEIGHTS, ".json", ".txt")]
    found = [path for path in found if path.stem != "checkpoint"]
    if not any(path.suffix in _WEIGHTS for path in found):
        raise UserError(f"no weights in {folder}")
    return hash_files(found)


def sha256_of(file: Path) -> str:
    """The whole SHA-256 of a file, as publishers state it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """Hash of files' names and contents, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda item: item.name):
        digest.update(path.name.encode("utf-8") + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:DIGITS]
