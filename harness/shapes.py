"""Configs of backbones whose parameters can be counted without a download: the fields that decide shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from deltamem_eval.errors import unknown
from deltamem_eval.overhead import ModelShape, read_shape

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen3-4B-Instruct-2507": {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 9728,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 262144,
    },
    "Qwen/Qwen3-8B": {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 12288,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "max_position_embeddings": 40960,
    },
    "HuggingFaceTB/SmolLM3-3B": {
        "model_type": "smollm3",
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 11008,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
        "max_position_embeddings": 65536,
    },
}
EMBEDDED = "embedded"
_NUMBER = re.compile(r"\d+")
_NEAR, _ALMOST_SAME = 0.6, 0.95  # least likeness of a misspelt name; where its numbers differ


def meant(name: str) -> str | None:
    """The model that a name is nearly: embedded, or a listed backbone by its name with or without its owner.

    None where there is none, and for the name itself. A name with other numbers is another model's, unless
    hardly anything else tells the two apart.
    """
    known = {EMBEDDED: EMBEDDED}
    for full in CONFIGS:
        known |= {full: full, full.partition("/")[2]: full}
    likeness = dict.fromkeys(known.values(), 0.0)
    for text, full in known.items():
        same = _NUMBER.findall(text) == _NUMBER.findall(name)
        found = SequenceMatcher(None, name.lower(), text.lower()).ratio()
        if found >= (_NEAR if same else _ALMOST_SAME):
            likeness[full] = max(likeness[full], found)
    best = max(likeness, key=likeness.__getitem__)
    return best if likeness[best] and best != name else None


def find_shape(name: str) -> tuple[str, ModelShape]:
    """The full name and shape of a listed backbone (with or without its owner), `embedded`, a model's folder
    or a `config.json`.

    Raises UserError for any other name.
    """
    path = Path(name)
    if name == EMBEDDED:
        return name, read_shape(Path(__file__).parent / "tasks" / "embedded" / "weights" / "backbone")
    if path.is_dir() or path.suffix == ".json":
        return name, read_shape(path)
    for full, config in CONFIGS.items():
        if name.lower() in (full.lower(), full.partition("/")[2].lower()):
            return full, ModelShape.from_config(config)
    short = [full.partition("/")[2] for full in CONFIGS]
    raise unknown("model", name, [EMBEDDED, *CONFIGS, *short])
