"""What the tests of the bridge share: a tiny saved model, toy tasks, and requests made by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from deltamem_eval.display import Display
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach, save_adapter
from deltamem_eval.session import Request, check, execute
from tiny import tiny_backbone

TOY = Path(__file__).parent / "toy"
TEN = ("token-write", "sequence-write", "multi-write", "vanilla", "bm25-rag", "llmlingua2", "memorybank")
TEN += ("memgen", "context2lora", "mlp-memory")
CONTEXT = "Ann keeps a red box.\nBen keeps a blue cup.\n\n"


def save_tiny(folder: Path) -> Path:
    """The tiny backbone in a folder, with a token-write adapter of random weights in `adapter`."""
    backbone = tiny_backbone()
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    attach(backbone.model, DeltaMemConfig(alpha=32))
    save_adapter(backbone.model, folder / "adapter")
    detach(backbone.model)
    return folder


def made(**arguments: Any) -> Any:
    from deltamem_eval.lm_eval_bridge.model import DeltaMemLM

    return DeltaMemLM(device="cpu", **arguments)


def evaluate(model: Any, *tasks: str, folder: Path = TOY, **more: Any) -> Any:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(
        include_path=str(folder), include_defaults=False, metadata=more.pop("metadata", None)
    )
    return simple_evaluate(
        model, tasks=list(tasks), task_manager=manager, log_samples=True, bootstrap_iters=0, **more
    )


def run_grid(out: Path, task: str, folder: Path = TOY, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """The stored samples of a run, by method and control."""
    options = {"task": task, "include_path": str(folder)}
    request = Request(task="lm-eval", task_options=options, device="cpu", **more)
    with Display(2, quiet=True) as display:
        execute(check(request), out, display)
    found = {}
    for file in out.rglob("samples.jsonl"):
        cell = json.loads((file.parent / "cell.json").read_text(encoding="utf-8"))["identity"]
        samples = [json.loads(line) for line in file.open(encoding="utf-8")]
        found[f"{cell['method']} {cell['control']}"] = sorted(samples, key=_number)
    return found


def _number(sample: dict[str, Any]) -> int:
    """The document's number within its task."""
    return int(sample["query"].rpartition("/")[2])


def generation(text: str, doc: Any = None, **given: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("generate_until", doc or {}, (text, {"until": ["\n"], "max_gen_toks": 6, **given}), 0)


def likelihood(text: str, continuation: str) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood", {}, (text, continuation), 0)


def rolling(text: str) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood_rolling", {}, (text,), 0)


@torch.no_grad()
def plain_logprob(model: Any, before: list[int], wanted: list[int]) -> float:
    """Log-probability of `wanted` after `before`, from one forward pass over both and nothing else."""
    ids = torch.tensor([[*before, *wanted]])
    logits = model(ids, use_cache=False).logits[0, len(before) - 1 : -1].float().log_softmax(-1)
    return float(logits.gather(1, torch.tensor(wanted)[:, None]).sum())


def changed_task(folder: Path, name: str, *lines: str, base: str = "toy_generate") -> Path:
    """The toy tasks in `folder`, and beside them `base` under a name of its own with lines changed."""
    shutil.copytree(TOY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = "\n".join((f"include: {base}.yaml", f"task: {name}", *lines, ""))
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder
