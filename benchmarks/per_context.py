"""Context2LoRA fitted to each context: which rate answers most, on training episodes of the embedded world.

The default is chosen here, on the training split; tables use the evaluation split.
"""

from __future__ import annotations

import argparse
from random import Random
from statistics import fmean

from deltamem_eval.backbone import load_backbone
from deltamem_eval.interface import Episode, MethodSettings
from deltamem_eval.methods.context2lora.method import Context2Lora
from deltamem_eval.tasks.embedded.episodes import KINDS, Drawing, training_row
from deltamem_eval.tasks.embedded.task import EmbeddedTask
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row

RATES = (5e-4, 2e-3, 8e-3)


def episodes(contexts: int) -> list[Episode]:
    """Training episodes, the kinds in turn."""
    made = []
    for index in range(contexts):
        rng = Random(f"per-context/{index}")
        row = training_row(rng, 128, Drawing((KINDS[index % len(KINDS)],), (4,), 6))
        made.append(episode_from_row(row, split="train", index=index))
    return made


def main() -> None:
    """Print a line a rate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contexts", type=int, default=12)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    fixed = {"mode": "per-context", "steps": arguments.steps, "batch": arguments.batch}
    listed = episodes(arguments.contexts)
    backbone, task = load_backbone("embedded", "cpu", "float32"), EmbeddedTask()
    print(f"{'rate':>8} {'accuracy %':>11}  by source")
    for rate in RATES:
        method = Context2Lora(backbone, MethodSettings(0, options={**fixed, "lr": rate}))
        scores: dict[str, list[float]] = {}
        for episode in listed:
            method.reset()
            for chunk in episode.chunks:
                method.write(chunk)
            for query, answer in zip(episode.queries, method.answer(episode.queries), strict=True):
                scores.setdefault(episode.source, []).append(task.score(query, answer.text)["accuracy"])
        method.close()
        means = ", ".join(f"{source} {100 * fmean(found):.0f}" for source, found in sorted(scores.items()))
        print(
            f"{rate:>8g} {100 * fmean(item for found in scores.values() for item in found):>11.1f}  {means}",
            flush=True,
        )


if __name__ == "__main__":
    main()
