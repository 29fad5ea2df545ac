"""Ten methods on all of MemoryAgentBench on 1, 8 and 64 GPUs: how long, by arithmetic, not measured.

    python benchmarks/sweep_estimate.py

One line an assumption, all in one place below. Sizes of contexts are the benchmark's own; operations follow
from the backbone's shape. `deltamem-eval run --dry-run` counts real tokens once the data and the tokenizer
are here; this counts attention and generation too, and hands shards (cell x context) to GPUs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deltamem_eval.cells import Cell, plan
from deltamem_eval.estimate import TFLOPS
from deltamem_eval.overhead import ModelShape
from deltamem_eval.registry import METHODS
from deltamem_eval.shapes import find_shape

MODEL = "Qwen/Qwen3-4B-Instruct-2507"
TEN = (
    *("vanilla", "bm25-rag", "llmlingua2", "memorybank", "memgen", "context2lora", "mlp-memory"),
    *("token-write", "sequence-write", "multi-write"),
)
WINDOW = 4096  # the default
GPUS = (1, 8, 64)

# Assumed.
BANDWIDTH = 2e12  # bytes a second of weights and cache read while decoding: 60 % of an H100's 3.35e12 as sold
BATCH = 8  # questions decoded at once
ASKED = 200  # tokens of a question with its instruction
PASS = 8192  # tokens written in one pass


@dataclass(frozen=True)
class Source:
    """A source's contexts: how many, tokens of each in 1,024s, questions of each, new tokens at most."""

    name: str
    contexts: int
    thousands: float
    questions: int
    new_tokens: int


# Facts: arXiv 2507.05257 and the benchmark's configs. eventqa at 65,536 and 131,072: the middle of its range.
SOURCES = (
    Source("ruler_qa1", 1, 197, 100, 50),
    Source("ruler_qa2", 1, 421, 100, 50),
    Source("longmemeval_s*", 5, 355, 60, 50),
    Source("eventqa_full", 5, 534, 100, 40),
    Source("eventqa_131072", 5, 120, 100, 40),
    Source("eventqa_65536", 5, 59, 100, 40),
    Source("icl (five)", 5, 103, 100, 20),
    Source("recsys", 1, 1440, 200, 300),
    Source("infbench_sum", 100, 172, 1, 1200),
    Source("detective_qa", 10, 124, 7, 2000),
    *(Source(f"factconsolidation_{size}k", 2, size, 100, 10) for size in (6, 32, 64, 262)),
)


def seconds(shape: ModelShape, cell: Cell, source: Source) -> float:
    """Of one shard on one GPU: writing, reading prompts, generating every token a source allows."""
    kind = METHODS.load(cell.method)
    context = round(1024 * source.thousands)
    room = shape.positions - ASKED - source.new_tokens
    window = min(context, room if cell.window is None else cell.window)
    tokens = 0.0
    if kind.writes_through:
        passes, rest = divmod(context, PASS)
        tokens += passes * operations(shape, PASS) + operations(shape, rest)
    reads = source.questions if kind.prompt_each else 1
    tokens += reads * operations(shape, window) + source.questions * operations(shape, ASKED, window)
    steps = -(-source.questions // BATCH) * source.new_tokens
    kept = 4 * shape.kv_out * shape.layers * window  # keys and values of two bytes
    fetched = steps * (2 * shape.parameters + kept)
    return tokens / (TFLOPS * 1e12) + fetched / BANDWIDTH


def operations(shape: ModelShape, tokens: int, past: int = 0) -> float:
    """Of a forward over some tokens after `past`: two a parameter, and attention to all that went before."""
    attention = 4 * shape.q_out * shape.layers
    return 2.0 * shape.parameters * tokens + attention * tokens * (past + tokens / 2)


def shards(shape: ModelShape) -> Iterator[tuple[str, float]]:
    """Every shard's name and seconds."""
    for cell in plan(list(TEN), {"memory-agent-bench": [0]}, [WINDOW], controls=True):
        for source in SOURCES:
            for _ in range(source.contexts):
                yield f"{cell.label}, {source.name}", seconds(shape, cell, source)


def makespan(costs: Sequence[float], workers: int) -> float:
    """The time until the last worker ends, when each takes the longest shard left as soon as it is free."""
    busy = [0.0] * workers
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(busy, busy[0] + cost)
    return max(busy)


def main() -> None:
    """Print the sum, the longest shards, and the schedule, as Markdown."""
    _, shape = find_shape(MODEL)
    found = sorted(shards(shape), key=lambda shard: -shard[1])
    costs = [cost for _, cost in found]
    written = sum(1024 * source.thousands * source.contexts for source in SOURCES)
    asked = sum(source.contexts * source.questions for source in SOURCES)
    print(
        f"Estimate, nothing measured: {MODEL}, {shape.parameters / 1e9:.2f}B parameters, {TFLOPS:g} TFLOP/s,"
    )
    print(f"{BANDWIDTH / 1e12:g} TB/s; {written / 1e6:.1f}M tokens of context, {asked:,} questions,")
    print(f"{len(found):,} shards, {sum(costs) / 3600:.1f} GPU hours; the longest shard is the floor from")
    print(f"{sum(costs) / costs[0]:.0f} GPUs on.\n")
    print("| GPUs | hours | speed-up | bound |\n| ---: | ---: | ---: | --- |")
    for workers in GPUS:
        took = makespan(costs, workers)
        bound = "the longest shard" if costs[0] >= sum(costs) / workers else "the sum of all shards"
        print(f"| {workers} | {took / 3600:.2f} | {sum(costs) / took:.1f} | {bound} |")
    print("\n| longest shards | minutes |\n| --- | ---: |")
    for name, cost in list(dict(found).items())[:5]:
        print(f"| {name} | {cost / 60:.1f} |")
    by_method: dict[str, float] = {}
    for name, cost in found:
        by_method[name.partition(",")[0]] = by_method.get(name.partition(",")[0], 0.0) + cost
    print("\n| cell | GPU hours |\n| --- | ---: |")
    for name, cost in sorted(by_method.items(), key=lambda item: -item[1]):
        print(f"| {name} | {cost / 3600:.2f} |")


if __name__ == "__main__":
    main()
