"""Token-write against its backbone alone: prefill, decoding, and the memory that ingesting a context takes.

The embedded model. The check: states and tokens are those of the token loop. The two models take turns in
short blocks, and a ratio is the median of those between neighbouring blocks: whatever else the machine does
meets both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import torch
from common import Row, Wrong, held_against, rounds, standalone
from deltamem_eval.backbone import Backbone, embedded_folder, load_backbone
from deltamem_eval.interface import Chunk, MethodSettings
from deltamem_eval.methods.delta_mem import get_state, load_adapter, reset_state, writing
from deltamem_eval.methods.delta_mem.hooks import use_form
from deltamem_eval.methods.delta_mem.ingest import ingest
from deltamem_eval.methods.delta_mem.method import TokenWrite
from deltamem_eval.profiling.allocations import Allocations
from deltamem_eval.tasks.embedded.episodes import all_words
from torch import Tensor

NAME = "decode"
ADAPTER = embedded_folder() / "token-write"
PROMPT, LONG, NEW = 1024, 4096, (64, 256)
INGESTED = (4096, 262_144)
REPEATS = 9  # of a prefill
BLOCK = 8  # tokens a model decodes before it is the other's turn
TOLERANCE = 1e-4
PREFILL, PEAK = 1 / 1.25, 1 / 1.1  # of the backbone's speed; of a short ingest's peak
DECODE = {"reading only": 1 / 1.3, "writing": 1 / 1.3}


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
    """Raises Wrong unless states and tokens are those of the token loop."""
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
        raise Wrong("states or tokens are not those of the token loop")


def near(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Whether two sets of states are the same but for rounding."""
    return got.keys() == wanted.keys() and all(
        torch.allclose(got[path], wanted[path], atol=TOLERANCE, rtol=TOLERANCE) for path in wanted
    )


def in_turns(one: Callable[[], object], other: Callable[[], object], what: str, **row: Any) -> list[Row]:
    """Rows of the backbone alone and of the one that carries memories."""
    cases = f"vanilla: {what}", f"token-write: {what}"
    target, repeats = row.pop("target"), row.pop("repeats")
    seconds = rounds(dict(zip(cases, (one, other), strict=True)), repeats)
    return held_against(NAME, seconds, cases[0], targets={cases[1]: target}, **row)


def prefill_rows(bare: Any, carrying: Any, what: str, work: Callable[[Any, Tensor], object]) -> list[Row]:
    """The backbone's prefill, and `work` on the one that carries memories."""
    ids = random_ids(bare, LONG)

    def with_memory() -> None:
        reset_state(carrying)
        work(carrying, ids)

    alone = partial(prefill, bare, ids)
    return in_turns(alone, with_memory, what, metric="time", target=PREFILL, repeats=REPEATS)


def decode_rows(bare: Any, carrying: Any, tokens: int, write: bool) -> list[Row]:
    """Blocks of tokens after the prompt."""
    ids = random_ids(bare, PROMPT)
    reset_state(carrying)
    with writing(carrying, True):
        decoders = Decoder(bare, ids), Decoder(carrying, ids)
    with writing(carrying, write):
        one, other = (partial(decoder.go_on, BLOCK) for decoder in decoders)
        rate: dict[str, Any] = {"metric": "decode", "unit": "tokens/s", "amount": BLOCK}
        how = "writing" if write else "reading only"
        what, target = f"{tokens} tokens after {PROMPT}, {how}", DECODE[how]
        return in_turns(one, other, what, target=target, repeats=tokens // BLOCK, **rate)


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


def peak_rows(backbone: Backbone) -> Iterator[Row]:
    """Peaks of a short and of a long ingest."""
    short, long = (ingest_peak(backbone, tokens) for tokens in INGESTED)
    for tokens, peak in zip(INGESTED, (short, long), strict=True):
        shown, case = peak / 2**20, f"state-only ingest: {tokens} tokens"
        row = Row(NAME, case, "peak memory", shown, shown, shown, "MiB")
        if peak is not short:
            against = f"state-only ingest: {INGESTED[0]} tokens"
            ratio = short / long
            row = replace(row, ratio=ratio, ratio_min=ratio, ratio_max=ratio, against=against, target=PEAK)
        yield row


def write_only(model: Any, ids: Tensor) -> None:
    """A context that nothing is asked of yet."""
    ingest(model, ids, torch.zeros_like(ids))


@torch.no_grad()
def rows() -> Iterator[Row]:
    """Check, then time, then count bytes."""
    bare, carrying = (load_backbone("embedded", "cpu", "float32") for _ in range(2))
    load_adapter(carrying.model, ADAPTER)
    check(carrying.model)
    models = bare.model, carrying.model
    yield from prefill_rows(*models, f"prefill of {LONG} tokens", prefill)
    yield from prefill_rows(*models, f"prefill, or state-only ingest, of {LONG} tokens", write_only)
    for tokens in NEW:
        for write in (True, False):
            yield from decode_rows(*models, tokens, write)
    yield from peak_rows(bare)


if __name__ == "__main__":
    standalone(NAME, rows)
