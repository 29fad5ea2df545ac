"""The model card of the embedded default: what was made, from what, how, and how well it does."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deltamem_eval.embedded_adapters import GAIN, LAYERS, LR, POLICIES, RUNGS, WARM, Rung
from deltamem_eval.embedded_baselines import (
    BASELINES,
    CELLS,
    NEIGHBOURS,
    PROBES,
    SWEEP,
    SWEEP_RUNGS,
    SWEPT_LONGER,
    TEMPERATURE,
)
from deltamem_eval.methods.mlp_memory.train import WEIGHT_FILE
from deltamem_eval.tasks.embedded.episodes import GENERATOR_VERSION

LOG = "train_log.jsonl"
WARM_LOG = "warm_start_log.jsonl"
CARD = "MODEL_CARD.md"
_WIDTH = 110


def write_card(weights: Path, seed: int, card_seed: int, scores: str) -> None:
    """MODEL_CARD.md in the folder of all parts, from their logs.

    scores: a table, on evaluation seed card_seed.
    """
    parts = [weights / name for name in ("backbone", *POLICIES, *BASELINES)]
    blocks = [
        "# Model card: the embedded default",
        _filled(
            """A tiny decoder and δ-mem adapters for it, for trying the harness without downloads. They know
            the embedded world's words and nothing else: scores on other text say nothing about larger models.
            """
        ),
        _filled(
            f"""Made by `make embedded` from generator version {GENERATOR_VERSION} with seed {seed}; training
            and evaluation share no name, no code and no binding of a label, rule or preference. They share
            utterances: the backbone's rung `plain` draws all those of the first template, those of evaluation
            among them; no other training draws any. Apache-2.0, like the code."""
        ),
        _table("part | parameters | updates | last loss | minutes", "- r r r r", map(_part, parts)),
        *_recipe(weights),
        _table(
            "part | learning rate | loss on held-out training episodes",
            "- r r",
            [line for name in BASELINES for line in _swept(weights / name)],
        ),
        _tuned(weights / "mlp-memory"),
        _filled(
            """llmlingua2 is a BERT of two layers that tells filler, openings and closings from what a line
            says, on the whole contexts of those episodes: the classifier of the method *llmlingua2 (embedded
            classifier)*. It is not Microsoft's."""
        ),
        _table(
            "stretch | updates | contexts an update | associations | up to tokens | with a window",
            "- r r - - r",
            [
                _rung("warm start", WARM),
                *(_rung(f"rung {place}", rung) for place, rung in enumerate(RUNGS, 1)),
            ],
        ),
        f"## Scores on evaluation seed {card_seed}",
        scores,
    ]
    (weights / CARD).write_text("\n\n".join(blocks), encoding="utf-8")


def _recipe(weights: Path) -> list[str]:
    """How everything was trained."""
    backbone = """The backbone climbs a ladder: copying, records, one wording, all wordings; then all wordings
        with a second loss by which the end of each line, and its mean, name the line's content words
        (sentence ends of large models carry such a gist; without it no write finds key and value at once);
        and last the same up to the end of its positions."""
    adapters = f"""Adapters sit on layers {LAYERS} (the release: all) with gain {GAIN} (0.05). They begin with
        a warm start that the paper does not have: keys, values and gates fitted on the frozen backbone's
        hidden states, where each question names the lines that answer it (methods/delta_mem/warm_start.py).
        Then they train by the paper's objective on new contexts every update, questions answered from the
        state, alone or after the end of their context, peak learning rate {LR}. Without the warm start an
        adapter learns which values were said and, for thousands of updates, not of what. Logs stand beside
        the weights."""
    baselines = f"""The baselines train on the adapters' own episodes, all of them, those of the warm start
        first, with the context in the prompt: each of them, like each adapter, saw {contexts():,} contexts.
        MemGen and Context2LoRA do so by the code of `deltamem-eval train`. MLP Memory learns from every
        position of the contexts, each followed by its questions and answers up to the end of the backbone's
        positions, where the longest lose some. It imitates the {NEIGHBOURS} nearest of {_stored(weights):,}
        positions, those of a context of every second update, as far as the {PROBES} nearest of {CELLS} cells
        hold them. The temperature of their distances is {TEMPERATURE:g} (the paper: 16, for keys much further
        apart), chosen by hand on the held-out episodes."""
    sweeps = f"""Learning rates were chosen by short trainings (of MemGen {swept_updates("memgen")} updates,
        of the others {swept_updates("llmlingua2")}, of five contexts each, of both rungs) on training
        episodes that no other training draws, further rates being tried while the best stood at an end; so
        was MLP Memory's λ, by the answers' likelihood. The losses below are of the held-out episodes that
        chose them. MemGen's trigger is not trained: it weaves at every place."""
    return [_filled(text) for text in (backbone, adapters, baselines, sweeps)]


def _filled(text: str) -> str:
    """A paragraph in lines of even length."""
    return textwrap.fill(" ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(head: str, sides: str, lines: Iterable[str]) -> str:
    """A Markdown table. sides: a letter a column, r for numbers, which stand on the right."""
    rule = " | ".join("---:" if side == "r" else "---" for side in sides.split())
    return "\n".join((f"| {head} |", f"| {rule} |", *lines))


def contexts() -> int:
    """Contexts in the training of every adapter, its warm start's among them, and of every baseline."""
    return sum(rung.updates * rung.batch for rung in (WARM, *RUNGS))


def swept_updates(name: str) -> int:
    """Updates of a training in a baseline's sweep."""
    return SWEPT_LONGER.get(name, 1) * sum(rung.updates for rung in SWEEP_RUNGS)


def _stored(weights: Path) -> int:
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
