"""One prompt being continued with weaves: exact, from caches; and the same from nothing, as a reference.

Latents are only ever appended, so the reasoner's cache stays exact; the weaver's cache holds the projected
stream, and its queries are cropped off after each weave. A weave then costs the new tokens and the latents.
Where layers attend to a limited span a full cache cannot be cropped, and the queries read a copy of it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from deltamem_eval.attention import limited
from torch import Tensor

if TYPE_CHECKING:
    from deltamem_eval.methods.memgen.config import Place
    from deltamem_eval.methods.memgen.model import MemGenModel


class Stream:
    """Embeddings fed so far, as caches of the reasoner, the weaver and the trigger. One row."""

    def __init__(self, parts: MemGenModel) -> None:
        self._parts = parts
        self._reasoner: Any = None
        self._weaver: Any = None
        self._trigger: Any = None
        self._unwoven: list[Tensor] = []
        self._unseen: list[Tensor] = []
        self.length = 0
        self.logits: Tensor = torch.empty(0)

    def fork(self) -> Stream:
        """An independent copy that can grow."""
        made = copy.copy(self)
        for name in ("_reasoner", "_weaver", "_trigger"):
            setattr(made, name, copy.deepcopy(getattr(self, name)))
        made._unwoven, made._unseen = list(self._unwoven), list(self._unseen)
        return made

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held."""
        caches = [cache for cache in (self._reasoner, self._weaver, self._trigger) if cache is not None]
        layers = [layer for cache in caches for layer in cache.layers]
        return sum(
            item.numel() * item.element_size() for layer in layers for item in (layer.keys, layer.values)
        )

    def feed(self, embeds: Tensor, real: bool = True) -> None:
        """Append embeddings [1, tokens, width]; `real` ones are tokens, which the trigger reads too."""
        output = self._parts.model(
            inputs_embeds=embeds, past_key_values=self._reasoner, use_cache=True, logits_to_keep=1
        )
        self._reasoner, self.logits = output.past_key_values, output.logits[:, -1]
        self._unwoven.append(embeds)
        if real:
            self._unseen.append(embeds)
        self.length += embeds.shape[1]

    def prepare(self) -> None:
        """Bring the weaver's and the trigger's caches up to date, so that forks share that work."""
        self._read()
        if self._parts.config.trigger and self._unseen:
            self._ask()

    def _read(self) -> None:
        """Bring the weaver's cache up to date."""
        if not self._unwoven:
            return
        parts = self._parts
        read = parts.project(torch.cat(self._unwoven, 1), "prompt")[:, : -parts.config.latents]
        self._weaver, self._unwoven = self._woven(read, self._weaver).past_key_values, []

    def _woven(self, read: Tensor, cache: Any) -> Any:
        """What the weaver makes of projected embeddings [1, tokens, width] after those in its cache."""
        with self._parts.acting("weaver"):
            return self._parts.model.get_decoder()(inputs_embeds=read, past_key_values=cache, use_cache=True)

    def _ask(self, bound: float = 0.0) -> bool:
        parts = self._parts
        with parts.acting("trigger"):
            output = parts.model.get_decoder()(
                inputs_embeds=torch.cat(self._unseen, 1), past_key_values=self._trigger, use_cache=True
            )
        self._trigger, self._unseen = output.past_key_values, []
        return parts.wants(output.last_hidden_state, bound)

    def weave(self, place: Place, bound: float = 0.0) -> bool:
        """Append latents if the trigger wants them; whether it did. bound: as in `MemGenModel.wants`."""
        parts = self._parts
        if parts.config.trigger and not self._ask(bound):
            return False
        width, cropped = parts.config.latents, not limited(parts.model)
        if not cropped:
            self._read()
        new = torch.cat(self._unwoven, 1) if self._unwoven else self._nothing()
        cache = self._weaver if cropped else copy.deepcopy(self._weaver)
        output = self._woven(parts.project(new, place), cache)
        if cropped:
            self._weaver, self._unwoven = output.past_key_values, []
            self._weaver.crop(-width)
        self.feed(parts.back(output.last_hidden_state[:, -width:]), real=False)
        return True

    def _nothing(self) -> Tensor:
        weight: Tensor = self._parts.model.get_input_embeddings().weight
        return weight.new_zeros(1, 0, weight.shape[1])


class PlainStream(Stream):
    """The same without any cache: every step reads everything again. Slow; for tests."""

    def __init__(self, parts: MemGenModel) -> None:
        super().__init__(parts)
        self._all: list[Tensor] = []
        self._tokens: list[Tensor] = []

    def feed(self, embeds: Tensor, real: bool = True) -> None:
        """As Stream's."""
        self._all.append(embeds)
        if real:
            self._tokens.append(embeds)
        self.logits = self._parts.model(inputs_embeds=torch.cat(self._all, 1), use_cache=False).logits[:, -1]
        self.length += embeds.shape[1]

    def prepare(self) -> None:
        """Nothing is kept."""

    def weave(self, place: Place, bound: float = 0.0) -> bool:
        """As Stream's."""
        parts = self._parts
        if parts.config.trigger:
            with parts.acting("trigger"):
                seen = parts.model.get_decoder()(inputs_embeds=torch.cat(self._tokens, 1), use_cache=False)
            if not parts.wants(seen.last_hidden_state, bound):
                return False
        with parts.acting("weaver"):
            read = parts.project(torch.cat(self._all, 1), place)
            hidden = parts.model.get_decoder()(inputs_embeds=read, use_cache=False).last_hidden_state
        self.feed(parts.back(hidden[:, -parts.config.latents :]), real=False)
        return True
