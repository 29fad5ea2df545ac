"""Training a δ-mem adapter by the paper's objective (arXiv 2605.12357, section 4).

The context is written into the state in a pass of its own; then each question and its answer run with the
state and without the context, and the cross-entropy on the answer's tokens is minimised. The backbone is
frozen.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem.adapter import save_adapter
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from deltamem_eval.methods.delta_mem.hooks import (
    attach,
    get_state,
    reset_state,
    segments,
    set_state,
    trainable_parameters,
    writing,
)
from torch import Tensor, nn

IGNORED = -100
CHECKPOINT = "checkpoint.pt"
LOG = "train_log.jsonl"


@dataclass(frozen=True)
class TrainSettings:
    """The paper's recipe as defaults.

    steps: updates (2,219 contexts once, 32 an update). batch: contexts an update. write_length,
    answer_length: tokens kept of a context and of an answer.
    """

    steps: int = 70
    batch: int = 32
    lr: float = 2e-4
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0
    write_length: int = 8192
    answer_length: int = 512
    seed: int = 42
    save_every: int = 50


@dataclass(frozen=True)
class Example:
    """One context as messages of token ids, and its questions: (prompt ids, answer ids)."""

    messages: tuple[tuple[int, ...], ...]
    questions: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


class Source(Protocol):
    """Where examples come from: the batch of a step, the same whenever it is asked for."""

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update."""


class Fixed:
    """Examples held in memory, reshuffled every epoch."""

    def __init__(self, examples: Sequence[Example], batch: int, seed: int) -> None:
        if not examples:
            raise UserError("the training data hold no episode with a question")
        self._examples, self._batch, self._seed = examples, batch, seed

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update: consecutive ones of the epoch's order."""
        start = step * self._batch
        return [self._at(position) for position in range(start, start + self._batch)]

    def _at(self, position: int) -> Example:
        epoch, index = divmod(position, len(self._examples))
        generator = torch.Generator().manual_seed(self._seed + epoch)
        return self._examples[int(torch.randperm(len(self._examples), generator=generator)[index])]


def train(
    model: Any,
    config: DeltaMemConfig,
    source: Source,
    settings: TrainSettings,
    out: Path,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """Train an adapter and save it to `out`, with its log and a checkpoint that a later call goes on from.

    Raises UserError where the loss stops being finite (the last good checkpoint is kept), or where `out`
    holds a checkpoint of other settings.
    """
    torch.manual_seed(settings.seed)
    model.requires_grad_(False)
    attach(model, config)
    parameters = trainable_parameters(model)
    optimiser = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, settings))
    start = _resume(out, config, settings, parameters, optimiser, schedule)
    began = time.perf_counter()
    for step in range(start, settings.steps):
        loss = loss_of(model, source.batch(step), settings)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(
                f"the loss became {value} at step {step}: lower --lr; {out} keeps the last good state"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip))
        optimiser.step()
        schedule.step()
        row = {
            "step": step + 1,
            "loss": value,
            "gradient_norm": norm,
            "lr": schedule.get_last_lr()[0],
            "seconds": time.perf_counter() - began,
        }
        _log(out, row)
        report(row)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            _save(out, config, settings, step + 1, parameters, optimiser, schedule)
    reset_state(model)
    save_adapter(model, out, "safetensors")


def rate(step: int, settings: TrainSettings) -> float:
    """Share of the peak learning rate at an update: linear warm-up, then a half cosine to zero."""
    warm = max(round(settings.warmup * settings.steps), 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(settings.steps - warm, 1)))


def loss_of(model: Any, examples: Sequence[Example], settings: TrainSettings) -> Tensor:
    """Mean cross-entropy on the answers' tokens, with every context in the state and none in the prompt."""
    write_contexts(model, [example.messages for example in examples], settings.write_length)
    counts = torch.tensor([len(example.questions) for example in examples], device=model.device)
    state = {path: tensor.repeat_interleave(counts, 0) for path, tensor in get_state(model).items()}
    set_state(model, state)
    pairs = [pair for example in examples for pair in example.questions]
    tokens, mask, labels = _questions(pairs, settings.answer_length, model.device)
    with writing(model, False):
        logits = model(tokens, attention_mask=mask, use_cache=False).logits[:, :-1]
    reset_state(model)
    wanted = labels[:, 1:]
    live = wanted != IGNORED
    return nn.functional.cross_entropy(logits[live].float(), wanted[live])


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
    with writing(model, True), segments(model, ids.to(device)):
        model.get_decoder()(tokens.to(device), attention_mask=mask.to(device), use_cache=False)


def _questions(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], answer_length: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, mask and labels [rows, tokens] of questions followed by their answers."""
    rows = [(prompt, answer[:answer_length]) for prompt, answer in pairs]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        tokens[index, :end] = torch.tensor([*prompt, *answer])
        labels[index, len(prompt) : end] = torch.tensor(answer)
        mask[index, :end] = 1
    return tokens.to(device), mask.to(device), labels.to(device)


def _identity(config: DeltaMemConfig, settings: TrainSettings) -> dict[str, Any]:
    return {"adapter": config.to_json(), "settings": asdict(settings)}


def _save(
    out: Path,
    config: DeltaMemConfig,
    settings: TrainSettings,
    step: int,
    parameters: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    state = {
        "identity": json.dumps(_identity(config, settings)),
        "step": step,
        "parameters": [parameter.detach().clone() for parameter in parameters],
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
    }
    temporary = out / f"{CHECKPOINT}.tmp"
    torch.save(state, temporary)
    temporary.replace(out / CHECKPOINT)


def _resume(
    out: Path,
    config: DeltaMemConfig,
    settings: TrainSettings,
    parameters: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> int:
    """Load a checkpoint if there is one; the number of updates already made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
    file = out / CHECKPOINT
    if not file.is_file():
        (out / LOG).unlink(missing_ok=True)
        return 0
    state = torch.load(file, map_location="cpu", weights_only=True)
    if state["identity"] != json.dumps(_identity(config, settings)):
        raise UserError(f"{file} was made with other settings: choose another --out or remove it")
    with torch.no_grad():
        for parameter, value in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(value)
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    _trim_log(out / LOG, state["step"])
    return int(state["step"])


def _log(out: Path, row: dict[str, Any]) -> None:
    with (out / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _trim_log(file: Path, step: int) -> None:
    """Drop the lines of updates that the checkpoint does not hold."""
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[:step]
        file.write_text("".join(lines), encoding="utf-8")
