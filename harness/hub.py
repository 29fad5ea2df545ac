"""Models and adapters by hub name: which version the local cache holds, and where adapters are."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from deltamem_eval.errors import UserError

_FILES = ("config.json", "modules.json", "tokenizer.json")
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/name
# What methods read of an adapter. The release's weights are a torch file, which is read as tensors alone.
_ADAPTER_FILES = ("*.json", "*.safetensors", "delta_mem_adapter.pt")


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


def adapter_folder(name: str) -> str:
    """The folder of trained weights named by folder or hub name (`owner/name`, its main revision).

    Of a hub repository only config and weight files at its top are fetched, once a process; offline, what the
    local cache holds is taken. Raises UserError where there is neither folder nor repository.
    """
    place = Path(name)
    if place.is_dir():
        return name
    if place.exists():
        raise UserError(f"no adapter at {name}: it is a file, and an adapter is a folder")
    if not _NAME.fullmatch(name):
        raise UserError(f"no adapter at {name}: there is no such folder")
    return _snapshot(name)


@cache
def _snapshot(name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    missing = f"no adapter at {name}: there is no such folder"
    try:
        return str(snapshot_download(name, allow_patterns=list(_ADAPTER_FILES), ignore_patterns=["*/*"]))
    except LocalEntryNotFoundError:
        raise UserError(f"{missing}, the local hub cache lacks it, and the hub cannot be reached") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{missing}, and the hub has no such repository, or only for those who log in"
        ) from None
    except Exception as error:  # the hub's client raises many kinds
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot fetch adapter {name} from the hub: {line}") from error
