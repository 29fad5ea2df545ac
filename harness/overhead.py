"""Parameter arithmetic: the shape of a decoder, read from its config alone, without torch or weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError

_QKV_BIAS = {"qwen2"}
_QK_NORM = {"qwen3", "gemma3", "gemma3_text"}
_FOUR_NORMS = {"gemma2", "gemma3", "gemma3_text"}
_TIED_BY_DEFAULT = {"gemma", "gemma2", "gemma3", "gemma3_text", "smollm3"}
FAMILIES = frozenset({"qwen2", "qwen3", "llama", "mistral", "smollm3", "gemma", "gemma2", "gemma3_text"})


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a decoder with SwiGLU-style feed-forwards (gate, up, down) and q/k/v/o projections."""

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    attention_bias: bool
    positions: int

    @property
    def q_out(self) -> int:
        """Output width of the query projection, which is also the input width of the output projection."""
        return self.heads * self.head_dim

    @property
    def kv_out(self) -> int:
        """Output width of the key projection and of the value projection."""
        return self.kv_heads * self.head_dim

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, tied weights counted once."""
        attention = 2 * self.hidden * (self.q_out + self.kv_out)
        if self.family in _QKV_BIAS:
            attention += self.q_out + 2 * self.kv_out
        elif self.attention_bias:
            attention += self.q_out + 2 * self.kv_out + self.hidden
        if self.family in _QK_NORM:
            attention += 2 * self.head_dim
        norms = (4 if self.family in _FOUR_NORMS else 2) * self.hidden
        layer = attention + 3 * self.hidden * self.intermediate + norms
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * layer + self.hidden

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read the fields of a Hugging Face `config.json`.

        A field that may be missing may be null. Raises UserError where a field is missing or is no count, or
        the family's parameters are not known to this formula.
        """
        family = str(config.get("model_type", ""))
        if family not in FAMILIES:
            raise UserError(
                f"model type '{family}' has no parameter formula here; known: {', '.join(sorted(FAMILIES))}"
            )
        hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
        return cls(
            family=family,
            hidden=hidden,
            layers=_count(config, "num_hidden_layers"),
            heads=heads,
            kv_heads=_count(config, "num_key_value_heads", heads),
            head_dim=_count(config, "head_dim", max(hidden // heads, 1)),
            intermediate=_count(config, "intermediate_size"),
            vocab=_count(config, "vocab_size"),
            tied=bool(config.get("tie_word_embeddings", family in _TIED_BY_DEFAULT)),
            attention_bias=bool(config.get("attention_bias", False)),
            positions=_count(config, "max_position_embeddings", 0),
        )


def _count(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A field above 0 of a config; the default where it is missing or null. Raises UserError for others."""
    if name not in config and default is None:
        raise UserError(f"the model config lacks '{name}'; give a decoder's config.json")
    value = config.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"'{name}' of the model config must be a whole number above 0, not {value!r}")
    return value


def read_shape(path: Path) -> ModelShape:
    """The shape in a `config.json` file or in a model folder. Raises UserError where it cannot be read."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read a model config from {file}: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} holds no model config: expected a JSON object")
    return ModelShape.from_config(config)
