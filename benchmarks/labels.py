"""In-context labelling from the state alone, by the number of labels, on many contexts.

Contexts of 128 tokens from evaluation splits under a seed of their own; window 0; exact match of the label.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random

from deltamem_eval.backbone import embedded_folder, load_backbone
from deltamem_eval.interface import MemoryMethod, MethodSettings
from deltamem_eval.methods.delta_mem.method import POLICIES
from deltamem_eval.stats import cluster_bootstrap
from deltamem_eval.tasks.embedded.episodes import make_row
from deltamem_eval.tasks.embedded.task import EmbeddedTask
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row

CONTEXTS, TOKENS, COUNTS = 40, 128, (2, 4, 6, 8)


@dataclass(frozen=True)
class Row:
    """Accuracy of a policy at a number of labels, shares of 1, with its 95 % interval by context."""

    policy: str
    labels: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    guess: float
    questions: int
    contexts: int


def measured(name: str, labels: int, method: MemoryMethod) -> Row:
    """A policy's answers on contexts of so many labels."""
    task, rng = EmbeddedTask(), Random(f"labels/{labels}")
    scores: list[float] = []
    clusters: list[str] = []
    for index in range(CONTEXTS):
        row = make_row("labels", rng, split="eval", context_tokens=TOKENS, associations=labels)
        episode = episode_from_row(row, split="labels", index=index)
        method.reset()
        for chunk in episode.chunks:
            method.write(chunk)
        for query, answer in zip(episode.queries, method.answer(episode.queries), strict=True):
            scores.append(task.score(query, answer.text)["accuracy"])
            clusters.append(episode.id)
    found = cluster_bootstrap(scores, clusters)
    low, high = found.low or 0.0, found.high or 0.0
    return Row(name, labels, found.estimate, low, high, 1 / labels, found.n, CONTEXTS)


def main() -> None:
    """Print the table as Markdown, and write it as CSV where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="a CSV file")
    out = parser.parse_args().out
    backbone = load_backbone("embedded", "cpu", "float32")
    rows = []
    print("| policy | labels | accuracy % [95 %] | guess % | questions | contexts |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, policy in POLICIES.items():
        method = policy(backbone, MethodSettings(0, adapter=str(embedded_folder() / name)))
        for labels in COUNTS:
            rows.append(row := measured(name, labels, method))
            interval = f"{100 * row.accuracy_low:.1f}, {100 * row.accuracy_high:.1f}"
            print(
                f"| {name} | {labels} | {100 * row.accuracy:.1f} [{interval}] | {100 * row.guess:.1f} | "
                f"{row.questions} | {row.contexts} |",
                flush=True,
            )
        method.close()
    if out is not None:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, rows))


if __name__ == "__main__":
    main()
