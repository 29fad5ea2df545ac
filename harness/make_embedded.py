"""Makes everything the embedded default ships: tokenizer, backbone, adapters, logs and the model card."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from deltamem_eval.embedded_adapters import GAIN, LAYERS, LR, RUNGS, WARM, Rung, train_adapter
from deltamem_eval.embedded_baselines import (
    BASELINES,
    CELLS,
    NEIGHBOURS,
    PROBES,
    SWEEP,
    SWEEP_RUNGS,
    SWEPT_LONGER,
    TEMPERATURE,
    train_baseline,
)
from deltamem_eval.methods.mlp_memory.train import WEIGHT_FILE
from deltamem_eval.tasks.embedded.episodes import GENERATOR_VERSION
from deltamem_eval.tasks.embedded.ladder import RUNGS as LADDER

LOG = "train_log.jsonl"
WARM_LOG = "warm_start_log.jsonl"
POLICIES = ("multi-write", "token-write", "sequence-write")
TRAINED = (*POLICIES, *BASELINES)
LONGEST = ("memgen", "mlp-memory", "context2lora")  # trained first: two at a time, and none alone at the end
TEXTS_ALONE = ("llmlingua2",)  # trained beside the backbone's last rung, which keeps one core busy
PROCESSES = 2
LAST = LADDER[-1]  # it begins anew from the weights alone, and uses one thread
CARD_SEED = 1000  # the card's own evaluation seed; published tables use others
CARD = "MODEL_CARD.md"


def evaluate(weights: Path, scratch: Path, device: str) -> str:
    """The result table of every policy from its state alone, with its controls, as Markdown."""
    from deltamem_eval.display import Display
    from deltamem_eval.reports.render import to_markdown
    from deltamem_eval.reports.summary import summary_table
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
    return to_markdown(summary_table(runs)).replace(str(weights / "backbone"), "embedded")


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
        *(_part(weights / name) for name in ("backbone", *TRAINED)),
        "",
        "The backbone climbs a ladder: copying, records, one wording, all wordings; then all wordings with",
        "a second loss by which the end of each line, and its mean, name the line's content words (sentence",
        "ends of large models carry such a gist; without it no write finds key and value at once); and last",
        "the same up to the end of its positions.",
        "",
        f"Adapters sit on layers {LAYERS} (the release: all) with gain {GAIN} (0.05). They begin with a warm",
        "start that the paper does not have: keys, values and gates fitted on the frozen backbone's hidden",
        "states, where each question names the lines that answer it (methods/delta_mem/warm_start.py). Then",
        "they train by the paper's objective on new contexts every update, questions answered from the",
        f"state, alone or after the end of their context, peak learning rate {LR}. Without the warm start an",
        "adapter learns which values were said and, for thousands of updates, not of what. Logs stand beside",
        "the weights.",
        "",
        "The baselines train on the adapters' own episodes, all of them, those of the warm start first,",
        "by the code of `deltamem-eval train` and with the context in the prompt: each of them, like each",
        f"adapter, saw {contexts():,} contexts. MLP Memory learns from every position of them, questions and",
        f"answers too. It imitates the {NEIGHBOURS} nearest of {_datastore(weights):,} positions, those of a",
        f"context of every second update, as far as the {PROBES} nearest of {CELLS} cells hold them. The",
        f"temperature of their distances is {TEMPERATURE:g} (the paper: 16, for keys much further apart), "
        "chosen",
        "on the held-out episodes. Learning rates were chosen by short trainings (of MemGen",
        f"{swept_updates('memgen')} updates and of the others {swept_updates('llmlingua2')}, of five contexts",
        "each, of both rungs) on training episodes that no other training draws, further rates being tried",
        "while the best stood at an end; so was MLP Memory's λ, by the answers' likelihood. MemGen's trigger",
        "is not trained: it weaves at every place.",
        "",
        "| part | learning rate | loss on held-out training episodes |",
        "| --- | ---: | ---: |",
        *(line for name in BASELINES for line in _swept(weights / name)),
        "",
        _tuned(weights / "mlp-memory"),
        "",
        "llmlingua2 is a BERT of two layers that tells filler, openings and closings from what a line says,",
        "on the whole contexts of those episodes: the classifier of the method *llmlingua2 (embedded",
        "classifier)*. It is not Microsoft's.",
        "",
        "| stretch | updates | contexts an update | associations | up to tokens | with a window |",
        "| --- | ---: | ---: | --- | --- | ---: |",
        _rung("warm start", WARM),
        *(_rung(f"rung {number}", rung) for number, rung in enumerate(RUNGS, 1)),
        "",
        f"## Scores on evaluation seed {CARD_SEED}",
        "",
        scores,
    ]
    (weights / CARD).write_text("\n".join(lines), encoding="utf-8")


def contexts() -> int:
    """Contexts in the training of every adapter, its warm start's among them, and of every baseline."""
    return sum(rung.updates * rung.batch for rung in (WARM, *RUNGS))


def swept_updates(name: str) -> int:
    """Updates of a training in a baseline's sweep."""
    return SWEPT_LONGER.get(name, 1) * sum(rung.updates for rung in SWEEP_RUNGS)


def _datastore(weights: Path) -> int:
    """Positions among which MLP Memory's neighbours are searched for."""
    return int(json.loads((weights / "mlp-memory" / SWEEP).read_text(encoding="utf-8"))["datastore"])


def _rung(name: str, rung: Rung) -> str:
    cells = [
        name,
        rung.updates,
        rung.batch,
        ", ".join(str(count) for count in sorted(set(rung.drawing.associations))),
        ", ".join(str(tokens) for tokens in rung.longest),
        f"{rung.windowed:.0%}",
    ]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _swept(folder: Path) -> list[str]:
    """Lines of the sweeps' table; the chosen rate is bold."""
    record = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
    lines = []
    if "held_out_loss_untrained" in record:
        lines.append(f"| without {folder.name} | – | {record['held_out_loss_untrained']:.4f} |")
    for rate, loss in record["held_out_loss"].items():
        cells = folder.name, rate, "diverged" if loss is None else f"{loss:.4f}"
        mark = "**" if float(rate) == record["chosen"] else ""
        lines.append(f"| {' | '.join(f'{mark}{cell}{mark}' for cell in cells)} |")
    return [
        *lines,
        f"| {folder.name}, whole training | {record['chosen']} | {record['held_out_loss_trained']:.4f} |",
    ]


def _tuned(folder: Path) -> str:
    """What each λ costs."""
    record = json.loads((folder / WEIGHT_FILE).read_text(encoding="utf-8"))
    costs = ", ".join(f"{weight}: {cost:.4f}" for weight, cost in record["answer_nll"].items())
    return f"MLP Memory's λ is {record['chosen']}; nats per answer token by λ (0 is vanilla): {costs}."


def _part(folder: Path) -> str:
    """A line of the parts' table; updates and minutes include a warm start, minutes a sweep too."""
    rows = _log(folder / LOG)
    warm = _log(folder / WARM_LOG)
    steps = sum(row["step"] for row, after in zip(rows, [*rows[1:], None], strict=True) if _ends(row, after))
    steps += len(warm)
    swept = json.loads((folder / SWEEP).read_text())["seconds"] if (folder / SWEEP).is_file() else 0.0
    minutes = (rows[-1]["seconds"] + (warm[-1]["seconds"] if warm else 0.0) + swept) / 60
    count = _parameters(folder)
    return f"| {folder.name} | {count:,} | {steps:,} | {rows[-1]['loss']:.3f} | {minutes:.0f} |"


def _log(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _parameters(folder: Path) -> int:
    """Parameters of a model, or those that an adapter adds (its inactive corrections are zeros)."""
    from safetensors import safe_open

    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
    adapter = folder.name in POLICIES
    return sum(tensor.numel() for tensor in tensors if not adapter or bool(tensor.any()))


def _ends(row: dict[str, Any], after: dict[str, Any] | None) -> bool:
    """Whether a log line is the last of its rung, or of the log."""
    return after is None or after.get("rung") != row.get("rung")


def build(out: Path, device: str, seed: int, only: Sequence[str]) -> None:
    """Make what `only` names, backbone first, then the rest, then the card; it replaces what was there."""
    from deltamem_eval.tasks.embedded.pretrain import pretrain

    if "backbone" in only:
        shutil.rmtree(out / "backbone", ignore_errors=True)
        pretrain(out / "backbone", device, seed, stop=LAST.name)
    _train_side_by_side([name for name in ("backbone", *TRAINED) if name in only], out, device, seed)
    if "card" in only:
        with tempfile.TemporaryDirectory() as scratch:
            write_card(out, seed, evaluate(out, Path(scratch), device))


def _train_side_by_side(names: Sequence[str], out: Path, device: str, seed: int) -> None:
    """Train in processes of one thread each, so that the number of cores changes no weight.

    The backbone's last rung goes first, and beside it what needs its tokenizer alone.
    """
    from deltamem_eval.tasks.embedded.pretrain import pretrain

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, torch.set_num_threads, (1,)) as pool:
        rung = (
            [pool.submit(pretrain, out / "backbone", device, seed, LAST.name)] if "backbone" in names else []
        )
        early = [name for name in names if name in TEXTS_ALONE]
        waiting = [_submit(pool, name, out, device, seed) for name in early]
        for future in rung:
            future.result()
        late = [name for name in names if name not in (*early, "backbone")]
        ordered = sorted(late, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
        waiting += [_submit(pool, name, out, device, seed) for name in ordered]
        for future in waiting:
            future.result()


def _submit(pool: Executor, name: str, out: Path, device: str, seed: int) -> Future[None]:
    if name in POLICIES:
        return pool.submit(train_adapter, name, out / "backbone", out / name, device, seed)
    return pool.submit(train_baseline, name, out / "backbone", out / name, device, seed)


def main() -> None:
    """Command line: `python -m deltamem_eval.make_embedded --out DIR`."""
    from deltamem_eval.tasks.embedded.pretrain import SEED

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="+", default=["backbone", *TRAINED, "card"])
    arguments = parser.parse_args()
    build(arguments.out, arguments.device, arguments.seed, arguments.only)


if __name__ == "__main__":
    main()
