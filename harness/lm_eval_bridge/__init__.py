"""Our methods as a model of EleutherAI's lm-evaluation-harness, and our embedded task as its tasks.

Nothing here imports lm_eval until it is asked for.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from deltamem_eval.errors import UserError

MODEL_NAME = "deltamem-eval"
_CLASS = "deltamem_eval.lm_eval_bridge.model:DeltaMemLM"


def require_lm_eval() -> None:
    """Raises UserError where lm-eval is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError("lm-eval is not installed: pip install 'deltamem-eval[lm-eval]'")


def register() -> None:
    """Make `deltamem-eval` a model name of lm-eval; its own models stay known. Safe to call again.

    lm-eval 0.4.13 looks for no entry points, later versions do. Its table of built-in models is filled only
    while the registry is empty, so it must be imported before anything is added.
    """
    require_lm_eval()
    import lm_eval.models  # noqa: F401 - fills the registry
    from lm_eval.api.registry import model_registry

    if MODEL_NAME not in model_registry:
        model_registry.register(MODEL_NAME, target=_CLASS)


def tasks_folder() -> Path:
    """Folder of our tasks in lm-eval's YAML form, for `--include_path`."""
    return Path(__file__).parent / "tasks"
