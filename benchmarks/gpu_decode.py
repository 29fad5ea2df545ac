"""Token-write against its backbone alone on a GPU, with random weights: prefill, decoding, memory, training.

Decoding in three ways: eager with a growing cache; one captured CUDA graph a token with a static cache; and
compiled (`reduce-overhead`, one graph) with a static cache. Correctness first: the fused step must give what
the plain one gives, and a captured graph the tokens of the same steps uncaptured; else no speed is printed
and the exit code is 1, as it is where a compiled step runs without a CUDA graph. The backbone alone is
measured before and after, so that drift shows: the two do not take turns, and a ratio's range holds the worst
turn of one against the best of the other.

`--kinds`, `--ways` and `--lengths` measure a part: its rows take their place in the CSV, beside those that it
has from earlier. Ratios are made from the rows of one machine. The CSV is one that `deltamem-eval regress`
gates. Without a CUDA device it says so and exits with 2.

Targets: prefill at no less than 0.95 of the backbone's speed, decoding at 0.95 of its tokens a second with
CUDA graphs and 0.85 eager; peak memory within 1 %. Exit code 1 where one is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Outcome, Row, Wrong, complain, cuda_seconds, gpu_machine, held_against, line
from decoders import WARM_UP, WAYS, Captured, Static, read
from deltamem_eval.backbone import Backbone
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem import attach, detach, trainable_parameters
from deltamem_eval.methods.delta_mem.method import TokenWrite
from deltamem_eval.methods.delta_mem.step import step_plain, step_token
from deltamem_eval.methods.delta_mem.train import loss_of
from deltamem_eval.methods.training import Example, TrainSettings
from deltamem_eval.profiling.random_models import random_backbone
from kept import Kept, key_of

NAME = "gpu_decode"
DEVICE = "cuda"
TOLERANCE = 1e-5
TRAINED = 8192
QUESTION = 32  # tokens of a question, and of an answer
BASE, MEASURED, AGAIN = KINDS = ("vanilla", "token-write", "vanilla-again")
PARTS = ("prefill", *WAYS, "training")
SPEED = {"prefill": 0.95, "eager": 0.85, "graph": 0.95, "compiled": 0.95}  # of the backbone's
PEAK = 0.99  # of token-write's bytes, the backbone's


class Meter:
    """Time and memory of the CUDA device."""

    def seconds(self, work: Callable[[], object]) -> float:
        """Of one call, the device being idle before."""
        torch.cuda.synchronize()
        return cuda_seconds(work)

    def restart(self) -> None:
        """Count the most bytes from now on."""
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """The most bytes of tensors since the last `restart`."""
        return torch.cuda.max_memory_allocated()


@dataclass(frozen=True)
class Plan:
    """What is measured. tokens: decoded in a turn."""

    kinds: tuple[str, ...]
    ways: tuple[str, ...]
    lengths: tuple[int, ...]
    tokens: int
    turns: int

    @property
    def room(self) -> int:
        """Tokens that one decoder makes."""
        return 2 * WARM_UP + self.tokens * self.turns


def prompt_of(backbone: Backbone, tokens: int) -> list[int]:
    """Any tokens but the special ones."""
    generator = torch.Generator().manual_seed(tokens)
    ids: list[int] = torch.randint(2, backbone.config["vocab_size"], (tokens,), generator=generator).tolist()
    return ids


def check(backbone: Backbone) -> None:
    """Raises Wrong where a fast form is wrong."""
    config = TokenWrite.adapter_config()
    rows, heads, rank = 3, config.num_state_heads, config.rank
    projected = torch.randn(rows, 3 * config.width + config.gates, device=DEVICE)
    states = [torch.randn(rows, heads, rank, rank, device=DEVICE)]
    states.append(states[0].clone())
    fused = step_token(projected, states[0], None, config, True)
    plain = step_plain(projected, states[1], None, config, True)
    for got, wanted in ((fused, plain), (states[0], states[1])):
        if not torch.allclose(got, wanted, atol=TOLERANCE, rtol=TOLERANCE):
            raise Wrong("the fused step gives other values than the plain one")
    prompt, found = prompt_of(backbone, 256), []
    for way in (Static, Captured):
        decoder = way(backbone, prompt, 64)
        decoder.warm()
        decoder.go_on(64 - int(decoder.count))
        found.append(decoder.made)
    if not torch.equal(*found):
        raise Wrong("a captured graph decodes other tokens")


def prefill_rows(backbone: Backbone, kind: str, prompt: list[int], turns: int, meter: Meter) -> list[Row]:
    """The prompt read, and written into an empty memory where there is one."""
    work = partial(read, backbone, prompt)
    work()
    meter.restart()
    seconds = [meter.seconds(work) for _ in range(turns)]
    return rows_of(kind, "prefill", len(prompt), seconds, meter.peak())


def decode_rows(
    backbone: Backbone, kind: str, way: str, prompt: list[int], plan: Plan, meter: Meter
) -> list[Row]:
    """Turns of tokens after the prompt. The peak is decoding's own: weights, cache and what it makes."""
    torch._dynamo.reset()  # what was compiled before lets go of its memory
    decoder = WAYS[way](backbone, prompt, plan.room)
    meter.restart()
    decoder.warm()
    turn = partial(decoder.go_on, plan.tokens)
    seconds = [meter.seconds(turn) for _ in range(plan.turns)]
    return rows_of(kind, way, len(prompt), seconds, meter.peak(), plan.tokens)


def training_rows(backbone: Backbone, kind: str, turns: int, meter: Meter) -> list[Row]:
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
        meter.restart()
        seconds = [meter.seconds(step) for _ in range(turns)]
    return rows_of(kind, "training", TRAINED, seconds, meter.peak())


def rows_of(
    kind: str, part: str, length: int, seconds: list[float], peak: int, tokens: int | None = None
) -> list[Row]:
    """Speed and peak, what they are to be held against, and the targets. tokens: decoded in each turn."""
    case, shown = f"{kind}, {part}: {length} tokens", peak / 2**20
    how: dict[str, Any] = {} if tokens is None else {"metric": "decode", "unit": "tokens/s", "amount": tokens}
    made = held_against(NAME, {case: seconds}, case, **how)
    made.append(Row(NAME, case, "peak memory", shown, shown, shown, "MiB"))
    if kind == BASE or part == "training":
        return made
    targets = (SPEED[part], PEAK) if kind == MEASURED else (None, None)
    against = f"{BASE}, {part}: {length} tokens"
    return [replace(row, against=against, target=target) for row, target in zip(made, targets, strict=True)]


def held(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows that are held against others, with the ratios that follow from those of their machine."""
    by = {key_of(row): row for row in rows}
    for row in by.values():
        if row.against:
            base = by.get((row.benchmark, row.against, row.metric))
            known = base is not None and base.machine == row.machine
            middle, worst, best = _ratios(row, base) if known and base is not None else (None, None, None)
            yield replace(row, ratio=middle, ratio_min=worst, ratio_max=best)


def _ratios(row: Row, base: Row) -> tuple[float, float, float]:
    if row.unit.endswith("/s"):
        return row.median / base.median, row.min / base.max, row.max / base.min
    return base.median / row.median, base.min / row.max, base.max / row.min


def parts(plan: Plan, backbone: Backbone, meter: Meter) -> Iterator[Callable[[], list[Row]]]:
    """All that is to be measured, in order, the memories attached or not as each wants it."""
    for kind in (kind for kind in KINDS if kind in plan.kinds):
        if kind == MEASURED:
            attach(backbone.model, TokenWrite.adapter_config())
            check(backbone)
        for length in plan.lengths:
            prompt = prompt_of(backbone, length)
            if "prefill" in plan.ways:
                yield partial(prefill_rows, backbone, kind, prompt, plan.turns, meter)
            for way in (way for way in WAYS if way in plan.ways):
                yield partial(decode_rows, backbone, kind, way, prompt, plan, meter)
        if kind == MEASURED:
            if "training" in plan.ways:
                yield partial(training_rows, backbone, kind, plan.turns, meter)
            detach(backbone.model)


@torch.no_grad()
def measure(plan: Plan, backbone: Backbone, meter: Meter, kept: Kept, machine: str) -> Outcome:
    """Keep and print every part as soon as it is measured; one that is wrong gives no row."""
    mine, found = set(), Outcome([], [], [])
    try:
        for part in parts(plan, backbone, meter):
            try:
                rows = [replace(row, machine=machine) for row in part()]
            except Wrong as error:
                found.wrong.append(f"{NAME}: {error}")
                continue
            kept.put(rows)
            kept.put(list(held(kept.rows.values())))
            mine.update(key_of(row) for row in rows)
            for row in rows:
                print(line(kept.rows[key_of(row)]), flush=True)
    except Wrong as error:  # no speed of what was attached may be told
        found.wrong.append(f"{NAME}: {error}")
    found.rows.extend(row for key, row in kept.rows.items() if key in mine)
    return found


def asked() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen3-4B-Instruct-2507", help="a config; weights are random")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what is measured")
    parser.add_argument("--ways", nargs="+", choices=PARTS, default=PARTS, help="what of it")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384, 32768], help="of prompts")
    parser.add_argument("--tokens", type=int, default=64, help="decoded in a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write, or to add to")
    return parser.parse_args()


def main() -> None:
    """Check, measure, print and write."""
    arguments = asked()
    if not torch.cuda.is_available():
        print(f"{NAME}: there is no CUDA device here, and nothing else to measure", file=sys.stderr)
        raise SystemExit(2)
    plan = Plan(
        tuple(arguments.kinds),
        tuple(arguments.ways),
        tuple(arguments.lengths),
        arguments.tokens,
        arguments.turns,
    )
    try:
        kept = Kept.of(arguments.out)
        positions = max(*plan.lengths, TRAINED) + plan.room + 2 * QUESTION
        backbone = random_backbone(arguments.model, torch.device(DEVICE), arguments.dtype, positions)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    machine = gpu_machine()
    print(machine)
    found = measure(plan, backbone, Meter(), kept, machine)
    complain(found)
    raise SystemExit(found.code)


if __name__ == "__main__":
    main()
