"""Token-write against its backbone alone: prefill, decoding, and the memory that ingesting a context takes.

The embedded model. Correctness first: states and tokens must be those of the token loop, else no speed is
printed and the exit code is 1. The two models take turns in short blocks, and a ratio is the median of those
between neighbouring blocks: whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

import torch
from deltamem_eval.backbone import Backbone, embedded_folder, load_backbone
from deltamem_eval.interface import Chunk, MethodSettings
from deltamem_eval.methods.delta_mem import get_state, load_adapter, reset_state, writing
from deltamem_eval.methods.delta_mem.hooks import use_form
from deltamem_eval.methods.delta_mem.ingest import ingest
from deltamem_eval.methods.delta_mem.method import TokenWrite
from deltamem_eval.profiling.allocations import Allocations
from deltamem_eval.provenance import device_line
from deltamem_eval.tasks.embedded.episodes import all_words
from torch import Tensor

ADAPTER = embedded_folder() / "token-write"
PROMPT, LONG, NEW = 1024, 4096, (64, 256)
INGESTED = (4096, 262144)
BLOCK = 8  # tokens a model decodes before it is the other's turn
TOLERANCE = 1e-4
LIMITS = {"prefill": 1.25, "decode": 1.3, "ingest peak": 1.1}


def random_ids(model: Any, tokens: int) -> Tensor:
    """Any tokens but the special ones [1, tokens]."""
    generator = torch.Generator().manual_seed(tokens)
    return torch.randint(2, model.config.vocab_size, (1, tokens), generator=generator)


def prefill(model: Any, ids: Tensor) -> Any:
    """A forward that keeps keys and values, with logits of the last position."""
    return model(ids, use_cache=True, logits_to_keep=1)


class Decoder:
    """Greedy decoding that can be left and taken up again."""

    def __init__(self, model: Any, prompt: Tensor) -> None:
        output = prefill(model, prompt)
        self._model, self._cache = model, output.past_key_values
        self.tokens = [output.logits[:, -1:].argmax(-1)]

    def go_on(self, count: int) -> None:
        """Decode that many tokens more."""
        for _ in range(count):
            output = self._model(self.tokens[-1], past_key_values=self._cache, use_cache=True)
            self.tokens.append(output.logits[:, -1:].argmax(-1))


def check(model: Any) -> None:
    """Exit with 1 unless states and tokens are those of the token loop."""
    ids, found = random_ids(model, PROMPT), []
    for form in ("naive", "chunked"):
        use_form(model, form)  # type: ignore[arg-type]
        reset_state(model)
        decoder = Decoder(model, ids)
        prefilled = get_state(model)
        decoder.go_on(NEW[0])
        found.append((prefilled, get_state(model), torch.cat(decoder.tokens, 1)))
    reset_state(model)
    ingest(model, ids, torch.zeros_like(ids))
    naive, fast = found
    pairs = (fast[0], naive[0]), (fast[1], naive[1]), (get_state(model), naive[0])
    if not all(near(*pair) for pair in pairs) or not torch.equal(fast[2], naive[2]):
        raise SystemExit("states or tokens are not those of the token loop: no speed is reported")


def near(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Whether two sets of states are the same but for rounding."""
    return got.keys() == wanted.keys() and all(
        torch.allclose(got[path], wanted[path], atol=TOLERANCE, rtol=TOLERANCE) for path in wanted
    )


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(
    one: Callable[[], object], other: Callable[[], object], turns: int
) -> Iterator[tuple[float, float]]:
    """Times of both, turn by turn."""
    for _ in range(turns):
        yield seconds(one), seconds(other)


def show(name: str, times: Sequence[tuple[float, float]], unit: float, limit: float) -> None:
    """A line of the table; unit: what the times are divided by."""
    ratios = sorted(other / one for one, other in times)
    alone, both = (statistics.median(column) / unit for column in zip(*times, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    print(
        f"{name:<34} {1e3 * alone:>10.3f} {1e3 * both:>12.3f} {statistics.median(ratios):>7.2f} "
        f"{f'[{low:.2f}, {high:.2f}]':>14} {limit:>7.2f}",
        flush=True,
    )


def prefill_times(bare: Any, carrying: Any, work: Callable[[Any, Tensor], object], turns: int) -> list[Any]:
    """Times of the backbone's prefill, and of `work` on the one that carries memories."""
    ids = random_ids(bare, LONG)

    def with_memory() -> None:
        reset_state(carrying)
        work(carrying, ids)

    pair = partial(prefill, bare, ids), with_memory
    list(in_turns(*pair, 1))
    return list(in_turns(*pair, turns))


def decode_times(bare: Any, carrying: Any, tokens: int, write: bool) -> list[Any]:
    """Times of blocks of tokens after the prompt."""
    ids = random_ids(bare, PROMPT)
    reset_state(carrying)
    with writing(carrying, True):
        decoders = Decoder(bare, ids), Decoder(carrying, ids)
    with writing(carrying, write):
        blocks = [partial(decoder.go_on, BLOCK) for decoder in decoders]
        return list(in_turns(*blocks, tokens // BLOCK))


def ingest_peak(backbone: Backbone, tokens: int) -> int:
    """Bytes of tensors alive at once while a method of window 0 writes a context of that many tokens."""
    method = TokenWrite(backbone, MethodSettings(0, adapter=str(ADAPTER)))
    words, rng = all_words(), Random(0)
    seen = index = 0
    with Allocations() as found:
        while seen < tokens:
            text = " " + " ".join(rng.choices(words, k=15)) + "\n"
            method.write(Chunk(text, index))
            seen, index = seen + backbone.length(text), index + 1
        method.footprint()  # what was still pending is written
    method.close()
    return found.peak


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7, help="of a prefill")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bare, carrying = (load_backbone("embedded", "cpu", "float32") for _ in range(2))
    load_adapter(carrying.model, ADAPTER)
    check(carrying.model)
    print(device_line("cpu"))
    print(f"{'':<34} {'vanilla ms':>10} {'token-write':>12} {'ratio':>7} {'quartiles':>14} {'target':>7}")
    models = bare.model, carrying.model
    show(f"prefill, {LONG} tokens", prefill_times(*models, prefill, arguments.turns), 1, LIMITS["prefill"])

    def write_only(model: Any, ids: Tensor) -> None:
        ingest(model, ids, torch.zeros_like(ids))

    name = f"ingest of {LONG} tokens, state only"
    show(name, prefill_times(*models, write_only, arguments.turns), 1, LIMITS["prefill"])
    for tokens in NEW:
        for write in (True, False):
            name = f"a token, of {tokens}, {'writing' if write else 'reading only'}"
            show(name, decode_times(*models, tokens, write), BLOCK, LIMITS["decode"])
    peaks = [ingest_peak(bare, tokens) for tokens in INGESTED]
    low, high = (f"{peak / 2**20:.2f} MiB" for peak in peaks)
    found = f"{peaks[1] / peaks[0]:.3f}, target {LIMITS['ingest peak']}"
    print(f"peak of an ingest of {INGESTED[0]} tokens {low}, of {INGESTED[1]} {high}: {found}")


if __name__ == "__main__":
    main()
