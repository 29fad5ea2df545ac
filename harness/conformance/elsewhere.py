"""The other process of the snapshot's check: restores what was packed and prints the answers as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deltamem_eval.conformance.subject import Subject, questions, replies
from deltamem_eval.interface import Snapshot


def main(folder: Path) -> None:
    """Restore and answer."""
    from safetensors.torch import load_file

    subject = Subject(**json.loads((folder / "subject.json").read_text(encoding="utf-8")))
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    method = subject.make()
    method.restore(Snapshot(load_file(folder / "snapshot.safetensors"), meta))
    print(json.dumps(replies(method, questions())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
