"""Compiles each Triton program of the scan and of its baseline for a GPU, there or not; prints name and rank.

The scans are called on the CPU with the launch of a program replaced by its compilation: what is compiled is
what would be launched.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from deltamem_eval.methods.delta_mem.kernel.function import scan_triton
from deltamem_eval.methods.delta_mem.kernel.shape import Shape
from deltamem_eval.methods.delta_mem.recurrence import Inputs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile  # noqa: A004
from triton.runtime.jit import JITFunction

TARGET = GPUTarget("cuda", 80, 32)
RANKS = (8, 33, 64)  # whole and padded; as large as may be


def compile_instead(program: JITFunction, *args: Any, num_warps: int, **keywords: Any) -> None:
    """In place of `JITFunction.run`: the same program, for TARGET."""
    constants = {name: value for name, value in keywords.items() if name in program.arg_names}
    names = [name for name in program.arg_names if name not in constants]
    signature = dict.fromkeys(constants, "constexpr")
    for name, value in zip(names, args, strict=True):
        signature[name] = "*fp32" if isinstance(value, torch.Tensor) else "i32"
    signature = {name: signature[name] for name in program.arg_names}
    source = ASTSource(fn=program, signature=signature, constexprs=constants)
    compile(source, target=TARGET, options={"num_warps": num_warps})
    print(program.__name__, constants["RANK"], constants)


JITFunction.run = compile_instead
sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from sequential_scan import scan_sequential  # noqa: E402

for scan, rank in (*((scan_triton, rank) for rank in RANKS), (scan_sequential, 8)):
    tokens = Shape.of(rank).span * 17  # more spans than a group has maps
    sequence = [torch.zeros(1, tokens, rank).requires_grad_() for _ in Inputs._fields]
    reads, end = scan(Inputs(*sequence), torch.zeros(1, rank, rank))
    torch.autograd.backward([reads, end], [torch.zeros_like(reads), torch.zeros_like(end)])
