"""Writing a context and nothing else: no keys and values, no logits, no layer above the last memory."""

from __future__ import annotations

from deltamem_eval.methods.delta_mem.hooks import Ingested, attachment_of, decoder_of, segments, writing
from torch import Tensor, nn


def ingest(model: nn.Module, tokens: Tensor, messages: Tensor, mask: Tensor | None = None) -> None:
    """Write tokens [batch, tokens] into the model's memories, which go on from their states.

    messages: the message of each token, as for `segments`. mask: False or 0 for padding. The forward ends
    where the last adapted attention begins: what it and everything above would compute reaches no memory.
    """
    attachment = attachment_of(model)
    attachment.last = last = list(attachment.memories.values())[-1]
    try:
        with writing(model, True), segments(model, messages):
            decoder_of(model)(tokens, attention_mask=mask, use_cache=False)
    except Ingested:
        pass
    finally:
        last.reads = attachment.mask = attachment.ids = attachment.last = None
