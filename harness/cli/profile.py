"""`profile`: memory and speed by context length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from deltamem_eval.cli.output import check_timeout
from deltamem_eval.errors import UserError


def profile(
    method: Annotated[list[str], typer.Option(help="a method's name; repeat or separate by commas")],
    prompt_lengths: Annotated[str, typer.Option(help="context tokens; k is 1,024")] = "1k,2k,4k,8k,16k,32k",
    decode: Annotated[str, typer.Option(help="tokens generated, the same for every method")] = "64,256",
    modes: Annotated[
        str, typer.Option(help="replay: all in the prompt; state-only; window: --window tokens of it")
    ] = "replay,state-only",
    window: Annotated[int, typer.Option(help="context tokens in the prompt, but for mode replay")] = 0,
    model: Annotated[str, typer.Option(help="embedded, a local folder, or a hub name")] = "embedded",
    random_weights: Annotated[
        str | None, typer.Option(help="in place of --model: a listed backbone, a folder or a config.json")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="folder or hub name of the method's trained weights")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, a method's own setting")] = None,
    repeats: Annotated[int, typer.Option(help="passes measured")] = 3,
    warmup: Annotated[int, typer.Option(help="passes before them that are not measured")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    timeout: Annotated[float, typer.Option(help="seconds that a point may take")] = 1800.0,
    estimate: Annotated[bool, typer.Option("--estimate", help="a GPU's peaks from shapes, no GPU")] = False,
    out: Annotated[Path | None, typer.Option(help="the profile's folder")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON")] = False,
) -> None:
    """Measure peak memory by phase and speed, a process a point; the same command goes on after a stop."""
    from deltamem_eval.cli.run import parse_options, print_table
    from deltamem_eval.profiling.request import ProfileRequest, check, parse_lengths
    from deltamem_eval.profiling.sweep import sweep
    from deltamem_eval.reports.profile import profile_table
    from deltamem_eval.reports.render.plain import to_json
    from rich.console import Console
    from rich.text import Text

    if random_weights is not None and model != "embedded":
        raise UserError("--random-weights takes the place of --model: leave one out")
    check_timeout(timeout)
    request = ProfileRequest(
        methods=_names(",".join(method)),
        prompt_lengths=parse_lengths("--prompt-lengths", prompt_lengths),
        decode_lengths=parse_lengths("--decode", decode),
        modes=_names(modes),
        window=window,
        model=model,
        random_weights=random_weights,
        adapter=adapter,
        options=parse_options(option or []),
        repeats=repeats,
        warmup=warmup,
        device=device,
        dtype=dtype,
        estimate=estimate,
    )
    if estimate:  # needs no values, so that a config does for any model
        request = replace(request, random_weights=random_weights or model)
    check(request)
    folder = out or request.default_folder()
    console = Console(stderr=True, quiet=quiet, highlight=False)
    sweep(request, folder, timeout, lambda line: console.print(Text(line), soft_wrap=True))
    table = profile_table([folder])
    if as_json:
        typer.echo(to_json(table), nl=False)
        return
    print_table(table)
    typer.echo(f"stored in {folder}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
