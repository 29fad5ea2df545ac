"""Makes everything the embedded default ships: tokenizer, backbone, adapters, logs and the model card."""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

import torch
from deltamem_eval.embedded_adapters import POLICIES, train_adapter
from deltamem_eval.embedded_baselines import BASELINES, train_baseline
from deltamem_eval.model_card import write_card
from deltamem_eval.tasks.embedded.ladder import RUNGS as LADDER

TRAINED = (*POLICIES, *BASELINES)
LONGEST = ("memgen", "mlp-memory", "context2lora")  # trained first: two at a time, and none alone at the end
TEXTS_ALONE = ("llmlingua2",)  # trained beside the backbone's last rung, which keeps one core busy
PROCESSES = 2
LAST = LADDER[-1]  # it begins anew from the weights alone, and uses one thread
CARD_SEED = 1000  # the card's own evaluation seed; published tables use others


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


def build(out: Path, device: str, seed: int, only: Sequence[str]) -> None:
    """Make what `only` names, backbone first, then the rest, then the card; it replaces what was there."""
    from deltamem_eval.tasks.embedded.pretrain import pretrain

    if "backbone" in only:
        shutil.rmtree(out / "backbone", ignore_errors=True)
        pretrain(out / "backbone", device, seed, stop=LAST.name)
    _train_side_by_side([name for name in ("backbone", *TRAINED) if name in only], out, device, seed)
    if "card" in only:
        with tempfile.TemporaryDirectory() as scratch:
            write_card(out, seed, CARD_SEED, evaluate(out, Path(scratch), device))


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
