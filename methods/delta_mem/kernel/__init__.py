"""The scan on a GPU, as Triton programs.

How: a row of the state evolves alone, so over a span of tokens it undergoes an affine map.
1. The maps of all spans (`map_spans`): a program takes some columns of some maps - the images of the basis
   vectors, and of nothing - through the tokens of one span.
2. The state before each span, from the maps (passage.py): in groups, and groups of groups.
3. From these, the reads of all spans side by side (`walk_spans`).
So the steps left to do in order are two spans and up to 32 a level of groups: for 8192 tokens of rank 8, 32 +
48 + 32. Going back, the gradient of the state takes the same path from the end, by the maps of the transposed
recurrence, and `differentiate_spans` makes the tokens' gradients. The states that these need are computed
again from those before the spans, which alone are kept: r² floats a span. No two programs add to one number,
so that equal inputs give equal bits.

Why a walk over the tokens of a span, and no products of matrices: every row of the state has gates of its
own, so a chunk's triangular system differs from row to row. For C tokens its solution costs a row C (1 + r) /
2 multiplications a token, the walk 2 r (1 + r): the same for spans of 4 r, as here, and matrix units have no
exact float32. The walk is the token loop's arithmetic in its order: no quotients, no logarithms, gates of 0
and 1 are exact. Maps are r² (r + 1) floats a span, written and read once: for rank 8, less than the six
inputs.

Tested in Triton's interpreter and compiled for devices that are not there; to be measured by
`benchmarks/gpu_scan.py`. triton is imported when the scan is to use it, never before.
"""

from __future__ import annotations

import os
from functools import cache

import torch
from deltamem_eval.methods.delta_mem.kernel.shape import MAX_RANK
from torch import Tensor

LEAST_TRITON = (3, 3)  # the first whose programs may build tuples in a loop


def obstacle(q: Tensor) -> str | None:
    """Why queries [..., rank] cannot be scanned here, as the end of a sentence; None where they can."""
    if q.dtype == torch.float64:
        return "computes in float32 and would lose the digits of float64 inputs: choose `chunked`"
    if q.shape[-1] > MAX_RANK:
        return f"takes ranks up to {MAX_RANK}, not {q.shape[-1]}: choose `chunked`"
    if reason := _lacking():
        return reason
    if not q.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return "needs tensors on a GPU (or, slowly, TRITON_INTERPRET=1 from the start): choose `auto`"
    return None


@cache
def _lacking() -> str | None:
    """What is wrong with the installation."""
    try:
        import triton
    except ImportError:
        return "needs the package triton: pip install 'deltamem-eval[gpu]'"
    if tuple(map(int, triton.__version__.split(".")[:2])) < LEAST_TRITON:
        return f"needs triton {'.'.join(map(str, LEAST_TRITON))} or later, not {triton.__version__}"
    return None
