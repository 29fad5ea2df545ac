"""A tiny architecture to profile, and requests for it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from deltamem_eval.profiling.request import ProfileRequest

CONFIG = {
    "model_type": "qwen3",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 160,
    "vocab_size": 1200,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}


def config_file(folder: Path, **changes: Any) -> str:
    """A config.json of the tiny architecture."""
    file = folder / "config.json"
    file.write_text(json.dumps({**CONFIG, **changes}))
    return str(file)


def requested(config: str, *methods: str, **changes: Any) -> ProfileRequest:
    """A request with one repeat and no warm-up, which the command line would not let through."""
    plain = ProfileRequest(methods, (256,), (8,), random_weights=config, repeats=1, warmup=0, device="cpu")
    return replace(plain, **changes)
