"""`judge`: verdicts of a language model on the answers of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from deltamem_eval.cli.output import check_timeout

if TYPE_CHECKING:
    from deltamem_eval.endpoint import Endpoint


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

    check_timeout(timeout)
    typer.echo(judge_folder(run, Endpoint(check_url(judge), judge_model, timeout)))


def judge_folder(run: Path, endpoint: Endpoint) -> str:
    """Judge a run's folder, telling on stderr what goes wrong; one line about how it went."""
    from deltamem_eval.judging import judge_run

    judged, left = judge_run(run, endpoint, lambda text: typer.echo(text, err=True))
    return f"{judged} answers judged by {endpoint.model}, {left} left unjudged"


def judge_asked(url: str | None, model: str | None) -> Endpoint | None:
    """The endpoint that options of another command name, None where neither is given.

    Raises UserError for one without the other and for an address that is none.
    """
    from deltamem_eval.endpoint import Endpoint, check_url
    from deltamem_eval.errors import UserError

    if url is None and model is None:
        return None
    if url is None or model is None:
        missing = "--judge URL" if url is None else "--judge-model NAME"
        raise UserError(f"a judge takes its address and its name: {missing} is missing")
    return Endpoint(check_url(url), model)


def judge_or_note(run: Path, endpoint: Endpoint) -> None:
    """Judge a run that is finished already: whatever stops the judge is a note, and answers stay unjudged."""
    from deltamem_eval.errors import UserError

    try:
        line = judge_folder(run, endpoint)
    except UserError as error:
        line = f"{run} stays unjudged: {error}"
    typer.echo(f"note: {line}", err=True)
