"""Which version of a hub model stands in the local cache."""

from __future__ import annotations

from pathlib import Path

_FILES = ("config.json", "modules.json", "tokenizer.json")


def commit_of(name: str) -> str | None:
    """The commit of a hub name's main revision in the local cache; None where nothing of it is there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in _FILES:
        try:
            found = try_to_load_from_cache(name, file)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def identity_of(name: str, suffixes: tuple[str, ...]) -> str:
    """What a model named by folder or hub name is: the hash of the folder's files with those suffixes, or
    the name with its commit.
    """
    from deltamem_eval.hashing import hash_files

    folder = Path(name)
    if folder.is_dir():
        return hash_files(path for path in sorted(folder.rglob("*")) if path.suffix in suffixes)
    return f"{name}@{commit_of(name) or 'unknown'}"
