"""`train` and `convert-qasper`: making the trained part of a method."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from deltamem_eval.cli.output import check_file, write_file
from deltamem_eval.errors import UserError, unknown


def train(
    method: Annotated[str, typer.Argument(help="a δ-mem policy, memgen, context2lora or mlp-memory")],
    model: Annotated[str, typer.Option(help="embedded, a local folder, or a hub name")],
    data: Annotated[Path, typer.Option(help="episodes: a file in MemoryAgentBench's row schema")],
    out: Annotated[Path, typer.Option(help="folder of the adapter, its log and checkpoint")],
    steps: Annotated[int, typer.Option(help="updates; 70 × 32 is one epoch of the paper's data")] = 70,
    batch: Annotated[int, typer.Option(help="contexts an update")] = 32,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 2e-4,
    write_length: Annotated[int, typer.Option(help="context tokens written in one pass")] = 8192,
    seed: Annotated[int, typer.Option(help="seed of the initialisation and the order")] = 42,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1..., or spread over all GPUs")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
) -> None:
    """Train a method's part; the same command goes on from the last checkpoint.

    Started by `accelerate launch` or torchrun, the processes share each update's contexts, and the result is
    that of one process; --use_fsdp shares the backbone's layers out too.

    δ-mem adapters write the context into their state and answer without it in the prompt, the paper's
    objective. memgen's weaver and context2lora's static adapter have the context in the prompt. mlp-memory
    imitates a nearest-neighbour search over contexts and answers; its --batch counts positions.
    """
    from deltamem_eval import processes
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.methods.training import TrainSettings
    from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row, load_rows
    from deltamem_eval.trainers import TRAINERS
    from rich.console import Console
    from rich.progress import Progress
    from transformers.utils import logging

    if method not in TRAINERS:
        raise unknown("trainable method", method, TRAINERS)
    if steps < 1 or batch < 1 or not 0 < lr < math.inf or write_length < 1:
        raise UserError("--steps, --batch, --lr and --write-length must be numbers above 0")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    rows = load_rows(data)
    device = processes.start(device)
    if batch < processes.size():
        raise UserError(f"--batch {batch} gives {processes.size()} processes nothing to share: raise it")
    backbone = load_backbone(model, device, dtype)
    episodes = [episode_from_row(row, split=data.stem, index=index) for index, row in enumerate(rows)]
    settings = TrainSettings(
        steps=steps, batch=batch, lr=lr, write_length=min(write_length, backbone.positions), seed=seed
    )
    bar = Progress(console=Console(stderr=True), disable=not processes.is_main())
    task = bar.add_task(f"training {method}", total=steps)

    def report(row: dict[str, Any]) -> None:
        bar.start()  # not before there is a step to show: what is refused is one line
        bar.update(task, completed=row["step"], description=f"training {method}, loss {row['loss']:.3f}")

    try:
        TRAINERS[method](backbone, episodes, settings, out, report)
    finally:
        if bar.live.is_started:
            bar.stop()
    if processes.is_main():
        typer.echo(f"trained weights in {out}")


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
