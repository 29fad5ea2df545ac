"""Inside the embedded adapters: where they write, and whether a question's key finds its line.

For every policy and adapted layer: mean write gate at line ends and on all other tokens, and by the number of
labels in the context the share of label questions whose key is nearest, of all lines, to one with the right
label.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from deltamem_eval.backbone import Backbone, embedded_folder, load_backbone
from deltamem_eval.methods.delta_mem.adapter import load_adapter
from deltamem_eval.methods.delta_mem.hooks import attachment_of, detach
from deltamem_eval.methods.delta_mem.method import POLICIES
from deltamem_eval.methods.delta_mem.warm_start import Seen, observe
from deltamem_eval.methods.training import Example
from deltamem_eval.tasks.embedded.episodes import make_row

CONTEXTS, TOKENS, COUNTS = 40, 128, (2, 4, 8)


def examples(backbone: Backbone, labels: int) -> Iterator[Example]:
    """Evaluation contexts with that many labels."""
    rng = Random(f"inside/{labels}")
    for _ in range(CONTEXTS):
        row = make_row("labels", rng, split="eval", context_tokens=TOKENS, associations=labels)
        lines = row["context"].splitlines(keepends=True)
        asked = zip(row["questions"], row["answers"], strict=True)
        yield Example(
            tuple(tuple(backbone.encode(line)) for line in lines),
            tuple(
                (tuple(backbone.encode(text)), tuple(backbone.encode(f" {gold[0]}\n")))
                for text, gold in asked
            ),
            tuple(tuple(map(lines.index, passages)) for passages in row["metadata"]["evidence"]),
        )


def gates(backbone: Backbone, seen: Seen, path: str) -> tuple[float, float]:
    """Mean write gate of what ends a message, or of its mean, and of other tokens."""
    memory = attachment_of(backbone.model).memories[path]
    layer = seen.layers[path]

    def mean(x: torch.Tensor) -> float:
        return float((x @ memory.beta_proj.T + memory.beta_bias).sigmoid().mean())

    return mean(layer.written[seen.present]), mean(layer.tokens[seen.rest])


def matched(backbone: Backbone, seen: Seen, path: str) -> float:
    """Share of questions whose key is nearest to a line that answers them, heads averaged."""
    memory = attachment_of(backbone.model).memories[path]
    layer = seen.layers[path]
    keys = memory.keys_of(layer.written, "k")[seen.owner]
    queries = memory.keys_of(layer.asked[:, None], "q")
    similar = (queries @ keys.transpose(-1, -2)).squeeze(2).mean(1)
    nearest = similar.masked_fill(~seen.present[seen.owner], -torch.inf).argmax(1)
    return float(seen.evidence.gather(1, nearest[:, None]).float().mean())


@torch.no_grad()
def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=embedded_folder())
    weights = parser.parse_args().weights
    backbone = load_backbone(str(weights / "backbone"), "cpu", "float32")
    heads = " | ".join(f"{labels} labels" for labels in COUNTS)
    print(f"| policy | layer | gate at line ends | gate elsewhere | nearest key is right: {heads} |")
    print("| --- | ---: | ---: | ---: |" + " ---: |" * len(COUNTS))
    for policy in POLICIES:
        load_adapter(backbone.model, weights / policy)
        seen = {labels: observe(backbone.model, list(examples(backbone, labels))) for labels in COUNTS}
        by_message = attachment_of(backbone.model).config.memory_write_granularity != "token"
        for path in attachment_of(backbone.model).memories:
            end, rest = gates(backbone, seen[4], path)
            found = " | ".join(f"{matched(backbone, seen[labels], path):.2f}" for labels in COUNTS)
            other = "–" if by_message else f"{rest:.4f}"
            print(f"| {policy} | {path.split('.')[2]} | {end:.3f} | {other} | {found} |")
        detach(backbone.model)


if __name__ == "__main__":
    main()
