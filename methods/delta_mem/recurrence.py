"""The gated delta rule itself: what a scan is given, and the token loop that every faster form must match.

Row i of the state evolves alone (arXiv 2605.12357, section 3):

    s_t = λ_t s_{t-1} + w_t k_t,     w_t = β_t v_t - e_t (s_{t-1}·k_t),     read_t = s_{t-1}·q_t

with e = β in the `standard` mode and `no_lambda` (where λ = 1), and e = λβ in `lambda_outside`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """Per token [batch, tokens, rank]: q, k, v, and the gates of write (beta), erase and decay."""

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    erase: Tensor
    decay: Tensor


def scan_naive(inputs: Inputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence, token by token. state: [batch, rank, rank]; returns reads [batch, tokens, rank] and
    the end state.
    """
    reads = []
    for t in range(inputs.q.shape[1]):
        q, k, v, beta, erase, decay = (tensor[:, t] for tensor in inputs)
        reads.append((state @ q[..., None])[..., 0])
        recalled = (state @ k[..., None])[..., 0]
        write = beta * v - erase * recalled
        state = decay[..., None] * state + write[..., None] * k[:, None, :]
    return (torch.stack(reads, 1) if reads else torch.zeros_like(inputs.q)), state
