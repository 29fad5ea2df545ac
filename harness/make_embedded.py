"""Makes everything the embedded default ships: tokenizer, backbone, adapters, logs and the model card."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from deltamem_eval.tasks.embedded.episodes import GENERATOR_VERSION, training_row

if TYPE_CHECKING:
    from deltamem_eval.methods.training import Example

POLICIES = ("token-write", "sequence-write", "multi-write")
STEPS, BATCH, QUESTIONS, LR, WARMUP = 1500, 20, 12, 5e-3, 0.03
LONGEST = (120, 240, 480)  # of an update's contexts, in tokens
# Share of updates whose questions follow the end of their context, and how many questions they have.
WINDOWED, WINDOWED_QUESTIONS = 0.25, 4
PROCESSES = 2
CARD_SEED = 1000  # the card's own evaluation seed; published tables use others
CARD = "MODEL_CARD.md"


class FreshEpisodes:
    """Training episodes drawn anew for every update: the same step gives the same episodes.

    In a share of the updates the last tokens of each context, up to half of it, stand before its questions,
    as they do in a run with a window.
    """

    def __init__(self, encode: Callable[[str], list[int]], seed: int, batch: int = BATCH) -> None:
        self._encode, self._seed, self._batch = encode, seed, batch

    def batch(self, step: int) -> Sequence[Example]:
        """The examples of one update."""
        rng = Random(f"adapter/{self._seed}/{step}")
        longest, windowed = rng.choice(LONGEST), rng.random() < WINDOWED
        return [self._example(rng, longest, windowed) for _ in range(self._batch)]

    def identity(self) -> str:
        """The generator's version and what it is asked for."""
        asked = [QUESTIONS, WINDOWED, WINDOWED_QUESTIONS]
        return json.dumps(["embedded", GENERATOR_VERSION, self._seed, self._batch, LONGEST, asked])

    def _example(self, rng: Random, longest: int, windowed: bool) -> Example:
        from deltamem_eval.methods.training import Example

        row = training_row(rng, longest, WINDOWED_QUESTIONS if windowed else QUESTIONS)
        messages = tuple(tuple(self._encode(line)) for line in row["context"].splitlines(keepends=True))
        tokens = [token for message in messages for token in message]
        window = tokens[-rng.randint(1, len(tokens) // 2) :] if windowed else []
        questions = tuple(
            ((*window, *self._encode(question)), tuple(self._encode(f" {golds[0]}\n")))
            for question, golds in zip(row["questions"], row["answers"], strict=True)
        )
        return Example(messages, questions)


def train_adapter(policy: str, backbone: Path, out: Path, device: str, seed: int, steps: int = STEPS) -> None:
    """Train one adapter on the frozen backbone by the code of `deltamem-eval train`; resumable."""
    from deltamem_eval.backbone import load_backbone
    from deltamem_eval.methods.delta_mem.method import POLICIES as CLASSES
    from deltamem_eval.methods.delta_mem.train import train
    from deltamem_eval.methods.training import CHECKPOINT, TrainSettings

    loaded = load_backbone(str(backbone), device, "float32")
    settings = TrainSettings(
        steps=steps, batch=BATCH, lr=LR, warmup=WARMUP, write_length=512, seed=seed, save_every=100
    )

    def report(row: dict[str, Any]) -> None:
        if row["step"] % 25 == 0:
            print(json.dumps({"policy": policy, **row}), flush=True)

    source = FreshEpisodes(loaded.encode, seed)
    train(loaded.model, CLASSES[policy].adapter_config(), source, settings, out, report)
    (out / CHECKPOINT).unlink()


def evaluate(weights: Path, scratch: Path, device: str) -> str:
    """The result table of every policy from its state alone, with its controls, as Markdown."""
    from deltamem_eval.display import Display
    from deltamem_eval.reports.summary import summary_table
    from deltamem_eval.reports.table import to_markdown
    from deltamem_eval.session import Request, check, execute

    runs = []
    for policy in POLICIES:
        request = Request(
            methods=(policy,),
            model=str(weights / "backbone"),
            adapter=str(weights / policy),
            windows=(0,),
            seeds=(CARD_SEED,),
            controls=True,
            device=device,
        )
        runs.append(scratch / policy)
        with Display(4, quiet=False) as display:
            execute(check(request), runs[-1], display)
    return to_markdown(summary_table(runs))


def write_card(weights: Path, seed: int, scores: str) -> None:
    """MODEL_CARD.md: what was made, from what, how, and how well it does."""
    lines = [
        "# Model card: the embedded default",
        "",
        "A tiny decoder and δ-mem adapters for it, for trying the harness without downloads. They know the",
        "embedded world's words and nothing else: scores on other text say nothing about larger models.",
        "",
        f"Made by `make embedded` from generator version {GENERATOR_VERSION} with seed {seed}; training and",
        "evaluation share no name, code, utterance or binding. Apache-2.0, like the code.",
        "",
        "| part | parameters | updates | last loss | minutes |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_part(weights / name) for name in ("backbone", *POLICIES)),
        "",
        "The backbone climbs a ladder (copying, records, one wording, all wordings). Adapters: the paper's",
        f"objective; an update draws {BATCH} new contexts, of up to {LONGEST[0]}, {LONGEST[1]} or",
        f"{LONGEST[2]} tokens, with up to {QUESTIONS} questions each, answered from the state alone. In",
        f"{WINDOWED:.0%} of the updates {WINDOWED_QUESTIONS} questions follow the end of their context",
        f"instead. Peak learning rate {LR}. Every log is a train_log.jsonl beside its weights.",
        "",
        f"## Scores on evaluation seed {CARD_SEED}",
        "",
        scores,
    ]
    (weights / CARD).write_text("\n".join(lines), encoding="utf-8")


def _part(folder: Path) -> str:
    from safetensors import safe_open

    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as weights:
        count = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    rows = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    steps = sum(row["step"] for row, after in zip(rows, [*rows[1:], None], strict=True) if _ends(row, after))
    minutes = rows[-1]["seconds"] / 60
    return f"| {folder.name} | {count:,} | {steps:,} | {rows[-1]['loss']:.3f} | {minutes:.0f} |"


def _ends(row: dict[str, Any], after: dict[str, Any] | None) -> bool:
    """Whether a log line is the last of its rung, or of the log."""
    return after is None or after.get("rung") != row.get("rung")


def build(out: Path, device: str, seed: int, only: Sequence[str]) -> None:
    """Make what `only` names, backbone first, then adapters, then the card; it replaces what was there."""
    from deltamem_eval.tasks.embedded.pretrain import pretrain

    if "backbone" in only:
        shutil.rmtree(out / "backbone", ignore_errors=True)
        pretrain(out / "backbone", device, seed)
    _train_side_by_side([policy for policy in POLICIES if policy in only], out, device, seed)
    if "card" in only:
        with tempfile.TemporaryDirectory() as scratch:
            write_card(out, seed, evaluate(out, Path(scratch), device))


def _train_side_by_side(policies: Sequence[str], out: Path, device: str, seed: int) -> None:
    """Train adapters in processes of one thread each, so that the number of cores changes no weight."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, torch.set_num_threads, (1,)) as pool:
        waiting = [
            pool.submit(train_adapter, policy, out / "backbone", out / policy, device, seed)
            for policy in policies
        ]
        for future in waiting:
            future.result()


def main() -> None:
    """Command line: `python -m deltamem_eval.make_embedded --out DIR`."""
    from deltamem_eval.tasks.embedded.pretrain import SEED

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="+", default=["backbone", *POLICIES, "card"])
    arguments = parser.parse_args()
    torch.set_num_threads(PROCESSES)
    build(arguments.out, arguments.device, arguments.seed, arguments.only)


if __name__ == "__main__":
    main()
