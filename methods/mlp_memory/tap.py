"""Reading one layer's feed-forward input while the backbone runs, and mixing at the last position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError
from transformers import LogitsProcessor

if TYPE_CHECKING:
    from deltamem_eval.methods.mlp_memory.model import MlpMemory
    from torch import Tensor


class Tap:
    """A hook that keeps what last went into a layer's feed-forward part [batch, tokens, hidden].

    last_only keeps the last position alone. Raises UserError for a decoder without such layers.
    """

    def __init__(self, model: Any, layer: int, last_only: bool) -> None:
        layers = getattr(model.get_decoder(), "layers", None)
        if layers is None or layer >= len(layers) or not hasattr(layers[layer], "mlp"):
            raise UserError("MLP Memory needs a decoder whose layers have a feed-forward part named mlp")
        self._last_only = last_only
        self.input: Tensor | None = None
        self._handle = layers[layer].mlp.register_forward_pre_hook(self._keep)

    def _keep(self, module: Any, inputs: tuple[Tensor, ...]) -> None:
        self.input = inputs[0][:, -1:] if self._last_only else inputs[0]

    def remove(self) -> None:
        """Take the hook off."""
        self._handle.remove()


class MlpProcessor(LogitsProcessor):
    """Mixes the network's distribution into the next token's; works with `generate` of transformers too.

    Each call uses what the forward just before it put through the tap, and no more than once.
    """

    def __init__(self, tap: Tap, memory: MlpMemory, weight: float) -> None:
        self._tap, self._memory, self._weight = tap, memory, weight

    def __call__(self, input_ids: Any, scores: Tensor) -> Tensor:
        """scores: logits [batch, vocab]; returns log-probabilities of the mixture."""
        from deltamem_eval.methods.mlp_memory.model import mix

        seen, self._tap.input = self._tap.input, None
        if seen is None or seen.shape[0] != scores.shape[0]:
            raise RuntimeError("MLP Memory saw another forward pass than the one it is to mix into")
        own = self._memory(seen[:, -1].to(self._memory.head.weight))
        return mix(scores, own.to(scores.device), self._weight)
