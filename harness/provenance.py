"""What a run was made with: versions, device, code, command.

The commit is that of the repository the code runs in, or else the one pip noted. An installation from a
folder, such as that of `make`, has neither: there the environment variable DELTAMEM_EVAL_COMMIT may tell it,
a commit's hash, with `-dirty` after it where the tree it was installed from differed. `make results` and the
profiles' targets do. `code`, the hash of the files themselves, is not taken from it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json, sha256_of

COMMIT = "DELTAMEM_EVAL_COMMIT"
_TOLD = re.compile(r"([0-9a-f]{7,64})(-dirty)?")
_PACKAGE = "deltamem-eval"
_ROOMS = ("methods", "tasks", "reports", "results")  # beside the rest in a checkout, within it once installed
_PACKAGES = (
    _PACKAGE,
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "rank-bm25",
    "bm25s",
    "nltk",
    "safetensors",
    "peft",
    "llmlingua",
    "sentence-transformers",
    "tiktoken",
    "rouge-score",
    "rapidfuzz",
    "lm-eval",
    "triton",
)


def provenance(device: str, packages: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of `run.json` that the machine and the code decide. device: its `device_line`. packages:
    others than ours that methods or tasks come from.
    """
    return {
        "command": [_PACKAGE, *sys.argv[1:]],
        "versions": versions(packages),
        "device": device,
        **code_facts(),
    }


def code_facts(folders: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """Which code runs, wherever the command is given. folders: as from `code_folders`, which is the default.

    code: hash of the package's own .py files, the same for a checkout and for what is installed from it.
    commit: of the repository that holds these very files, where they run in place (an editable installation);
    else the one that pip noted when it installed from a repository; else the one that the environment tells;
    else None. dirty: whether the package's folders differ from the commit; None where that is not known.
    Raises UserError where the environment tells what is no commit.
    """
    folders = code_folders() if folders is None else folders
    commit, dirty = _checked_out(folders)
    if commit is None:
        commit = _recorded_commit(folders[""])
    if commit is None:
        commit, dirty = _told_commit()
    return {"commit": commit, "dirty": dirty, "code": hash_code(folders)}


def code_folders() -> dict[str, Path]:
    """Folders of the package's code by their names within it; "" is its own."""
    found = {"": Path(__file__).resolve().parent}
    for room in _ROOMS:
        spec = find_spec(f"deltamem_eval.{room}")
        for place in (spec and spec.submodule_search_locations) or ():
            found[room] = Path(place).resolve()
    return found


def hash_code(folders: Mapping[str, Path]) -> str:
    """Hash of the names and contents of all .py files in folders by name."""
    files = {
        (Path(name) / file.relative_to(folder)).as_posix(): sha256_of(file)
        for name, folder in folders.items()
        for file in folder.rglob("*.py")
    }
    return hash_json(files)


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers, those named among them."""
    found = {"python": platform.python_version()}
    for name in (*_PACKAGES, *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_line(device: str) -> str:
    """One line that names the machine a number was measured on. device: one, or several between commas."""
    import torch

    if device.startswith("cuda"):
        found = Counter(torch.cuda.get_device_name(name) for name in device.split(","))
        names = " + ".join(name if count == 1 else f"{count} × {name}" for name, count in found.items())
        return f"{names}, CUDA {torch.version.cuda}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"CPU {platform.machine()}, {threads} threads, torch {torch.__version__}"


def _checked_out(folders: Mapping[str, Path]) -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the repository that tracks the code's files; None for both where none does.

    One that merely surrounds them, as around a virtual environment in a project's folder, does not.
    """
    home = folders[""]
    if _git(home, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None, None
    places = [str(folder) for folder in folders.values()]
    status = _git(home, "status", "--porcelain", "--untracked-files=no", "--", *places)
    return _git(home, "rev-parse", "HEAD"), None if status is None else bool(status)


def _recorded_commit(home: Path) -> str | None:
    """The commit that pip noted of the installation in `home`, by PEP 610's direct_url.json."""
    try:
        installed = distribution(_PACKAGE)
    except PackageNotFoundError:
        return None
    if Path(str(installed.locate_file(home.name))).resolve() != home:
        return None
    try:
        commit = json.loads(installed.read_text("direct_url.json") or "{}")["vcs_info"]["commit_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(commit)


def _told_commit() -> tuple[str | None, bool | None]:
    """Commit and dirty flag that the environment tells; None for both where it tells nothing."""
    told = os.environ.get(COMMIT, "")
    if not told:
        return None, None
    found = _TOLD.fullmatch(told)
    if found is None:
        raise UserError(
            f"{COMMIT} is a commit's hash, with -dirty after it where the tree differs, not {told!r}"
        )
    return found[1], found[2] is not None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
