"""`doctor`: what this machine and installation can do."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Say what is installed, which devices there are, and whether the embedded models are in place."""
    import torch
    from deltamem_eval.backbone import embedded_folder
    from deltamem_eval.provenance import device_line, versions
    from deltamem_eval.registry import METHODS, TASKS

    lines = [*versions().items(), ("cpu", device_line("cpu"))]
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    lines += [(f"cuda:{index}", device_line(f"cuda:{index}")) for index in gpus] or [("cuda", "none")]
    folders = sorted(item.name for item in embedded_folder().glob("*") if item.is_dir())
    lines.append(("embedded", ", ".join(folders) or "missing: make embedded"))
    lines += [("broken", row.error) for row in [*METHODS.listing(), *TASKS.listing()] if row.error]
    width = max(len(name) for name, _ in lines) + 1
    for name, text in lines:
        typer.echo(f"{name:<{width}}{text}")
