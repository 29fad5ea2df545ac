"""The training loop of every trained method: resumable, logged, stopped by a loss or gradient not finite."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from deltamem_eval import processes
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from torch import Tensor, nn

IGNORED = -100
CHECKPOINT = "checkpoint.pt"
LOG = "train_log.jsonl"
_HELD = {"identity", "step", "parameters", "optimiser", "schedule"}  # in a checkpoint
Report = Callable[[dict[str, Any]], None]
Losses = Tensor | Iterator[Tensor]  # a loss, or its summands, each made when it is asked for


@dataclass(frozen=True)
class TrainSettings:
    """The recipe of arXiv 2605.12357 as defaults.

    steps: updates; 70 of 32 are once through the paper's 2,219 samples. Those are questions, each with its
    paper: QASPER's training split has 888 papers. batch: contexts an update, each with all its questions, so
    that 70 updates see a paper two or three times; of MLP Memory positions in its datastore. schedule: how
    the rate falls after the warm-up. write_length, answer_length: tokens kept of a context, its last ones,
    and of an answer. parts: an update's contexts are worked on in so many groups of like length, so that
    short ones carry little padding; the loss is that of the whole. accumulate: a group's gradient is taken
    before the next one's loss is made, so that memory holds one group; else all are held until the end.
    backbone: which one is trained on, as its loader identifies it, empty where nobody asks: a checkpoint made
    on another is not gone on with.
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
    parts: int = 1
    schedule: Literal["cosine", "linear"] = "cosine"
    accumulate: bool = False
    backbone: str = ""

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on; older ones know no schedule but the cosine and do not name it.

        Whether gradients are accumulated changes the order of sums alone, as the number of processes does.
        """
        values = asdict(self)
        del values["accumulate"]
        if self.schedule == "cosine":
            del values["schedule"]
        if not self.backbone:
            del values["backbone"]
        return values


@dataclass(frozen=True)
class Example:
    """One context as messages of token ids, and its questions: (prompt ids, answer ids).

    evidence: for each question the messages that answer it, by index; empty where nobody knows.
    """

    messages: tuple[tuple[int, ...], ...]
    questions: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    evidence: tuple[tuple[int, ...], ...] = ()


def in_parts(examples: Sequence[Example], settings: TrainSettings) -> list[tuple[list[Example], float]]:
    """This process's examples in groups by the length of their context, each with its share of all the
    update's answer tokens.

    Shares of all groups of all processes sum to 1, and every process has as many groups: what is shared out
    is gathered in step. Each example must have a question. Raises UserError where there are fewer examples
    than processes.
    """
    ordered = processes.share(sorted(examples, key=lambda item: sum(map(len, item.messages))))
    least = len(examples) // processes.size()
    size, more = max(-(-least // settings.parts), 1), len(ordered) - least
    starts = [0, *range(size + more, len(ordered), size)]
    groups = [list(ordered[start:end]) for start, end in pairwise([*starts, len(ordered)])]
    whole = _answer_tokens(examples, settings)
    return [(group, _answer_tokens(group, settings) / whole) for group in groups]


def _answer_tokens(examples: Sequence[Example], settings: TrainSettings) -> int:
    return sum(min(len(answer), settings.answer_length) for item in examples for _, answer in item.questions)


def in_turn(
    groups: Sequence[tuple[list[Example], float]],
    loss_of: Callable[[list[Example]], Tensor],
    settings: TrainSettings,
) -> Losses:
    """The loss of groups with their shares, as `in_parts` gives them: whole, or by group to accumulate.

    loss_of: the mean loss of a group.
    """
    losses = (share * loss_of(group) for group, share in groups)
    return losses if settings.accumulate else torch.stack(list(losses)).sum()


class Source(Protocol):
    """Where examples come from: the batch of a step, the same whenever it is asked for."""

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update."""

    def identity(self) -> str:
        """Hash of all that decides the examples; a checkpoint goes on with the same data only."""


class Fixed:
    """Examples held in memory, reshuffled every epoch."""

    def __init__(self, examples: Sequence[Example], batch: int, seed: int) -> None:
        self._examples = [example for example in examples if example.questions]
        self._batch, self._seed = batch, seed
        if not self._examples:
            raise UserError("the training data hold no episode with a question")

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update: consecutive ones of the epoch's order."""
        start = step * self._batch
        return [self._at(position) for position in range(start, start + self._batch)]

    def _at(self, position: int) -> Example:
        epoch, index = divmod(position, len(self._examples))
        generator = torch.Generator().manual_seed(self._seed + epoch)
        return self._examples[int(torch.randperm(len(self._examples), generator=generator)[index])]

    def identity(self) -> str:
        """Hash of every example."""
        return hash_json([asdict(example) for example in self._examples])


def fit(
    parameters: Sequence[nn.Parameter],
    loss_at: Callable[[int], Losses],
    settings: TrainSettings,
    out: Path,
    identity: dict[str, Any],
    report: Report = lambda _: None,
) -> None:
    """AdamW over `parameters`, with linear warm-up, the settings' schedule and clipping, logging to `out`.

    loss_at: this process's part of the loss of an update, a function of the update's number alone: the parts
    of all processes sum to the loss. identity: JSON values that must be the same for a checkpoint in `out` to
    be gone on with, by as many processes as there may be then. Raises UserError where the loss or its
    gradient stops being finite (the last good checkpoint is kept) or where the checkpoint is of other
    settings.
    """
    optimiser = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, settings))
    state = _State(out, {**identity, "settings": settings.identity()}, list(parameters), optimiser, schedule)
    began = time.perf_counter()
    done = state.resume()
    processes.copy_from_main(parameters)
    for step in range(done, settings.steps):
        optimiser.zero_grad(set_to_none=True)
        value = float(processes.total(_backward(loss_at(step))))
        _check("loss", value, step, out)
        processes.sum_gradients(parameters)
        norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip))
        _check("gradient's norm", norm, step, out)
        optimiser.step()
        schedule.step()
        if not processes.is_main():
            continue
        row = {
            "step": step + 1,
            "loss": value,
            "gradient_norm": norm,
            "lr": schedule.get_last_lr()[0],
            "seconds": time.perf_counter() - began,
        }
        _append(out / LOG, row)
        report(row)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            state.save(step + 1)


def _append(file: Path, row: dict[str, Any]) -> None:
    """Add a line to the log. Raises UserError where the folder takes none."""
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {file.parent}: {error.strerror or error}") from None


def _backward(losses: Losses) -> Tensor:
    """Add the gradient of a loss, or of its summands one after the other; the loss, detached."""
    done = []
    for loss in [losses] if isinstance(losses, Tensor) else losses:
        loss.backward()  # type: ignore[no-untyped-call]
        done.append(loss.detach())
        del loss  # what is left of its graph, before the next is made
    return torch.stack(done).sum()


def _check(what: str, value: float, step: int, out: Path) -> None:
    if not math.isfinite(value):
        raise UserError(
            f"the {what} became {value} at step {step}: lower --lr; {out} keeps the last good state"
        )


def rate(step: int, settings: TrainSettings) -> float:
    """Share of the peak learning rate at an update: linear warm-up, then a half cosine or a line to zero."""
    warm = max(round(settings.warmup * settings.steps), 1)
    if step < warm:
        return (step + 1) / warm
    if settings.schedule == "linear":
        return (settings.steps - step) / max(settings.steps - warm, 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(settings.steps - warm, 1)))


@dataclass
class _State:
    """What a checkpoint holds."""

    out: Path
    identity: dict[str, Any]
    parameters: list[nn.Parameter]
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR

    def save(self, step: int) -> None:
        """Write a checkpoint beside the old one, then put it in its place. Raises UserError where it cannot
        be written.
        """
        state = {
            "identity": json.dumps(self.identity),
            "step": step,
            "parameters": [parameter.detach().clone() for parameter in self.parameters],
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        temporary = self.out / f"{CHECKPOINT}.tmp"
        try:
            torch.save(state, temporary)
            temporary.replace(self.out / CHECKPOINT)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            temporary.unlink(missing_ok=True)
            line = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"cannot write a checkpoint to {self.out}: {line[0]}") from None

    def resume(self) -> int:
        """Load a checkpoint if there is one; the number of updates already made.

        Every process reads it: nothing is saved anew before all have made an update together.
        """
        file = self.out / CHECKPOINT
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            if not file.is_file():
                if processes.is_main():
                    (self.out / LOG).unlink(missing_ok=True)
                    (self.out / LOG).touch()
                return 0
        except OSError as error:
            raise UserError(f"cannot write to {self.out}: {error.strerror or error}") from error
        state = _read_checkpoint(file)
        if state["identity"] != json.dumps(self.identity):
            raise UserError(
                f"{file} was made with other settings or data, or on another backbone: choose another "
                "--out or remove it"
            )
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if processes.is_main():
            _trim_log(self.out / LOG, state["step"])
        return int(state["step"])


def _read_checkpoint(file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises many kinds for a damaged file
        raise UserError(f"{file} is damaged: remove it to begin anew ({type(error).__name__})") from None
    if not isinstance(state, dict) or not state.keys() >= _HELD:
        raise UserError(f"{file} is no checkpoint of ours: choose another --out or remove it")
    return state


def _trim_log(file: Path, step: int) -> None:
    """Drop the lines of updates that the checkpoint does not hold."""
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[:step]
        file.write_text("".join(lines), encoding="utf-8")


def answer_batch(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], answer_length: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, mask and labels [rows, tokens] of prompts followed by their answers."""
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


def answer_loss(model: Any, tokens: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labelled tokens [rows, tokens], in float32."""
    hidden = model.get_decoder()(tokens, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    live = wanted != IGNORED
    return answers_loss(model, hidden[live.to(hidden.device)], wanted[live])


def answers_loss(model: Any, hidden: Tensor, wanted: Tensor | Sequence[int]) -> Tensor:
    """Mean cross-entropy of tokens, from the last hidden states that predict them [tokens, width]."""
    logits = answers_logits(model, hidden)
    return nn.functional.cross_entropy(logits, torch.as_tensor(wanted, device=logits.device))


def answers_logits(model: Any, hidden: Tensor) -> Tensor:
    """The model's logits [tokens, vocab] of the next token, in float32, from last hidden states [tokens,
    width].
    """
    logits: Tensor = model.get_output_embeddings()(hidden).float()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)  # Gemma 2
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits
