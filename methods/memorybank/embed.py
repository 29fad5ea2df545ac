"""Embedding of texts for dense retrieval: the backbone's own states, or a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from torch import Tensor

BACKBONE = "backbone"
_ROWS = 32


class Embedder(Protocol):
    """Texts to unit vectors on the CPU, float32 [texts, width]."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embed; a text's vector does not depend on the others."""


class BackboneEmbedder:
    """Mean of the decoder's last hidden states over a text's tokens, scaled to length 1."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embed, in batches of texts of like length."""
        import torch

        ids = [self._backbone.encode(text)[-self._backbone.positions :] or [0] for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(ids[index]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            found.update(zip(rows, self._batch([ids[row] for row in rows]), strict=True))
        if not found:
            return torch.zeros(0, 1)
        return torch.stack([found[index] for index in range(len(texts))])

    def _batch(self, ids: list[list[int]]) -> Tensor:
        """Right-padded: causal attention keeps padding out of the states before it."""
        import torch

        width = max(len(row) for row in ids)
        tokens = torch.zeros(len(ids), width, dtype=torch.long)
        live = torch.zeros(len(ids), width)
        for index, row in enumerate(ids):
            tokens[index, : len(row)] = torch.tensor(row)
            live[index, : len(row)] = 1
        device = self._backbone.device
        with torch.no_grad():
            decoder = self._backbone.model.get_decoder()
            states = decoder(tokens.to(device), use_cache=False).last_hidden_state.float().cpu()
        mean = (states * live[..., None]).sum(1) / live.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=-1)


class SentenceEmbedder:
    """A sentence-transformers model by name or folder; no remote code is run."""

    def __init__(self, name: str, device: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise UserError(
                "option embedder of memorybank needs sentence-transformers: "
                "pip install 'deltamem-eval[memorybank]'"
            ) from None
        try:
            self._model: Any = SentenceTransformer(name, device=device, trust_remote_code=False)
        except (OSError, ValueError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"cannot load the embedder '{name}': {first}") from None

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embed with the model's own pooling, scaled to length 1."""
        made: Tensor = self._model.encode(
            list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return made.float().cpu()


def make_embedder(name: str, backbone: Backbone) -> Embedder:
    """The embedder an option names. Raises UserError where it cannot be had."""
    return BackboneEmbedder(backbone) if name == BACKBONE else SentenceEmbedder(name, str(backbone.device))
