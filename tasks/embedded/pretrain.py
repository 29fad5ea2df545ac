"""Pretraining of the embedded backbone: a Qwen3 of four layers up the ladder, deterministic from its seed."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from pathlib import Path
from random import Random
from typing import Any

import torch
from deltamem_eval.tasks.embedded.episodes import all_words
from deltamem_eval.tasks.embedded.gist import Gist
from deltamem_eval.tasks.embedded.ladder import IGNORED, RUNGS, Drawer, Drawn, Rung
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer
from torch import Tensor, nn

SEED = 20260
# Muon on the matrices inside the layers reached 90 % copying after 1,200 updates of 48 sequences, AdamW alone
# had not begun to copy after 1,700; a head that starts as the embedding saves a third of that silence.
MATRIX_LR, OTHER_LR, GIST_LR = 0.02, 2e-3, 5e-3
POSITIONS = 512
_RECENT = 50  # updates over which a rung's accuracy is judged
_LOG_EVERY = 25


def new_model(tokenizer: Any) -> Any:
    """A random backbone: 4 layers, width 128, 4 heads of 32, rope theta 1000.

    The head starts as the embedding and is then trained apart from it.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.05,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
    return model


def optimisers(model: Any) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embedding, head and norms."""
    named = list(model.named_parameters())
    matrices = [tensor for name, tensor in named if ".layers." in name and tensor.ndim == 2]
    others = [tensor for name, tensor in named if ".layers." not in name or tensor.ndim != 2]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_LR, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=OTHER_LR, betas=(0.9, 0.95), weight_decay=0.01),
    ]


def collate(drawn: list[Drawn], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids and labels [batch, tokens]; causal attention never looks at padding on the right."""
    width = max(len(item.ids) for item in drawn)
    ids = torch.zeros(len(drawn), width, dtype=torch.long)
    labels = torch.full((len(drawn), width), IGNORED)
    for row, item in enumerate(drawn):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        labels[row, : len(item.labels)] = torch.tensor(item.labels)
    return ids.to(device), labels.to(device)


def in_parts(drawn: list[Drawn], parts: int) -> list[tuple[list[Drawn], float]]:
    """A batch as parts of rows of about the same length, each with its share of the labelled tokens."""
    if parts == 1:
        return [(drawn, 1.0)]
    ordered = sorted(drawn, key=lambda item: len(item.ids))
    size = -(-len(ordered) // parts)
    groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    learnt = [sum(label != IGNORED for item in group for label in item.labels) for group in groups]
    return [(group, count / sum(learnt)) for group, count in zip(groups, learnt, strict=True)]


def loss_and_hits(model: Any, ids: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Cross-entropy over the labelled tokens, and the share of them predicted right."""
    hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    live = wanted != IGNORED
    logits = model.lm_head(hidden[live])
    loss = nn.functional.cross_entropy(logits, wanted[live])
    return loss, float((logits.argmax(-1) == wanted[live]).float().mean())


class Climb:
    """Training up the ladder; the rate falls in each rung's second half."""

    def __init__(self, model: Any, tokenizer: Any, seed: int, log: Path) -> None:
        self.model, self.tokenizer, self.seed, self.log = model, tokenizer, seed, log
        vocabulary = sorted({tokenizer.encode(f" {word}")[0] for word in all_words()})
        self.drawer = Drawer(lambda text: list(tokenizer.encode(text)), vocabulary)
        self.began = time.perf_counter() - _spent(log)
        self._start(RUNGS[0])

    def _start(self, rung: Rung) -> None:
        self.optimisers = optimisers(self.model)
        self.gist: Gist | None = None
        if rung.gist:
            torch.manual_seed(self.seed)
            self.gist = Gist(self.model, self.tokenizer).to(self.model.device)
            self.optimisers.append(torch.optim.AdamW(self.gist.parameters(), lr=GIST_LR, weight_decay=0.0))
        self.rates = [rung.rate * float(optimiser.param_groups[0]["lr"]) for optimiser in self.optimisers]
        self.step = 0

    def climb(self, rung: Rung) -> float:
        """Train on a rung until its accuracy stands or its steps are used up; the last accuracy."""
        torch.set_num_threads(rung.threads)
        if rung.fresh:
            self._start(rung)
        recent: deque[float] = deque(maxlen=_RECENT)
        for step in range(rung.most_steps):
            loss, hits = self._update(rung, step)
            recent.append(hits)
            accuracy = sum(recent) / len(recent)
            climbed = len(recent) == _RECENT and accuracy >= rung.target
            if step % _LOG_EVERY == 0 or climbed or step + 1 == rung.most_steps:
                self._write(rung, step, loss, accuracy)
            if climbed:
                break
        return accuracy

    def _update(self, rung: Rung, step: int) -> tuple[float, float]:
        rng = Random(f"pretrain/{self.seed}/{rung.name}/{step}")
        drawn = self.drawer.batch(rung, rng)
        share = _rate(step / rung.most_steps) * min(1.0, (self.step + 1) / 100)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss = hits = 0.0
        for part, weight in in_parts(drawn, rung.parts):
            part_loss, part_hits = self._backward(part, weight, rung.gist)
            loss, hits = loss + weight * part_loss, hits + weight * part_hits
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * share
            optimiser.step()
        self.step += 1
        return loss, hits

    def _backward(self, drawn: list[Drawn], weight: float, gist: float) -> tuple[float, float]:
        """Add a part's share of the gradient; the part's own loss and hits."""
        ids, labels = collate(drawn, self.model.device)
        loss, hits = loss_and_hits(self.model, ids, labels)
        total = loss + gist * self.gist.loss(ids, labels) if self.gist else loss
        (weight * total).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), hits

    def _write(self, rung: Rung, step: int, loss: float, accuracy: float) -> None:
        row = {
            "rung": rung.name,
            "step": step + 1,
            "loss": round(loss, 4),
            "accuracy": round(accuracy, 4),
            "seconds": round(time.perf_counter() - self.began, 1),
        }
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def _rate(share: float) -> float:
    """Share of the peak rate: full in the first half of a rung, half a cosine to a tenth in the second."""
    if share < 0.5:
        return 1.0
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (share - 0.5) / 0.5))


def pretrain(
    out: Path, device: str = "cpu", seed: int = SEED, start: str | None = None, stop: str | None = None
) -> None:
    """Build the tokenizer, climb the ladder, and save both with the log into `out`.

    `start` names a fresh rung: training resumes there from the weights in `out`, to the same end. `stop`
    names another, before which it ends. Raises ValueError for any other rung.
    """
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    rungs = RUNGS[_place(start) : _place(stop, len(RUNGS))]
    model = (new_model(tokenizer) if start is None else _load(out)).to(device)
    log = out / "train_log.jsonl"
    _keep_before(log, rungs[0])
    climb = Climb(model.train(), tokenizer, seed, log)
    for rung in rungs:
        climb.climb(rung)
        model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _place(name: str | None, otherwise: int = 0) -> int:
    """Index of a fresh rung by its name."""
    if name is None:
        return otherwise
    (place,) = [index for index, rung in enumerate(RUNGS) if rung.name == name and rung.fresh]
    return place


def _load(folder: Path) -> Any:
    from transformers import Qwen3ForCausalLM

    return Qwen3ForCausalLM.from_pretrained(folder)


def _keep_before(log: Path, rung: Rung) -> None:
    """Leave in the log only the rungs before this one."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    earlier = {item.name for item in RUNGS[: RUNGS.index(rung)]}
    log.write_text("".join(line for line in lines if json.loads(line)["rung"] in earlier), encoding="utf-8")


def _spent(log: Path) -> float:
    """Seconds that the rungs in the log took."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0


def main() -> None:
    """Command line: `python -m deltamem_eval.tasks.embedded.pretrain --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=SEED)
    fresh = [rung.name for rung in RUNGS if rung.fresh]
    parser.add_argument("--start", help="a fresh rung to resume from", choices=fresh)
    arguments = parser.parse_args()
    pretrain(arguments.out, arguments.device, arguments.seed, arguments.start)


if __name__ == "__main__":
    main()
