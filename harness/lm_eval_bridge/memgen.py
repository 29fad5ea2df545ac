"""MemGen with its continuations scored: it decodes by itself, so the tokens are forced in its own loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from deltamem_eval.decoding import Continuation
from deltamem_eval.lm_eval_bridge.scoring import ScoringBackbone, first_token, measured
from deltamem_eval.methods.memgen.method import MemGen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltamem_eval.methods.memgen.stream import Stream
    from deltamem_eval.methods.prompt import Prompt


class ScoredMemGen(MemGen):
    """MemGen on a scoring backbone; given tokens bring on the weaves that the same tokens generated would."""

    name: ClassVar[str] = MemGen.name

    def _continue(self, prompt: Prompt) -> Continuation:
        backbone = self._backbone
        wanted = backbone.expected(prompt.request) if isinstance(backbone, ScoringBackbone) else None
        if wanted is None or not isinstance(backbone, ScoringBackbone):
            return super()._continue(prompt)
        stream = self._started(prompt.prefix)
        ids = prompt.request.ids or (() if prompt.prefix else (first_token(backbone),))
        if ids:
            stream.feed(self._parts.embed(ids))
        if self._fits(stream, prompt):
            stream.weave("prompt", self._bounds(prompt)(0))
        logits = torch.cat(self._forced(stream, prompt, wanted))
        backbone.record(prompt.request.stop[0], measured(logits, wanted))
        return Continuation("", 0)

    def _forced(self, stream: Stream, prompt: Prompt, wanted: Sequence[int]) -> list[torch.Tensor]:
        """The logits [1, vocab] before each wanted token, weaves made where a generation would make them."""
        parts, used, logits, bound = self._parts, 0, [stream.logits], self._bounds(prompt)
        for count, token in enumerate(wanted[:-1], 1):
            stream.feed(parts.embed([token]))
            at_end = self._backbone.decode(wanted[:count]).endswith(parts.config.delimiters)
            open_to = at_end and used < self._most and self._fits(stream, prompt)
            if open_to and stream.weave("inner", bound(count)):
                used += 1
            logits.append(stream.logits)
        return logits
