"""A backbone for benchmarks: the embedded one's shape with random weights and more positions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Chunk, MemoryMethod, MethodSettings, Query
from deltamem_eval.methods.delta_mem import attach, detach, save_adapter
from deltamem_eval.methods.delta_mem.method import POLICIES
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.tasks.embedded.episodes import all_words
from deltamem_eval.tasks.embedded.pretrain import new_model
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer

POSITIONS = 8192


def backbone() -> Backbone:
    """Speed does not need training; the head is wide, else it repeats one word whatever it read."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = new_model(tokenizer)
    model.config.max_position_embeddings = POSITIONS
    torch.nn.init.normal_(model.lm_head.weight, 0, 0.5)
    return Backbone(model, tokenizer, "random", "random")


@contextmanager
def method(name: str, made: Backbone, window: int) -> Iterator[MemoryMethod]:
    """Vanilla, or a policy of δ-mem with a fresh adapter, on the backbone within the block."""
    if name == Vanilla.name:
        yield Vanilla(made, MethodSettings(window))
        return
    with tempfile.TemporaryDirectory() as folder:
        attach(made.model, POLICIES[name].adapter_config())
        save_adapter(made.model, Path(folder))
        detach(made.model)
        found = POLICIES[name](made, MethodSettings(window, adapter=folder))
    try:
        yield found
    finally:
        found.close()


def text(tokens: int, rng: Random) -> list[Chunk]:
    """Lines of 15 words and a newline, `tokens` tokens in all."""
    words = all_words()
    lines = [" " + " ".join(rng.choices(words, k=15)) + "\n" for _ in range(tokens // 16)]
    return [Chunk(line, index) for index, line in enumerate(lines)]


def questions(count: int, new_tokens: int, rng: Random) -> list[Query]:
    """Questions of eight words, answered with so many tokens at most."""
    words = all_words()
    return [
        Query(str(index), " " + " ".join(rng.choices(words, k=8)), ("x",), new_tokens, ())
        for index in range(count)
    ]


def read(found: MemoryMethod, chunks: list[Chunk]) -> None:
    """Write a whole context into an empty memory."""
    found.reset()
    for chunk in chunks:
        found.write(chunk)
