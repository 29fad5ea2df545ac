"""One context, many questions: reading it once against re-reading it for every question, in one run."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Chunk, MemoryMethod, MethodSettings, Query
from deltamem_eval.methods.delta_mem import attach, detach, save_adapter
from deltamem_eval.methods.delta_mem.method import TokenWrite
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.provenance import device_line
from deltamem_eval.tasks.embedded.episodes import all_words
from deltamem_eval.tasks.embedded.pretrain import new_model
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer

POSITIONS = 8192
NEW_TOKENS = 4


def backbone() -> Backbone:
    """The embedded backbone's shape with random weights and more positions; speed does not need training."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = new_model(tokenizer)
    model.config.max_position_embeddings = POSITIONS
    torch.nn.init.normal_(model.lm_head.weight, 0, 0.5)  # else it repeats one word whatever it read
    return Backbone(model, tokenizer, "random", "random")


def text(tokens: int, rng: Random) -> list[Chunk]:
    """Lines of 15 words and a newline, `tokens` tokens in all."""
    words = all_words()
    lines = [" " + " ".join(rng.choices(words, k=15)) + "\n" for _ in range(tokens // 16)]
    return [Chunk(line, index) for index, line in enumerate(lines)]


def questions(count: int, rng: Random) -> list[Query]:
    """Questions of eight words."""
    words = all_words()
    return [
        Query(str(index), " " + " ".join(rng.choices(words, k=8)), ("x",), NEW_TOKENS, ())
        for index in range(count)
    ]


def read(method: MemoryMethod, chunks: Sequence[Chunk]) -> None:
    """Write a whole context into an empty memory."""
    method.reset()
    for chunk in chunks:
        method.write(chunk)


def once(method: MemoryMethod, chunks: Sequence[Chunk], asked: Sequence[Query]) -> list[str]:
    """The harness's way: written once, all questions from the same memory and prefix."""
    read(method, chunks)
    return [answer.text for answer in method.answer(asked)]


def again(method: MemoryMethod, chunks: Sequence[Chunk], asked: Sequence[Query]) -> list[str]:
    """The plain way: the context is read anew for every question."""
    found = []
    for query in asked:
        read(method, chunks)
        found.append(method.answer([query])[0].text)
    return found


def seconds(work: object, *arguments: object) -> tuple[float, list[str]]:
    """Time of one call, and its answers."""
    began = time.perf_counter()
    answers: list[str] = work(*arguments)  # type: ignore[operator]
    return time.perf_counter() - began, answers


def main() -> None:
    """Print a line a method; different answers print no speed and exit with 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--questions", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    rng = Random(0)
    made = backbone()
    chunks, asked = text(arguments.tokens, rng), questions(arguments.questions, rng)
    print(device_line("cpu"))
    print(f"context {arguments.tokens} tokens, {arguments.questions} questions, {NEW_TOKENS} new tokens each")
    print(f"{'method':<14} {'re-read s':>10} {'read once s':>12} {'ratio':>7} {'distinct answers':>18}")
    with tempfile.TemporaryDirectory() as folder:
        attach(made.model, TokenWrite.adapter_config())
        save_adapter(made.model, Path(folder))
        detach(made.model)
        for kind, adapter in ((Vanilla, None), (TokenWrite, folder)):
            method = kind(made, MethodSettings(arguments.tokens, adapter=adapter))
            once(method, chunks[:4], asked[:2])
            fast, fast_answers = seconds(once, method, chunks, asked)
            slow, slow_answers = seconds(again, method, chunks, asked)
            method.close()
            if fast_answers != slow_answers:
                raise SystemExit(f"{kind.name}: answers differ, so no speed is reported")
            distinct = len(set(fast_answers))
            print(
                f"{kind.name:<14} {slow:>10.2f} {fast:>12.2f} {slow / fast:>6.1f}x {distinct:>18}", flush=True
            )


if __name__ == "__main__":
    main()
