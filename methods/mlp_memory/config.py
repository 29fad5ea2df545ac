"""The network's sizes and the count of its parameters. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

DEPTH = 0.7  # of the backbone's layers, where the paper found the best keys


@dataclass(frozen=True)
class MlpConfig:
    """Sizes. layer: index of the backbone layer whose feed-forward input is read. weight: the mixture's λ."""

    hidden: int
    intermediate: int
    blocks: int
    vocab: int
    layer: int
    weight: float = 0.25


@dataclass(frozen=True)
class Distillation:
    """What is imitated, and by how large a network; α and τ as in arXiv 2508.01832 and its code.

    tokens: size of the datastore. neighbours: searched for at each position. temperature: τ of the softmax
    over their squared distances. alpha: share of the imitation in the loss. blocks: of the network, 0 for as
    many as the backbone has layers; the paper's networks for models of 7B have 8. depth: of the layer whose
    feed-forward input is read, as a share of the backbone's layers.

    Where paper and code differ the paper is followed: its keys are from 70 % of the depth and its α is 0.4,
    the authors' scripts read the last layer (depth 1) and take 0.5.
    """

    tokens: int = 200_000
    neighbours: int = 1024
    temperature: float = 16.0
    alpha: float = 0.4
    blocks: int = 0
    depth: float = DEPTH


def layer_at(layers: int, depth: float = DEPTH) -> int:
    """Index of the layer at a depth: 24 of 36, the 25th, at 70 %; the last at 1."""
    return max(round(depth * layers) - 1, 0)


def parameter_count(hidden: int, intermediate: int, blocks: int, vocab: int) -> int:
    """Blocks of three matrices and a norm, a last norm, and the head."""
    return blocks * (3 * hidden * intermediate + hidden) + hidden + vocab * hidden
