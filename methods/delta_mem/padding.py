"""Which tokens of a forward are real, read from whatever attention mask it was given.

`generate` hands a model with a static cache no mask [batch, tokens] but prepared ones, additive or boolean,
[batch, 1, tokens, keys]. A real token sees itself there and padding does not: that is the entry looked up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def real_tokens(mask: Any, tokens: int, cache: Any) -> Tensor | None:
    """[batch, tokens], False for padding; None where every token is real.

    mask: the forward's attention mask, [batch, seen + tokens], prepared, or one prepared for each kind of
    layer. tokens: how many the forward has. cache: its key-value cache, or None. The device is waited for
    only where that is cheap or the forward long. Raises ValueError for any other mask.
    """
    full = not isinstance(mask, dict) or "full_attention" in mask
    if isinstance(mask, dict):
        mask = mask["full_attention"] if full else next(iter(mask.values()))
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
        raise ValueError("a memory needs the attention mask [batch, tokens] to know padding")
    if mask.dim() == 2:
        real = _own_columns(mask[:, None], tokens, cache, 0).squeeze(1) != 0
    else:
        seen = _own_columns(mask[:, 0], tokens, cache, _layer_of(cache, full))
        real = _is_seen(seen.diagonal(dim1=-2, dim2=-1))
    return None if _may_ask(real) and bool(real.all()) else real


def _own_columns(mask: Tensor, tokens: int, cache: Any, layer: int) -> Tensor:
    """Of a mask [batch, n, keys] the columns of the forward's own tokens: the last, but in a static cache
    those after what it has seen, a number that stays on the device.
    """
    if not getattr(cache, "is_compileable", False):
        return mask[..., -tokens:]
    offset = cache.get_mask_sizes(tokens, layer)[1]
    first = cache.get_seq_length(layer) - offset
    return mask.index_select(-1, torch.arange(tokens, device=mask.device) + first)


def _layer_of(cache: Any, full: bool) -> int:
    """The first layer of the cache that the mask is for; where all see everything or none does, the first."""
    kinds = [getattr(layer, "is_sliding", False) for layer in getattr(cache, "layers", ())]
    return kinds.index(False) if full and False in kinds else 0


def _is_seen(entries: Tensor) -> Tensor:
    return entries if entries.dtype == torch.bool else entries > torch.finfo(entries.dtype).min / 2


def _may_ask(real: Tensor) -> bool:
    """Whether the answer may be waited for: not while compiling or capturing, nor at a step of decoding."""
    if torch.compiler.is_compiling():
        return False
    return not real.is_cuda or (real.shape[1] > 1 and not torch.cuda.is_current_stream_capturing())
