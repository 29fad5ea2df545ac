"""What a run was made with: versions, device, commit, command."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "deltamem-eval",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "rank-bm25",
    "bm25s",
    "nltk",
)


def provenance(device: str) -> dict[str, Any]:
    """The fields of `run.json` that the machine and the checkout decide. device: its `device_line`."""
    commit, dirty = commit_of(Path.cwd())
    return {
        "command": ["deltamem-eval", *sys.argv[1:]],
        "versions": versions(),
        "device": device,
        "commit": commit,
        "dirty": dirty,
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
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


def commit_of(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and dirty flag, where `folder` is in a checkout of this project; else None for both."""
    if not (folder / "harness" / "interface.py").is_file():
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
