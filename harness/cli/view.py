"""`view`: the page of some runs, served on this machine alone."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from deltamem_eval.errors import UserError


def view(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs and profiles")],
    port: Annotated[int, typer.Option(help="port on 127.0.0.1; 0 takes a free one")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="only print the address")] = False,
) -> None:
    """Show tables, figures and every sample of runs in a browser, until Ctrl-C."""
    from deltamem_eval.serving import HOST, serve

    if not 0 <= port <= 65535:
        raise UserError(f"--port is a number from 0 to 65535, not {port}")
    with TemporaryDirectory(prefix="deltamem-eval-") as folder, serve(Path(folder), port) as server:
        _write(Path(folder), runs)
        address = f"http://{HOST}:{server.server_port}/"
        typer.echo(f"{address} shows {', '.join(map(str, runs))}; Ctrl-C ends")
        if not no_browser:
            typer.launch(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended", err=True)


def _write(folder: Path, paths: list[Path]) -> None:
    """The page as `index.html` in a folder. Raises UserError for inputs that cannot be shown."""
    from deltamem_eval.reports.artefacts import gather, sort_inputs
    from deltamem_eval.reports.write import write_whole_page

    inputs = sort_inputs(paths)
    made = gather(inputs)
    write_whole_page(folder / "index.html", made.tables, made.drawings, inputs, None)
