"""The network: blocks without attention over one layer's feed-forward input, and a head of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.mlp_memory.config import MlpConfig
from torch import Tensor, nn
from torch.nn import functional

CONFIG_FILE = "mlp_memory.json"
WEIGHTS_FILE = "mlp_memory.safetensors"
_EPS = 1e-6


class _Block(nn.Module):
    """x + SwiGLU(RMSNorm(x))."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(hidden, eps=_EPS)
        self.gate = nn.Linear(hidden, intermediate, bias=False)
        self.up = nn.Linear(hidden, intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] to the same."""
        y = self.norm(x)
        made: Tensor = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return made


class MlpMemory(nn.Module):
    """Hidden states [..., hidden] to logits [..., vocab]; no token sees another."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(_Block(config.hidden, config.intermediate) for _ in range(config.blocks))
        self.norm = nn.RMSNorm(config.hidden, eps=_EPS)
        self.head = nn.Linear(config.hidden, config.vocab, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next token."""
        for block in self.blocks:
            x = block(x)
        made: Tensor = self.head(self.norm(x))
        return made

    def save(self, folder: Path) -> None:
        """Write config and weights. Raises UserError where that cannot be."""
        from safetensors.torch import save_file

        try:
            folder.mkdir(parents=True, exist_ok=True)
            weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
            save_file(weights, folder / WEIGHTS_FILE)
            text = json.dumps(asdict(self.config), indent=2) + "\n"
            (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None


def load_mlp(folder: str | Path, dtype: torch.dtype = torch.float32) -> MlpMemory:
    """The network in a folder, its weights in `dtype` whatever they are stored in.

    Raises UserError where it is missing, damaged, or its sizes disagree.
    """
    from safetensors.torch import load_file

    place = Path(folder)
    try:
        values: Mapping[str, Any] = json.loads((place / CONFIG_FILE).read_text(encoding="utf-8"))
        config = MlpConfig(**values)
        weights = load_file(place / WEIGHTS_FILE)
    except OSError:
        raise UserError(f"no MLP memory in {folder}: it needs {CONFIG_FILE} and {WEIGHTS_FILE}") from None
    except Exception as error:  # json, safetensors and the dataclass raise their own kinds
        raise UserError(f"the MLP memory in {folder} is damaged: {error}") from error
    with torch.device("meta"):  # no weights are drawn, and none are held in another type
        model = MlpMemory(config).to(dtype)
    model.to_empty(device=torch.get_default_device())
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"the MLP memory in {folder} is damaged: weights and {CONFIG_FILE} disagree"
        ) from None
    return model


def inference_dtype(backbone: torch.dtype) -> torch.dtype:
    """The type a trained network answers in: the backbone's own where that is a half-precision one."""
    return backbone if backbone in (torch.bfloat16, torch.float16) else torch.float32


def check_fit(config: MlpConfig, hidden: int, vocab: int, layers: int) -> None:
    """Raises UserError where a network was made for a backbone of other dimensions."""
    for name, own, wanted in (("hidden size", config.hidden, hidden), ("vocabulary", config.vocab, vocab)):
        if own != wanted:
            raise UserError(f"the MLP memory was made for a backbone of {name} {own}; this one has {wanted}")
    if config.layer >= layers:
        raise UserError(f"the MLP memory reads layer {config.layer}, but the backbone has {layers} layers")


def mix(logits: Tensor, memory_logits: Tensor, weight: float) -> Tensor:
    """Log-probabilities of (1 - λ) p_LM + λ p_MLP, from logits [..., vocab] of both, in float32."""
    if weight <= 0:
        return functional.log_softmax(logits.float(), -1)
    if weight >= 1:
        return functional.log_softmax(memory_logits.float(), -1)
    language = functional.log_softmax(logits.float(), -1) + torch.log1p(torch.tensor(-weight))
    memory = functional.log_softmax(memory_logits.float(), -1) + torch.log(torch.tensor(weight))
    return torch.logaddexp(language, memory)
