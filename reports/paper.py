"""Numbers that the δ-mem paper prints (arXiv 2605.12357v1), for a column beside ours."""

from __future__ import annotations

from typing import NamedTuple


class PrintedParameters(NamedTuple):
    """Added parameters, as a number, and as a share of the backbone; both as rounded by the paper."""

    added: float
    share: float


BACKBONE = "Qwen/Qwen3-4B-Instruct-2507"
# Figure 4: trainable parameters on Qwen3-4B-Instruct.
PARAMETERS = {
    "sequence-write": PrintedParameters(4.87e6, 0.0012),
    "token-write": PrintedParameters(4.87e6, 0.0012),
    "multi-write": PrintedParameters(19.47e6, 0.0048),
    "context2lora": PrintedParameters(5.90e6, 0.0015),
    "memgen": PrintedParameters(46.20e6, 0.0113),
    "mlp-memory": PrintedParameters(3078.00e6, 0.7640),
}
