"""Attention of many rows to one prefix that they share, read where it lies and never copied to a row.

Every question about a context continues the same keys and values. Copying them to each row of a batch costs
the prefix's bytes for every question, and again for every token that is generated, as caches grow. Here a
row's cache holds its own tokens alone; scores over the shared prefix are one product for all rows, and both
parts meet in one softmax, by their maxima and sums (Dao et al. 2022, arXiv 2205.14135, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

NAME = "shared_prefix"
BLOCK = 8192  # tokens of the prefix whose scores are alive at once,
SCORES = 1 << 28  # unless they would be more than so many, a GiB
_LEAST_BLOCK = 128
_WIDE = (torch.float32, torch.float64)
# Families whose attention is a plain softmax over scaled scores; others get copies of the prefix.
PLAIN = ("llama", "mistral", "qwen2", "qwen3", "smollm3")

KeyValue = tuple[Tensor, Tensor]
_PREFIX: ContextVar[Sequence[KeyValue]] = ContextVar("prefix")


class _Part(NamedTuple):
    """Softmax over some of the keys, unfinished: the greatest score, the sum of exponentials above it, and
    the values weighted by them.
    """

    top: Tensor
    total: Tensor
    values: Tensor


def limited(model: Any) -> bool:
    """Whether some layer attends to a limited span only."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    return getattr(config, "sliding_window", None) is not None


def can_share(model: Any) -> bool:
    """Whether the model's attention can read a shared prefix as it lies."""
    config = model.config.get_text_config()
    usual = config._attn_implementation in ("sdpa", "eager", NAME)
    return config.model_type in PLAIN and usual and not limited(model)


@contextmanager
def reading(model: Any, prefix: Sequence[KeyValue]) -> Iterator[None]:
    """Within the block every forward's tokens also see the prefix, which comes before all of them.

    prefix: keys and values [1, heads, tokens, width] of every layer. Caches and masks of the forwards are
    those of their own tokens; positions must count the prefix.
    """
    _register()
    config = model.config.get_text_config()
    before, token = config._attn_implementation, _PREFIX.set(prefix)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _PREFIX.reset(token)


def _register() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if NAME not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(NAME, _forward)
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)


def _forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls for a layer; see `attend`."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    made = attend(query, key, value, attention_mask, _PREFIX.get()[module.layer_idx], scale)
    return made.transpose(1, 2).contiguous(), None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    prefix: KeyValue,
    scale: float,
    block: int = BLOCK,
) -> Tensor:
    """Attention [rows, heads, tokens, width] of each row to the prefix and to its own keys.

    query: [rows, heads, tokens, width]; key, value: [rows, kv heads, own tokens, width], each serving as
    many query heads; mask: additive [rows, 1, tokens, own tokens]; prefix: keys and values [1, kv heads,
    prefix tokens, width], seen by all. Scores, softmax and sums in float32, as sdpa has them: a half's range
    would not do for products before they are scaled.
    """
    rows, heads, tokens, width = query.shape
    shared = key.shape[1]
    grouped = query.reshape(rows, shared, heads // shared, tokens, width)
    scores = _product(grouped, key[:, :, None].transpose(-1, -2)).float() * scale + mask[:, :, None].float()
    own = _part(scores, value[:, :, None])
    together = grouped.transpose(0, 1).reshape(shared, -1, width)
    keys, values = prefix
    block = min(block, max(SCORES // (shared * together.shape[1]), _LEAST_BLOCK))
    for start in range(0, keys.shape[2], block):
        scores = _product(together, keys[0, :, start : start + block].transpose(-1, -2)).float() * scale
        part = _part(scores, values[0, :, start : start + block])
        own = _merged(own, _Part(*(_by_row(item, grouped.shape) for item in part)))
    return (own.values / own.total).to(query.dtype).reshape(rows, heads, tokens, width)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, of halves in float32; a GPU's own product does so without copies."""
    if left.dtype in _WIDE:
        return left @ right
    if left.is_cuda and left.dim() == 3 and _has_out_dtype():
        return torch.bmm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


@cache
def _has_out_dtype() -> bool:
    """Whether this torch's bmm can give another type than it is given: 2.8 and later."""
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return (major, minor) >= (2, 8)


def _by_row(item: Tensor, shape: torch.Size) -> Tensor:
    """[kv heads, rows·groups·tokens, n] as [rows, kv heads, groups, tokens, n]."""
    rows, shared, groups, tokens, _ = shape
    return item.reshape(shared, rows, groups, tokens, -1).transpose(0, 1)


def _part(scores: Tensor, values: Tensor) -> _Part:
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp_()
    return _Part(top, weights.sum(-1, keepdim=True), _product(weights.to(values.dtype), values).float())


def _merged(one: _Part, other: _Part) -> _Part:
    top = torch.maximum(one.top, other.top)
    left, right = (one.top - top).exp(), (other.top - top).exp()
    return _Part(top, left * one.total + right * other.total, left * one.values + right * other.values)
