"""Token-write against its backbone alone on a GPU, with random weights: prefill, decoding, memory, training.

Decoding in three ways: eager with a growing cache; one captured CUDA graph a token with a static cache; and
compiled (`reduce-overhead`, one graph) with a static cache. Correctness first: the fused step must give what
the plain one gives, and a captured graph the tokens of the same steps uncaptured; else no speed is printed
and the exit code is 1. The backbone alone is measured before and after, so that drift shows. Writes a CSV.
Without a CUDA device it says so and exits with 2.

Targets: decoding at no less than 0.95 of the backbone's tokens a second with CUDA graphs and 0.85 eager; peak
memory within 1 %.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.methods.delta_mem import attach, detach, reset_state, trainable_parameters
from deltamem_eval.methods.delta_mem.hooks import is_attached
from deltamem_eval.methods.delta_mem.method import TokenWrite
from deltamem_eval.methods.delta_mem.step import step_plain, step_token
from deltamem_eval.methods.delta_mem.train import loss_of
from deltamem_eval.methods.training import Example, TrainSettings
from deltamem_eval.profiling.random_models import random_backbone
from deltamem_eval.provenance import device_line
from transformers import StaticCache

DEVICE = "cuda"
WARM_UP = 8
TOLERANCE = 1e-5
TRAINED = 8192
QUESTION = 32  # tokens of a question, and of an answer


def prompt_of(backbone: Backbone, tokens: int) -> list[int]:
    """Any tokens but the special ones."""
    generator = torch.Generator().manual_seed(tokens)
    ids: list[int] = torch.randint(2, backbone.config["vocab_size"], (tokens,), generator=generator).tolist()
    return ids


class Eager:
    """A token after the other with a cache that grows."""

    def __init__(self, backbone: Backbone, prompt: list[int], room: int) -> None:
        self.model, self.cache = backbone.model, read(backbone, prompt)
        self.token = torch.full((1, 1), prompt[-1], device=backbone.device)
        self.made = torch.zeros(1, room, dtype=torch.long, device=backbone.device)
        self.count = torch.zeros(1, dtype=torch.long, device=backbone.device)

    def step(self) -> None:
        """Decode a token; nothing waits for the device."""
        self.take(self.model(self.token, past_key_values=self.cache, use_cache=True))

    def go_on(self, tokens: int) -> None:
        """Decode that many more."""
        for _ in range(tokens):
            self.step()

    def take(self, output: Any) -> None:
        """Keep the likeliest token, at an address that stays."""
        self.token.copy_(output.logits[:, -1:].argmax(-1))
        self.made.index_copy_(1, self.count, self.token)
        self.count.add_(1)


class Static(Eager):
    """The same with a cache of one size, and a mask and positions made on the device."""

    def __init__(self, backbone: Backbone, prompt: list[int], room: int) -> None:
        super().__init__(backbone, prompt, room)
        self.length = len(prompt) + room
        grown, self.cache = self.cache, StaticCache(config=self.model.config, max_cache_len=self.length)
        for index, layer in enumerate(grown.layers):
            self.cache.update(layer.keys, layer.values, index)
        self.forward: Callable[..., Any] = self.model

    def step(self) -> None:
        seen = self.cache.get_seq_length()
        mask = torch.arange(self.length, device=self.token.device) <= seen
        output = self.forward(
            self.token,
            attention_mask=mask[None, None, None],
            position_ids=seen.reshape(1, 1),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.take(output)


class Captured(Static):
    """The same, captured once as a CUDA graph and replayed."""

    def __init__(self, backbone: Backbone, prompt: list[int], room: int) -> None:
        super().__init__(backbone, prompt, room)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                super().step()
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            super().step()

    def step(self) -> None:
        self.graph.replay()


class Compiled(Static):
    """The same, compiled as transformers' generate compiles it."""

    def __init__(self, backbone: Backbone, prompt: list[int], room: int) -> None:
        super().__init__(backbone, prompt, room)
        self.forward = torch.compile(self.model, mode="reduce-overhead", fullgraph=True)


WAYS: dict[str, type[Eager]] = {"eager": Eager, "graph": Captured, "compiled": Compiled}


def read(backbone: Backbone, prompt: list[int]) -> Any:
    """The cache after a prefill that writes too, into an empty memory."""
    if is_attached(backbone.model):
        reset_state(backbone.model)
    prefix = backbone.prefill(prompt)
    assert prefix is not None
    return prefix.cache


def check(backbone: Backbone) -> None:
    """Exit with 1 where a fast form is wrong."""
    config = TokenWrite.adapter_config()
    rows, heads, rank = 3, config.num_state_heads, config.rank
    projected = torch.randn(rows, 3 * config.width + config.gates, device=DEVICE)
    states = [torch.randn(rows, heads, rank, rank, device=DEVICE)]
    states.append(states[0].clone())
    fused = step_token(projected, states[0], None, config, True)
    plain = step_plain(projected, states[1], None, config, True)
    for got, wanted in ((fused, plain), (states[0], states[1])):
        if not torch.allclose(got, wanted, atol=TOLERANCE, rtol=TOLERANCE):
            raise SystemExit("the fused step is wrong: no speed is reported")
    prompt, found = prompt_of(backbone, 256), []
    for way in (Static, Captured):
        decoder = way(backbone, prompt, 64)
        decoder.go_on(64 - int(decoder.count))
        found.append(decoder.made)
    if not torch.equal(*found):
        raise SystemExit("a captured graph decodes other tokens: no speed is reported")


def milliseconds(work: Callable[[], object]) -> float:
    """Time of one call on the device."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended)


def rows_of(backbone: Backbone, prompt: list[int], tokens: int, turns: int) -> Iterator[dict[str, Any]]:
    """What is measured at one length: prefill, and decoding in every way."""
    read(backbone, prompt)
    yield summary("prefill", [milliseconds(partial(read, backbone, prompt)) for _ in range(turns)], 1)
    for name, way in WAYS.items():
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        decoder = way(backbone, prompt, 2 * WARM_UP + turns * tokens)
        decoder.go_on(WARM_UP)
        turn = partial(decoder.go_on, tokens)
        yield summary(name, [milliseconds(turn) for _ in range(turns)], tokens)
        del decoder, turn


def summary(name: str, times: list[float], tokens: int) -> dict[str, Any]:
    """Medians and spread a token, and the peak of memory so far."""
    each = [took / tokens for took in times]
    return {
        "what": name,
        "median_ms": round(statistics.median(each), 4),
        "least_ms": round(min(each), 4),
        "most_ms": round(max(each), 4),
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def training(backbone: Backbone, turns: int) -> dict[str, Any]:
    """A step of training on one context of TRAINED tokens, forward and backward."""
    ids = prompt_of(backbone, TRAINED + 2 * QUESTION)
    question = tuple(ids[TRAINED : TRAINED + QUESTION]), tuple(ids[TRAINED + QUESTION :])
    example = Example((tuple(ids[:TRAINED]),), (question,))

    def step() -> None:
        for parameter in trainable_parameters(backbone.model):
            parameter.grad = None
        loss_of(backbone.model, [example], TrainSettings(batch=1)).backward()  # type: ignore[no-untyped-call]

    with torch.enable_grad():
        step()
        torch.cuda.reset_peak_memory_stats()
        return summary(f"training, {TRAINED} tokens", [milliseconds(step) for _ in range(turns)], 1)


def measured(backbone: Backbone, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows: the backbone alone, with memories, and alone again."""
    for kind in ("vanilla", "token-write", "vanilla again"):
        if kind == "token-write":
            attach(backbone.model, TokenWrite.adapter_config())
            check(backbone)
        for length in arguments.lengths:
            prompt = prompt_of(backbone, length)
            for row in rows_of(backbone, prompt, arguments.tokens, arguments.turns):
                yield {"model": kind, "prompt": length, **row}
        if kind == "token-write":
            yield {"model": kind, "prompt": TRAINED, **training(backbone, arguments.turns)}
            detach(backbone.model)


def ratios(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Speed and peak of the one with memories against the backbone alone."""
    by = {(row["model"], row["prompt"], row["what"]): row for row in rows}
    for (kind, length, what), row in by.items():
        base = by.get(("vanilla", length, what))
        if kind != "vanilla" and base is not None:
            speed = base["median_ms"] / row["median_ms"]
            peak = row["peak_bytes"] / base["peak_bytes"]
            yield f"{kind} against vanilla, {length} tokens, {what}: speed {speed:.3f}, peak {peak:.4f}"


@torch.no_grad()
def main() -> None:
    """Check, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen3-4B-Instruct-2507", help="a config; weights are random")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384, 32768], help="of prompts")
    parser.add_argument("--tokens", type=int, default=64, help="decoded in a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_decode: there is no CUDA device here, and nothing else to measure", file=sys.stderr)
        raise SystemExit(2)
    room = 2 * WARM_UP + arguments.tokens * arguments.turns
    positions = max(*arguments.lengths, TRAINED) + room + 2 * QUESTION
    backbone = random_backbone(arguments.model, torch.device(DEVICE), arguments.dtype, positions)
    machine, rows = device_line(DEVICE), []
    print(machine)
    with arguments.out.open("w", newline="") as file:
        writer = None
        for row in measured(backbone, arguments):
            rows.append(row)
            if writer is None:
                writer = csv.DictWriter(file, ["machine", *row])
                writer.writeheader()
                print(*row)
            print(*row.values(), flush=True)
            writer.writerow({"machine": machine, **row})
    print(*ratios(rows), sep="\n")


if __name__ == "__main__":
    main()
