"""Decoding a token after the other in several ways: eager, by a captured CUDA graph, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from common import Wrong
from deltamem_eval.backbone import Backbone
from deltamem_eval.methods.delta_mem import reset_state
from deltamem_eval.methods.delta_mem.hooks import is_attached
from torch._dynamo.utils import counters
from transformers import StaticCache

WARM_UP = 8


class Eager:
    """A token after the other with a cache that grows. room: tokens decoded at most."""

    def __init__(self, backbone: Backbone, prompt: list[int], room: int) -> None:
        self.model, self.cache = backbone.model, read(backbone, prompt)
        self.token = torch.full((1, 1), prompt[-1], device=backbone.device)
        self.made = torch.zeros(1, room, dtype=torch.long, device=backbone.device)
        self.count = torch.zeros(1, dtype=torch.long, device=backbone.device)

    def warm(self) -> None:
        """Decode up to 2 · WARM_UP tokens, and ready what later ones need. Raises Wrong where that fails."""
        self.go_on(WARM_UP)

    def step(self) -> None:
        """Decode a token; nothing waits for the device."""
        self.take(self.model(self.token, past_key_values=self.cache, use_cache=True))

    def go_on(self, tokens: int) -> None:
        """Decode that many more."""
        for _ in range(tokens):
            self.step()

    def take(self, output: Any) -> None:
        """Keep the likeliest token, at an address that stays."""
        self.token.copy_(output.logits[:, -1:].argmax(-1))
        self.made.index_copy_(1, self.count, self.token)
        self.count.add_(1)


class Static(Eager):
    """The same with a cache of one size, and a mask and positions made on the device."""

    def __init__(self, backbone: Backbone, prompt: list[int], room: int) -> None:
        super().__init__(backbone, prompt, room)
        self.length = len(prompt) + room
        grown, self.cache = self.cache, StaticCache(config=self.model.config, max_cache_len=self.length)
        for index, layer in enumerate(grown.layers):
            self.cache.update(layer.keys, layer.values, index)
        self.forward: Callable[..., Any] = self.model

    def step(self) -> None:
        # A copy: the cache adds to its own count within the forward, and an input that is a view of another,
        # which is changed, costs a compiled forward its CUDA graph.
        seen = self.cache.get_seq_length().clone()
        mask = torch.arange(self.length, device=self.token.device) <= seen
        output = self.forward(
            self.token,
            attention_mask=mask[None, None, None],
            position_ids=seen.reshape(1, 1),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.take(output)


class Captured(Static):
    """The same, captured once as a CUDA graph and replayed."""

    def warm(self) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                super().step()
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            super().step()
        self.go_on(WARM_UP)

    def step(self) -> None:
        self.graph.replay()


class Compiled(Static):
    """The same, compiled as transformers' generate compiles it."""

    def __init__(self, backbone: Backbone, prompt: list[int], room: int) -> None:
        super().__init__(backbone, prompt, room)
        self.forward = torch.compile(self.model, mode="reduce-overhead", fullgraph=True)

    def warm(self) -> None:
        counters.clear()
        super().warm()
        skipped = counters["inductor"]["cudagraph_skips"]
        if skipped:
            raise Wrong(
                f"compiled: {skipped} graphs run without a CUDA graph, which torch's warning explains"
            )


WAYS: dict[str, type[Eager]] = {"eager": Eager, "graph": Captured, "compiled": Compiled}


def read(backbone: Backbone, prompt: list[int]) -> Any:
    """The cache after a prefill that writes too, into an empty memory."""
    if is_attached(backbone.model):
        reset_state(backbone.model)
    prefix = backbone.prefill(prompt)
    assert prefix is not None
    return prefix.cache
