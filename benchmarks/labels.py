"""In-context labelling from the state alone, by the number of labels, on many contexts.

Contexts of 128 tokens from evaluation splits under a seed of their own; window 0; exact match of the label.
"""

from __future__ import annotations

from random import Random

from deltamem_eval.backbone import embedded_folder, load_backbone
from deltamem_eval.interface import MethodSettings
from deltamem_eval.methods.delta_mem.method import POLICIES
from deltamem_eval.stats import cluster_bootstrap
from deltamem_eval.tasks.embedded.episodes import make_row
from deltamem_eval.tasks.embedded.task import EmbeddedTask
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row

CONTEXTS, TOKENS, COUNTS = 40, 128, (2, 4, 6, 8)


def main() -> None:
    """Print the table as Markdown."""
    backbone = load_backbone("embedded", "cpu", "float32")
    task = EmbeddedTask()
    print("| policy | labels | accuracy % [95 %] | guess % | questions | contexts |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, policy in POLICIES.items():
        method = policy(backbone, MethodSettings(0, adapter=str(embedded_folder() / name)))
        for labels in COUNTS:
            rng, scores, clusters = Random(f"labels/{labels}"), [], []
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
            interval = f"{100 * (found.low or 0):.1f}, {100 * (found.high or 0):.1f}"
            print(
                f"| {name} | {labels} | {100 * found.estimate:.1f} [{interval}] | {100 / labels:.1f} | "
                f"{found.n} | {CONTEXTS} |",
                flush=True,
            )
        method.close()


if __name__ == "__main__":
    main()
