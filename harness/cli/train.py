"""`train` and `convert-qasper`: making the trained part of a method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from deltamem_eval.cli.config import HELP, use_file
from deltamem_eval.cli.output import check_file, write_file
from deltamem_eval.errors import UserError


def train(
    method: Annotated[str, typer.Argument(help="a δ-mem policy, memgen, context2lora or mlp-memory")],
    model: Annotated[str, typer.Option(help="embedded, a local folder, or a hub name")],
    data: Annotated[Path, typer.Option(help="episodes: a file in MemoryAgentBench's row schema")],
    out: Annotated[Path, typer.Option(help="folder of the adapter, its log and checkpoint")],
    steps: Annotated[
        int | None,
        typer.Option(help="updates: 70; for mlp-memory 1,000, or 5 times through its datastore if more"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="what an update learns: 32 contexts; for mlp-memory 4,096 positions"),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate: 2e-4; for mlp-memory 4e-4")] = None,
    write_length: Annotated[
        int, typer.Option(help="tokens kept of a context, its last ones, whatever the method does with it")
    ] = 8192,
    parts: Annotated[
        int | None,
        typer.Option(help="groups of like length an update's contexts are read in, one by one in memory: 1"),
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the initialisation and the order")] = 42,
    datastore_tokens: Annotated[int | None, typer.Option(help="mlp-memory's datastore: 200,000")] = None,
    neighbours: Annotated[int | None, typer.Option(help="mlp-memory imitates so many: 1,024")] = None,
    temperature: Annotated[float | None, typer.Option(help="mlp-memory's τ over distances: 16")] = None,
    alpha: Annotated[float | None, typer.Option(help="mlp-memory's share of imitation: 0.4")] = None,
    blocks: Annotated[
        int | None, typer.Option(help="mlp-memory's size: 0, as many as the backbone has layers")
    ] = None,
    depth: Annotated[
        float | None, typer.Option(help="mlp-memory reads the layer at this share of the backbone's: 0.7")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="of memgen's adapters: 8")] = None,
    targets: Annotated[
        str | None, typer.Option(help="modules of memgen's adapters, separated by commas: all linear ones")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1..., or spread over all GPUs")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    config: Annotated[Path | None, typer.Option(help=HELP, callback=use_file, is_eager=True)] = None,
) -> None:
    """Train a method's part; the same command goes on from the last checkpoint.

    Started by `accelerate launch` or torchrun, the processes share each update's contexts, and the result is
    that of one process; --use_fsdp shares the backbone's layers out too.

    δ-mem adapters write the context into their state and answer without it in the prompt, the paper's
    objective. memgen's weaver and context2lora's static adapter have the context in the prompt. For these,
    --batch counts contexts, each with all its questions. mlp-memory imitates a nearest-neighbour search over
    contexts and answers; its --batch counts positions (tokens) of its datastore. docs/training.md has more.
    """
    from deltamem_eval import processes
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.phases import is_out_of_memory
    from deltamem_eval.recipes import adapters_of, distillation_of, settings_of, trainer_of
    from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row, load_rows
    from rich.console import Console
    from rich.progress import Progress
    from transformers.utils import logging

    own = {"neighbours": neighbours, "temperature": temperature, "alpha": alpha, "blocks": blocks}
    how = distillation_of(method, {"tokens": datastore_tokens, **own, "depth": depth})
    trainer = trainer_of(method, how, adapters_of(method, rank, targets))
    asked = {"steps": steps, "batch": batch, "lr": lr, "parts": parts}
    settings = settings_of(method, {**asked, "write_length": write_length, "seed": seed}, how)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    rows = load_rows(data)
    device = processes.start(device)
    if settings.batch < processes.size():
        raise UserError(
            f"--batch {settings.batch} gives {processes.size()} processes nothing to share: raise it"
        )
    backbone = load_backbone(model, device, dtype)
    episodes = [episode_from_row(row, split=data.stem, index=index) for index, row in enumerate(rows)]
    length = min(write_length, backbone.positions)
    settings = replace(
        settings, write_length=length, accumulate=settings.parts > 1, backbone=backbone.weights
    )
    bar = Progress(console=Console(stderr=True), disable=not processes.is_main())
    task = bar.add_task(f"training {method}", total=settings.steps)

    def report(row: dict[str, Any]) -> None:
        bar.start()  # not before there is a step to show: what is refused is one line
        bar.update(task, completed=row["step"], description=f"training {method}, loss {row['loss']:.3f}")

    try:
        trainer(backbone, episodes, settings, out, report)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"memory ran out while training {method}: {_smaller(method)}") from error
    finally:
        if bar.live.is_started:
            bar.stop()
    if processes.is_main():
        for notice in backbone.notices:
            typer.echo(f"note: {notice}", err=True)
        typer.echo(f"trained weights in {out}")


def _smaller(method: str) -> str:
    """What makes an update of a method's training smaller."""
    if method == "mlp-memory":
        return "lower --batch, --blocks or --datastore-tokens"
    return "lower --batch or --write-length, or raise --parts, up to one context a group"


def qasper(
    file: Annotated[Path, typer.Argument(help="QASPER's JSON, for example qasper-train-v0.3.json")],
    out: Annotated[Path, typer.Option(help="the .jsonl file to write")],
) -> None:
    """Turn QASPER's JSON into episodes to train on: one row a paper, with every answerable question."""
    from deltamem_eval.tasks.qasper import rows_from_qasper

    check_file(out)
    rows = rows_from_qasper(file)
    write_file(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    typer.echo(f"{len(rows)} episodes, {sum(len(row['questions']) for row in rows)} questions in {out}")
