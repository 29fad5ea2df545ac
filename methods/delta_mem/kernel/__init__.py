"""The scan on a GPU, as Triton programs.

How: a row of the state evolves alone, so over a span of tokens it undergoes an affine map.
1. The maps of all spans (`map_spans`): each program takes some of the columns of some maps - the images of the basis
   vectors, and of nothing - through the tokens of one span.
2. The state before each span, from the maps (passage.py): in groups, then groups of groups.
3. From these, the reads of all spans side by side (`walk_spans`).
So the steps taken one after the other are a span or two and 32 a level of groups, not the tokens: 32 + 32 + 48 for
8192 tokens of rank 8. Going back, the gradient of the state takes the same path from the end, its maps being those
of the transposed recurrence, and `differentiate_spans` makes the tokens' gradients. The states that these need are
computed again from those before the spans, which alone are kept: r² floats a span. Nothing is added up by several
programs, so that equal inputs give equal bits.

Why a walk of tokens within a span, and not products of matrices: every row of the state has gates of its own, so
that a chunk's triangular system differs from row to row. With C tokens a chunk, its solution costs a row C (1 + r)
multiplications a token, as many as walking with the map costs for C = 2r, and matrix units have no use for it in
exact float32. The walk is the token loop's arithmetic in its order: no quotients, no logarithms, and gates of 0 and 1
are exact. Maps move r² (r + 1) floats a span twice: for rank 8 and spans of 32 that is less than the inputs.

Compiled and checked against the token loop in Triton's interpreter; `benchmarks/gpu_scan.py` measures it on a GPU.
Needs triton 3.4 or later, imported with the programs alone.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from deltamem_eval.methods.delta_mem.kernel.shape import MAX_RANK
from torch import Tensor


def obstacle(q: Tensor) -> str | None:
    """Why queries [..., rank] cannot be scanned here, as the end of a sentence; None where they can."""
    if q.dtype == torch.float64:
        return "computes in float32 and would lose the digits of float64 inputs: choose `chunked`"
    if q.shape[-1] > MAX_RANK:
        return f"takes ranks up to {MAX_RANK}, not {q.shape[-1]}: choose `chunked`"
    if not _installed():
        return "needs the package triton: pip install 'deltamem-eval[gpu]'"
    if not q.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return "needs tensors on a GPU (or, slowly, TRITON_INTERPRET=1 from the start): choose `auto`"
    return None


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
