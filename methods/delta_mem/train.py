"""Training a δ-mem adapter by the paper's objective (arXiv 2605.12357, section 4).

The context is written into the state in a pass of its own; then each question and its answer run with the
state and without the context, and the cross-entropy on the answer's tokens is minimised. The backbone is
frozen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from deltamem_eval import processes
from deltamem_eval.methods.delta_mem.adapter import save_adapter
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from deltamem_eval.methods.delta_mem.hooks import (
    attach,
    get_state,
    reset_state,
    set_state,
    trainable_parameters,
    writing,
)
from deltamem_eval.methods.delta_mem.ingest import ingest
from deltamem_eval.methods.delta_mem.warm_start import WarmStart, warm_start
from deltamem_eval.methods.training import (
    CHECKPOINT,
    Example,
    Losses,
    Report,
    Source,
    TrainSettings,
    answer_batch,
    answer_loss,
    fit,
    in_parts,
    in_turn,
)
from deltamem_eval.sharding import shard
from torch import Tensor

WARM_LOG = "warm_start_log.jsonl"


def train(
    model: Any,
    config: DeltaMemConfig,
    source: Source,
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
    warm: tuple[Source, WarmStart] | None = None,
) -> None:
    """Train an adapter and save it to `out`, with its log and a checkpoint that a later call goes on from.

    warm: examples that name their evidence and the settings of a warm start, which is logged beside the
    training. Raises UserError as `training.fit` and `warm_start` do.
    """
    torch.manual_seed(settings.seed)
    model.requires_grad_(False)
    attach(model, config)
    start = None
    if warm is not None:
        start = {"data": warm[0].identity(), **asdict(warm[1])}
        if not (out / CHECKPOINT).is_file():
            with open_log(out / WARM_LOG) as log:
                warm_start(model, *warm, log)
    trained = trainable_parameters(model)
    shard(model, trained)
    fit(
        trained,
        lambda step: loss_of(model, source.batch(step), settings),
        settings,
        out,
        {"adapter": config.to_json(), "data": source.identity(), "start": start},
        report,
    )
    reset_state(model)
    processes.on_main(lambda: save_adapter(model, out, "safetensors"))


@contextmanager
def open_log(file: Path) -> Iterator[Report]:
    """A report that writes one JSON line a row into a new file, on the main process alone."""
    if not processes.is_main():
        yield lambda _: None
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as lines:
        yield lambda row: print(json.dumps(row), file=lines)


def loss_of(model: Any, examples: Sequence[Example], settings: TrainSettings) -> Losses:
    """Mean cross-entropy on the answers' tokens, with every context in the state and none in the prompt.

    Of several processes each returns its part of the mean; with settings that accumulate, in summands.
    """
    groups = in_parts(examples, settings)
    return in_turn(groups, lambda group: _loss_of_group(model, group, settings), settings)


def _loss_of_group(model: Any, examples: Sequence[Example], settings: TrainSettings) -> Tensor:
    write_contexts(model, [example.messages for example in examples], settings.write_length)
    counts = torch.tensor([len(example.questions) for example in examples])
    state = {
        path: tensor.repeat_interleave(counts.to(tensor.device), 0)
        for path, tensor in get_state(model).items()
    }
    set_state(model, state)
    pairs = [pair for example in examples for pair in example.questions]
    batch = answer_batch(pairs, settings.answer_length, model.device)
    with writing(model, False):
        loss = answer_loss(model, *batch)
    reset_state(model)
    return loss


def write_contexts(model: Any, contexts: Sequence[tuple[tuple[int, ...], ...]], write_length: int) -> None:
    """Write one context a row into fresh states, in one pass; of a longer one its last tokens."""
    rows = []
    for messages in contexts:
        flat = [(token, index) for index, message in enumerate(messages) for token in message]
        rows.append(flat[-write_length:])
    width = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    ids = torch.full((len(rows), width), -1)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor([token for token, _ in row])
        ids[index, : len(row)] = torch.tensor([message for _, message in row])
    device = model.device
    mask = (ids >= 0).long()
    reset_state(model)
    ingest(model, tokens.to(device), ids.to(device), mask.to(device))
