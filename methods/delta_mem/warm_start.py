"""A start for an adapter: its parts fitted on the frozen backbone's hidden states.

From random projections the answers' cross-entropy must find at once what to write, where to look and how to
say it; a small adapter then learns which values stand in a context and, for thousands of updates, not which
key each belongs to. Here the parts meet without the backbone in between, in a tenth of the time: the state
after one write per message, read by the last token of a question, is added straight to the residual stream
before the final norm. Three losses: the answer's first token; the question's key against the keys of the
messages that answer it (contrastive); and writes of the tokens that do not end a message towards none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from deltamem_eval.methods.delta_mem.hooks import (
    attachment_of,
    reset_state,
    trainable_parameters,
    writing,
)
from deltamem_eval.methods.delta_mem.memory import LayerMemory, message_means
from deltamem_eval.methods.training import Example, Report, Source
from torch import Tensor, nn
from torch.nn import functional

_LOG_TEMPERATURE = 2.0  # of the similarity of keys, where it starts


@dataclass(frozen=True)
class WarmStart:
    """How the parts are fitted.

    updates, lr: of AdamW; the rate rises over a tenth of them and falls after a cosine. write, rest: write
    gates of message ends at the start, and of all other tokens as their target. rest_weight: of that target's
    loss. output: share of the fitted output correction that is kept; the layers above amplify it.
    """

    updates: int = 600
    lr: float = 1e-2
    write: float = 0.12
    rest: float = 5e-4
    rest_weight: float = 5.0
    output: float = 0.5


class Layer(NamedTuple):
    """Hidden states at one layer's attention input: of each message's write [contexts, messages, width], of
    every context token [contexts, tokens, width], and of each question's last token [questions, width].
    """

    written: Tensor
    tokens: Tensor
    asked: Tensor


class Seen(NamedTuple):
    """What the frozen backbone makes of a batch.

    layers: by module path. residual: before the final norm, at each question's last token [questions, width].
    answers: first answer tokens [questions]. owner: context of each question. evidence [questions, messages]:
    messages that answer it. present [contexts, messages]: real messages. rest [contexts, tokens]: real tokens
    that end no message.
    """

    layers: Mapping[str, Layer]
    residual: Tensor
    answers: Tensor
    owner: Tensor
    evidence: Tensor
    present: Tensor
    rest: Tensor


def warm_start(model: Any, source: Source, settings: WarmStart, report: Report = lambda _: None) -> None:
    """Fit the memories attached to `model` on the examples of `source`, which must name their evidence.

    Raises UserError where no question of a batch has evidence, or the model's final norm is not found.
    """
    attachment = attachment_of(model)
    config = attachment.config
    temperature = nn.Parameter(torch.tensor(_LOG_TEMPERATURE, device=model.device))
    first = observe(model, source.batch(0))
    for path, memory in attachment.memories.items():
        begin(memory, first.layers[path].written, settings.write)
    parameters = [*trainable_parameters(model), temperature]
    optimiser = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.lr, total_steps=settings.updates, pct_start=0.1
    )
    began = time.perf_counter()
    for step in range(settings.updates):
        seen = observe(model, source.batch(step))
        answer, match, rest, accuracy = losses(model, seen, temperature.exp(), settings.rest)
        optimiser.zero_grad(set_to_none=True)
        (answer + match + settings.rest_weight * rest).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        parts = {"answer": answer, "match": match, "rest": rest, "accuracy": accuracy}
        row = {name: round(float(value.detach()), 4) for name, value in parts.items()}
        report({"step": step + 1, **row, "seconds": time.perf_counter() - began})
    with torch.no_grad():
        for memory in attachment.memories.values():
            memory.delta_o_proj.mul_(settings.output if "o" in config.delta_heads else 1.0)
    reset_state(model)


@torch.no_grad()
def begin(memory: LayerMemory, written: Tensor, write: float) -> None:
    """Random projections of unit spread on what is written; reading and writing start with equal keys."""
    scale = float(written.std()) * written.shape[-1] ** 0.5
    for parameter in (memory.memory_k_proj, memory.memory_v_proj):
        parameter.copy_(torch.randn(parameter.shape) / scale)
    memory.memory_q_proj.copy_(memory.memory_k_proj)
    memory.delta_o_proj.copy_(torch.randn(memory.delta_o_proj.shape) / memory.config.width**0.5)
    memory.beta_proj.zero_()
    memory.beta_bias.fill_(float(torch.logit(torch.tensor(write))))


def losses(model: Any, seen: Seen, temperature: Tensor, rest: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses of the answers, of the keys' match and of the other tokens' gates, and the answers' accuracy."""
    attachment = attachment_of(model)
    config = attachment.config
    residual, match, leak = seen.residual, seen.residual.new_zeros(()), seen.residual.new_zeros(())
    known = seen.evidence.any(1)
    if not bool(known.any()):
        raise UserError("a warm start needs questions that name their evidence, and the batch has none")
    for path, memory in attachment.memories.items():
        layer = seen.layers[path]
        state, keys = memory.written_state(layer.written, seen.present)
        queries = memory.keys_of(layer.asked[:, None], "q")
        reads = (queries @ state[seen.owner].transpose(-1, -2)).transpose(1, 2).flatten(1)
        residual = residual + config.alpha / config.rank * functional.linear(reads, memory.delta_o_proj)
        similar = (queries @ keys[seen.owner].transpose(-1, -2)).squeeze(2).mean(1) * temperature
        similar = similar.masked_fill(~seen.present[seen.owner], -torch.inf)
        right = similar.log_softmax(-1).masked_fill(~seen.evidence, -torch.inf)
        match = match - right[known].logsumexp(-1).mean()
        if config.memory_write_granularity == "token":
            gates = functional.linear(layer.tokens[seen.rest], memory.beta_proj, memory.beta_bias)
            wanted = torch.full_like(gates, rest)
            leak = leak + functional.binary_cross_entropy_with_logits(gates, wanted)
    logits = model.get_output_embeddings()(_final_norm(model)(residual)).float()
    accuracy = (logits.argmax(-1) == seen.answers).float().mean()
    count = len(attachment.memories)
    return functional.cross_entropy(logits, seen.answers), match / count, leak / count, accuracy


@torch.no_grad()
def observe(model: Any, examples: Sequence[Example]) -> Seen:
    """Run contexts and questions through the backbone with its memories silent, and keep what is needed."""
    config = attachment_of(model).config
    device = model.device
    contexts = [[token for message in example.messages for token in message] for example in examples]
    tokens, mask = _padded(contexts, device)
    ids = torch.full_like(tokens, -1)
    for row, example in enumerate(examples):
        numbers = [index for index, message in enumerate(example.messages) for _ in message]
        ids[row, : len(numbers)] = torch.tensor(numbers, device=device)
    ends = mask & (ids != torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-1))
    hidden, _ = _hidden(model, tokens, mask)
    questions = [list(prompt) for example in examples for prompt, _ in example.questions]
    asked, asked_mask = _padded(questions, device)
    found, residual = _hidden(model, asked, asked_mask)
    rows, last = torch.arange(len(questions), device=device), asked_mask.sum(1) - 1
    layers = {
        path: Layer(_written(config, x, ids, mask, ends), x, found[path][rows, last])
        for path, x in hidden.items()
    }
    counts = [len(example.questions) for example in examples]
    owner = torch.arange(len(examples), device=device).repeat_interleave(torch.tensor(counts, device=device))
    present = torch.arange(int(ids.max()) + 1, device=device) <= ids.max(1, keepdim=True).values
    answers = torch.tensor([answer[0] for item in examples for _, answer in item.questions], device=device)
    evidence = _evidence(examples, present.shape[1], device)
    return Seen(layers, residual[rows, last], answers, owner, evidence, present, mask & ~ends)


def _written(config: DeltaMemConfig, x: Tensor, ids: Tensor, mask: Tensor, ends: Tensor) -> Tensor:
    """The states that messages write: their means, or their last tokens where every token writes."""
    if config.memory_write_granularity != "token":
        return message_means(x, ids, mask)[0]
    return message_means(x, torch.where(ends, ids, -1), mask)[0]


def _evidence(examples: Sequence[Example], messages: int, device: torch.device) -> Tensor:
    listed = [lines for example in examples for lines in (example.evidence or ((),) * len(example.questions))]
    table = torch.zeros(len(listed), messages, dtype=torch.bool, device=device)
    for row, lines in enumerate(listed):
        table[row, list(lines)] = True
    return table


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids and their mask [rows, tokens]."""
    width = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return tokens.to(device), (torch.arange(width) < lengths[:, None]).to(device)


def _hidden(model: Any, tokens: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs of the adapted attention layers by path, and of the final norm, in float32."""
    kept: dict[str, Tensor] = {}

    def keeper(path: str) -> Any:
        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kept[path] = (kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]).float()

        return keep

    modules = {path: model.get_submodule(path) for path in attachment_of(model).memories}
    watched = {**modules, "": _final_norm(model)}
    hooks = [
        module.register_forward_pre_hook(keeper(path), with_kwargs=True) for path, module in watched.items()
    ]
    reset_state(model)
    try:
        with writing(model, False):
            model.get_decoder()(tokens, attention_mask=mask.long(), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {path: kept[path] for path in modules}, kept[""]


def _final_norm(model: Any) -> nn.Module:
    norm = getattr(model.get_decoder(), "norm", None)
    if not isinstance(norm, nn.Module):
        raise UserError(
            f"{type(model).__name__} has no final norm named 'norm': train it without a warm start"
        )
    return norm
