"""Content hashes: SHA-256, the first 16 hex digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DIGITS = 16


def hash_json(value: Any) -> str:
    """Hash of a JSON value in canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hash_text(text)


def hash_text(text: str) -> str:
    """Hash of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:DIGITS]


def hash_ids(ids: Sequence[int]) -> str:
    """Hash of token ids, each as four little-endian bytes."""
    digest = hashlib.sha256()
    for token in ids:
        digest.update(token.to_bytes(4, "little"))
    return digest.hexdigest()[:DIGITS]


def hash_files(paths: Iterable[Path]) -> str:
    """Hash of files' names and contents, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda item: item.name):
        digest.update(path.name.encode("utf-8") + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:DIGITS]
