"""`doctor`: what this machine and installation can do."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Say what is installed, which devices there are, and whether the embedded models are in place."""
    import torch
    from deltamem_eval.backbone import embedded_folder
    from deltamem_eval.provenance import device_line, versions
    from deltamem_eval.registry import METHODS, TASKS

    for package, version in versions().items():
        typer.echo(f"{package:<16}{version}")
    typer.echo(f"cpu             {device_line('cpu')}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            typer.echo(f"cuda:{index}          {device_line(f'cuda:{index}')}")
    else:
        typer.echo("cuda            none")
    folders = sorted(item.name for item in embedded_folder().glob("*") if item.is_dir())
    typer.echo(f"embedded        {', '.join(folders) or 'missing: make embedded'}")
    for row in [*METHODS.listing(), *TASKS.listing()]:
        if row.error:
            typer.echo(f"broken          {row.error}")
