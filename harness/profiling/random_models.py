"""Backbones of any architecture with random weights, from a config alone: memory and speed need no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deltamem_eval.backbone import DTYPES, EMBEDDED, Backbone, embedded_folder
from deltamem_eval.errors import UserError, unknown
from deltamem_eval.shapes import CONFIGS, find_shape

SEED = 0


def random_backbone(name: str, device: Any, dtype: str, positions: int) -> Backbone:
    """A model with the sizes of a config, random weights, and at least so many positions.

    name: as for `model_config`. device: a torch device; on `meta` nothing is allocated. dtype: as `--dtype`;
    `auto` is float32 on a CPU, else bfloat16. It reads with the embedded tokenizer, whatever the vocabulary.
    Raises UserError for a config that cannot be built or a vocabulary smaller than the tokenizer's.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    full, config = model_config(name)
    text = config.get_text_config()
    text.max_position_embeddings = max(positions, getattr(text, "max_position_embeddings", None) or 0)
    tokenizer = AutoTokenizer.from_pretrained(str(embedded_folder() / "backbone"))
    if text.vocab_size < len(tokenizer):
        raise UserError(
            f"random weights need a vocabulary of at least {len(tokenizer)}, the embedded tokenizer's; "
            f"{name} has {text.vocab_size}"
        )
    if dtype not in ("auto", *DTYPES):
        raise unknown("dtype", dtype, ("auto", *DTYPES))
    kind = DTYPES[dtype] if dtype != "auto" else DTYPES["float32" if device.type == "cpu" else "bfloat16"]
    with torch.random.fork_rng(), device:
        torch.manual_seed(SEED)
        try:
            model: Any = AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=False)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"no decoder can be built from the config of {name}: {_line(error)}") from None
    return Backbone(model, tokenizer, full, "random weights", batch_size=1)


def model_config(name: str) -> tuple[str, Any]:
    """Name and config of `embedded`, a listed backbone (with or without owner), a folder or a config.json.

    Raises UserError for an unknown name and for a config that cannot be read.
    """
    from transformers import AutoConfig

    place = embedded_folder() / "backbone" if name == EMBEDDED else Path(name)
    if not place.is_dir() and place.suffix != ".json":
        full, _ = find_shape(name)
        return full, AutoConfig.for_model(**CONFIGS[full])
    try:
        return name, AutoConfig.from_pretrained(str(place), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read a model config from {place}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
