"""The projections of one memory as one matrix with one bias, so that one product serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Packed(NamedTuple):
    """weights [rows, in] and biases [rows]."""

    weights: Tensor
    biases: Tensor


def pack(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Packed:
    """Weights below each other, through which gradients flow to each. The biases belong to the last rows; the
    others get zeros.
    """
    without = sum(map(len, weights)) - sum(map(len, biases))
    return Packed(torch.cat(list(weights)), torch.cat([biases[0].new_zeros(without), *biases]))


def tie(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Packed:
    """The same, of which the tensors given become views: whatever changes one in place (an optimiser, a
    loaded adapter) changes the whole too, so there is no copy that could be out of date.
    """
    with torch.no_grad():
        packed = pack(weights, biases)
    for parts, whole in ((weights, packed.weights), (biases, packed.biases)):
        end = len(whole)
        for part in reversed(parts):
            part.data = whole[end - len(part) : end]
            end -= len(part)
    return packed
