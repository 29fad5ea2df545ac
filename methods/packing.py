"""Several continuations of one beginning in one row of a forward pass, for training with long prompts.

Ten questions about one context, each as a row of its own, read the context ten times. Here the context
stands once; every continuation sees it and itself, never the others, and counts its positions from the
context's end: the hidden states are those of separate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from deltamem_eval.attention import limited
from torch import Tensor, nn


@dataclass(frozen=True)
class Tree:
    """Embeddings of a beginning [tokens, width], which may be empty, and of what follows it, each in turn."""

    trunk: Tensor
    branches: tuple[Tensor, ...]


def branch_states(model: Any, trees: Sequence[Tree]) -> list[list[Tensor]]:
    """The decoder's last hidden states [tokens, width] at every branch of every tree.

    Branches of a model with layers of a limited span get rows of their own: their masks are not one mask.
    """
    if limited(model):
        alone = [Tree(tree.trunk, (branch,)) for tree in trees for branch in tree.branches]
        states = iter([found for (found,) in _packed(model, alone, whole=False)])
        return [[next(states) for _ in tree.branches] for tree in trees]
    return _packed(model, trees, whole=True)


def _packed(model: Any, trees: Sequence[Tree], whole: bool) -> list[list[Tensor]]:
    """One row a tree. whole: with a mask that keeps branches apart; else each tree has one branch."""
    device = trees[0].trunk.device
    rows = [torch.cat([tree.trunk, *tree.branches]) for tree in trees]
    width = max(map(len, rows))
    embeds = torch.stack([nn.functional.pad(row, (0, 0, 0, width - len(row))) for row in rows])
    owner = torch.full((len(trees), width), -1, device=device)
    positions = torch.zeros(len(trees), width, dtype=torch.long, device=device)
    spans: list[list[slice]] = []
    for row, tree in enumerate(trees):
        trunk = end = len(tree.trunk)
        owner[row, :trunk] = 0
        positions[row, :trunk] = torch.arange(trunk, device=device)
        spans.append([])
        for number, branch in enumerate(tree.branches, 1):
            span = slice(end, end + len(branch))
            owner[row, span] = number
            positions[row, span] = torch.arange(trunk, trunk + len(branch), device=device)
            spans[-1].append(span)
            end = span.stop
    mask = apart(owner, embeds.dtype) if whole else (owner >= 0).long()
    hidden = model.get_decoder()(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    return [[hidden[row, span] for span in listed] for row, listed in enumerate(spans)]


def apart(owner: Tensor, dtype: torch.dtype) -> Tensor:
    """The additive mask [rows, 1, tokens, tokens] of rows whose tokens belong to a trunk (0) or to a branch.

    owner: [rows, tokens], -1 for padding. A token sees earlier tokens of the trunk and of its own branch;
    every token sees itself, so that no row of the mask is empty.
    """
    tokens = owner.shape[1]
    earlier = torch.ones(tokens, tokens, dtype=torch.bool, device=owner.device).tril()
    same = owner[:, :, None] == owner[:, None, :]
    seen = earlier & (same | (owner == 0)[:, None, :])
    mask = torch.zeros(seen.shape, dtype=dtype, device=owner.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def embedded(model: Any, ids: Sequence[int]) -> Tensor:
    """Input embeddings [tokens, width] of token ids, without gradient."""
    tokens = torch.tensor(list(ids), dtype=torch.long, device=model.device)
    made: Tensor = model.get_input_embeddings()(tokens).detach()
    return made
