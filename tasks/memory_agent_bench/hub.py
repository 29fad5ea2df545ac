"""Where MemoryAgentBench's rows come from: the hub at one revision, or files of the same names at hand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deltamem_eval.errors import UnavailableError, UserError
from deltamem_eval.hashing import sha256_of
from deltamem_eval.tasks.memory_agent_bench.sources import CATEGORIES

REPOSITORY = "ai-hyz/MemoryAgentBench"
CODE = "github.com/HUST-AI-HYZ/MemoryAgentBench"
REVISION = "7ea066982b140a19337e17e60d45d4076e042faf"


@dataclass(frozen=True)
class SplitFile:
    """A split's file in the repository. sha256: of the file at REVISION, 64 hex digits."""

    split: str
    category: str
    sha256: str

    @property
    def path(self) -> str:
        """Path in the repository."""
        return f"data/{self.split}-00000-of-00001.parquet"


_RETRIEVAL, _LEARNING, _RANGE, _FORGETTING = CATEGORIES
# Several public projects that read these files pin the same four checksums.
SPLITS = (
    SplitFile(
        "Accurate_Retrieval",
        _RETRIEVAL,
        "56c3cd80fb6731a3e53cd1a6be3148f54df60ff2d290ee50e28f8acebf9655c1",
    ),
    SplitFile(
        "Test_Time_Learning",
        _LEARNING,
        "5338753be48f925d03318eed66117286e3489025fabe050a547bd086cd7d79c0",
    ),
    SplitFile(
        "Long_Range_Understanding",
        _RANGE,
        "5ab175461954db67770d4a4cb69e569b513ebb96aceb9ee79b57f67488bcd539",
    ),
    SplitFile(
        "Conflict_Resolution",
        _FORGETTING,
        "24d5c3f09ce0ce15625cb9f8a98f44f0d864ca6c94d7b4ad04eb697ca3a5ff45",
    ),
)
# Movies by number; at the top of the repository.
ENTITY_FILE = "entity2id.json"
ENTITY_SHA256 = "63353aca481bc9558b502f91cb98f6fa26438796fdd7e0bc06b5a1532126e8b5"
SUFFIXES = (".parquet", ".json", ".jsonl")


def own_cache() -> Path:
    """The folder in the user's cache that is ours; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deltamem-eval"


def find_split(split: SplitFile, folder: str) -> Path:
    """The file of a split: in `folder` where one is named, else from the hub or its cache.

    A local file may be the hub's parquet, or bear the split's name with .parquet, .json or .jsonl. Raises
    UnavailableError where the hub and its cache do not give it, UserError where the folder does not, or where
    a parquet file is not that of REVISION by its checksum.
    """
    found = _local(split, Path(folder)) if folder else _download(split)
    if is_checked(found):
        own = sha256_of(found)
        if own != split.sha256:
            remedy = "run it as --rows FILE if that is meant" if folder else "delete it and download it again"
            raise UserError(
                f"{found} is not the pinned {split.path}: sha256 {own[:16]}…, expected "
                f"{split.sha256[:16]}…; {remedy}"
            )
    return found


def is_checked(file: Path) -> bool:
    """Whether a file of `find_split` is known to be that of REVISION; other formats have no checksum."""
    return file.suffix == ".parquet"


def _local(split: SplitFile, folder: Path) -> Path:
    names = [split.path, Path(split.path).name, *(f"{split.split}{suffix}" for suffix in SUFFIXES)]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} holds no {split.split}: expected one of {', '.join(names[1:])}")


def _download(split: SplitFile) -> Path:
    return fetch(split.path, split.sha256, "put it into a folder and give --task-option path=FOLDER")


def fetch(path: str, sha256: str, instead: str) -> Path:
    """A file of the repository at REVISION, from the hub or its cache; the caller is to check it.

    sha256: what it should have, 64 hex digits; instead: what can be done offline. Raises UnavailableError,
    which says both, where neither the hub nor its cache gives the file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(REPOSITORY, path, repo_type="dataset", revision=REVISION))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UnavailableError(
            f"cannot get {path} (sha256 {sha256}) of {REPOSITORY} at {REVISION[:12]}: go online once, or "
            f"{instead} ({type(error).__name__})"
        ) from None
