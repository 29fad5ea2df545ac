"""`judge`: verdicts of a language model on the answers of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def judge(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    judge: Annotated[str, typer.Option(help="address of an OpenAI-compatible endpoint, ending in /v1")],
    judge_model: Annotated[str, typer.Option(help="the judge's name there")],
    timeout: Annotated[float, typer.Option(help="seconds a request")] = 60.0,
) -> None:
    """Judge LongMemEval and ∞Bench-Sum answers; what cannot be judged stays unjudged.

    A key, where one is needed, is read from DELTAMEM_EVAL_JUDGE_KEY.
    """
    from deltamem_eval.endpoint import Endpoint, check_url
    from deltamem_eval.judging import judge_run

    endpoint = Endpoint(check_url(judge), judge_model, timeout)
    judged, left = judge_run(run, endpoint, lambda text: typer.echo(text, err=True))
    typer.echo(f"{judged} answers judged by {judge_model}, {left} left unjudged")
