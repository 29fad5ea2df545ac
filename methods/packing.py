"""Several continuations of one beginning in one row of a forward pass, for training with long prompts.

Ten questions about one context, each as a row of its own, read the context ten times. Here the context is
read once; every continuation sees it and itself, never the others, and counts its positions from the
context's end: the hidden states are those of separate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from deltamem_eval.attention import limited
from deltamem_eval.sharding import sharding
from torch import Tensor, nn


@dataclass(frozen=True)
class Tree:
    """Embeddings of a beginning [tokens, width], which may be empty, and of what follows it, each in turn."""

    trunk: Tensor
    branches: tuple[Tensor, ...]


def branch_states(model: Any, trees: Sequence[Tree]) -> list[list[Tensor]]:
    """The decoder's last hidden states [tokens, width] at every branch of every tree.

    The trunks go first and leave their keys and values; where nothing in them is trained, they leave no
    graph. Branches of a model with layers of a limited span get rows of their own, trunk and all: their
    masks are not one mask. However long the trees are, the model runs as often, as shared weights demand.
    """
    decoder = model.get_decoder()
    if limited(model):
        return _apart(decoder, trees)
    trunks, lengths = _rows([tree.trunk for tree in trees])
    branches, _ = _rows([torch.cat(tree.branches) for tree in trees])
    owner, places = _owners(trees, branches.shape[1])
    first = decoder(inputs_embeds=trunks, use_cache=True)
    hidden = decoder(
        inputs_embeds=branches,
        attention_mask=branch_mask(owner, lengths, trunks.shape[1], branches.dtype),
        position_ids=places + lengths[:, None],
        past_key_values=first.past_key_values,
        use_cache=True,
    ).last_hidden_state
    if sharding():  # the gradient of the trunks' last keys must find their layer gathered: see `sharding`
        hidden = hidden + 0 * first.last_hidden_state.sum()
    counts = [[len(branch) for branch in tree.branches] for tree in trees]
    return [list(row[: sum(listed)].split(listed)) for row, listed in zip(hidden, counts, strict=True)]


def _apart(decoder: Any, trees: Sequence[Tree]) -> list[list[Tensor]]:
    """Each branch in a row of its own."""
    rows, lengths = _rows([torch.cat([tree.trunk, branch]) for tree in trees for branch in tree.branches])
    hidden = decoder(inputs_embeds=rows, use_cache=False).last_hidden_state
    found = iter([row[:length] for row, length in zip(hidden, lengths.tolist(), strict=True)])
    return [[next(found)[len(tree.trunk) :] for _ in tree.branches] for tree in trees]


def _rows(items: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Embeddings [rows, tokens, width], and how long each is [rows].

    They are padded on the right, where causal attention never looks, to a token at least.
    """
    lengths = torch.tensor([len(item) for item in items], device=items[0].device)
    rows = nn.utils.rnn.pad_sequence(list(items), batch_first=True)
    return nn.functional.pad(rows, (0, 0, 0, max(1 - rows.shape[1], 0))), lengths


def _owners(trees: Sequence[Tree], width: int) -> tuple[Tensor, Tensor]:
    """Which of its tree's branches each token is of, -1 for padding, and its place in it [rows, width]."""
    owner = torch.full((len(trees), width), -1)
    places = torch.zeros(len(trees), width, dtype=torch.long)
    for row, tree in enumerate(trees):
        counts = torch.tensor([len(branch) for branch in tree.branches])
        end = int(counts.sum())
        owner[row, :end] = torch.repeat_interleave(counts)
        places[row, :end] = torch.cat([torch.arange(count) for count in counts.tolist()])
    device = trees[0].trunk.device
    return owner.to(device), places.to(device)


def branch_mask(owner: Tensor, trunks: Tensor, longest: int, dtype: torch.dtype) -> Tensor:
    """The additive mask [rows, 1, tokens, longest + tokens] of branches behind trunks padded to `longest`.

    owner: the branch of each token [rows, tokens], -1 for padding. trunks: their lengths [rows]. A token sees
    its row's trunk and earlier tokens of its own branch; padding sees padding, so that no row of the mask is
    empty.
    """
    tokens = owner.shape[1]
    earlier = torch.ones(tokens, tokens, dtype=torch.bool, device=owner.device).tril()
    own = earlier & (owner[:, :, None] == owner[:, None, :])
    trunk = torch.arange(longest, device=owner.device)[None] < trunks[:, None]
    seen = torch.cat([trunk[:, None].expand(-1, tokens, -1), own], -1)
    mask = torch.zeros(seen.shape, dtype=dtype, device=owner.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def embedded(model: Any, ids: Sequence[int]) -> Tensor:
    """Input embeddings [tokens, width] of token ids, without gradient."""
    tokens = torch.tensor(list(ids), dtype=torch.long, device=model.device)
    made: Tensor = model.get_input_embeddings()(tokens).detach()
    return made
