"""Putting memories on a decoder's attention layers through hooks, and taking them off again.

The memories live outside the model's module tree: its state dict stays the backbone's own, and detaching
leaves no trace.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem.config import HEADS, DeltaMemConfig
from deltamem_eval.methods.delta_mem.memory import LayerMemory
from deltamem_eval.methods.delta_mem.padding import real_tokens
from deltamem_eval.methods.delta_mem.scan import Form
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Attachment:
    """The memories of one model, by module path, and what a forward needs to know."""

    def __init__(self, config: DeltaMemConfig) -> None:
        self.config = config
        self.memories: dict[str, LayerMemory] = {}
        self.handles: list[RemovableHandle] = []
        self.mask: Tensor | None = None
        self.write = True
        self.segments: Tensor | None = None  # as the block gave them
        self.begin: int | None = None  # tokens in the key-value cache before the block's first
        self.ids: Tensor | None = None  # of the forward under way
        self.silent = False  # its tokens belong to no message
        self.last: LayerMemory | None = None  # the forward ends once this one is written


class Ingested(Exception):  # noqa: N818 - the end that was wanted, no error
    """Ends a forward that only writes, when the last memory has what it needs."""


_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_ATTACHED: WeakKeyDictionary[nn.Module, Attachment] = WeakKeyDictionary()


def attach(model: nn.Module, config: DeltaMemConfig) -> None:
    """Give every targeted attention layer a fresh memory.

    Initialisation draws from torch's global generator: seed it for a repeatable start. Decoding that reorders
    or cuts the key-value cache behind the model's back (beam search, assisted decoding) leaves states where
    they were: use it with writes off. Raises UserError for a model without separate q/k/v/o projections or
    with quantised ones, a layer it does not have, or a model that already carries memories; the model's
    forward raises ValueError where gradients are checkpointed, for each layer would write twice.
    """
    if model in _ATTACHED:
        raise UserError("the model already carries a memory: call detach first")
    attachment = Attachment(config)
    targets = _targets(model, config)
    weights = {path: _weights(path, module) for path, module in targets.items()}
    for path, bases in weights.items():
        attachment.memories[path] = LayerMemory(config, bases).to(bases["q"].device)
    # All memories are made: what fails, for want of room, has left nothing on the model.
    for path, module in targets.items():
        _hook(attachment, attachment.memories[path], module)
    decoder = decoder_of(model)
    before = partial(_before_decoder, attachment, _Forward.of(decoder))
    attachment.handles.append(decoder.register_forward_pre_hook(before, with_kwargs=True))
    attachment.handles.append(decoder.register_forward_hook(partial(_after_decoder, attachment)))
    _ATTACHED[model] = attachment


def _hook(attachment: Attachment, memory: LayerMemory, module: nn.Module) -> None:
    """Let a memory see what its attention module is given, and correct its projections."""
    attachment.handles.append(
        module.register_forward_pre_hook(partial(_before_attention, attachment, memory), with_kwargs=True)
    )
    attachment.handles.extend(
        module.get_submodule(f"{head}_proj").register_forward_hook(partial(_after_projection, memory, head))
        for head in attachment.config.delta_heads
    )
    if "o" not in attachment.config.delta_heads:
        attachment.handles.append(module.register_forward_hook(partial(_after_attention, memory)))


def detach(model: nn.Module) -> None:
    """Take the memories off; the model is then what it was. Does nothing where there are none."""
    attachment = _ATTACHED.pop(model, None)
    if attachment is not None:
        for handle in attachment.handles:
            handle.remove()


def is_attached(model: nn.Module) -> bool:
    """Whether the model carries memories."""
    return model in _ATTACHED


def attachment_of(model: nn.Module) -> Attachment:
    """The model's memories. Raises UserError where it carries none."""
    if model not in _ATTACHED:
        raise UserError("the model carries no memory: call attach or load_adapter first")
    return _ATTACHED[model]


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The added parameters that training changes."""
    return [item for memory in attachment_of(model).memories.values() for item in memory.active_parameters()]


def use_form(model: nn.Module, form: Form) -> None:
    """Choose the scan; the default is `auto` (see `scan`)."""
    for memory in attachment_of(model).memories.values():
        memory.form = form


def reset_state(model: nn.Module) -> None:
    """Empty every memory; the next forward may have any number of rows."""
    for memory in attachment_of(model).memories.values():
        memory.state = None


def get_state(model: nn.Module) -> dict[str, Tensor]:
    """States by module path; empty memories are left out. [batch, rank, rank], or [batch, heads, rank,
    rank]. Copies, which later forwards do not change, unless gradients flow through them.
    """
    states = {path: memory.state for path, memory in attachment_of(model).memories.items()}
    return {path: state for path, state in states.items() if state is not None}


def set_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Replace every memory's state; paths not named become empty. Gradients flow into tensors that want
    them; others are copied.

    Raises UserError for a path the model does not have, or a state of another shape.
    """
    attachment = attachment_of(model)
    config = attachment.config
    tail = (config.rank, config.rank)
    shape = tail if config.num_state_heads == 1 else (config.num_state_heads, *tail)
    for path, tensor in state.items():
        if path not in attachment.memories:
            raise UserError(f"state for '{path}', which carries no memory in this model")
        if tuple(tensor.shape[1:]) != shape:
            raise UserError(f"state of '{path}' is {tuple(tensor.shape)}, expected [rows, {shape}]")
    for path, memory in attachment.memories.items():
        memory.state = state.get(path)


@contextmanager
def writing(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Within the block, forwards write (True) or only read (False)."""
    attachment = attachment_of(model)
    before = attachment.write
    attachment.write = enabled
    try:
        yield
    finally:
        attachment.write = before


@contextmanager
def segments(model: nn.Module, ids: Tensor) -> Iterator[None]:
    """Within the block, `ids` [batch, tokens] say which message each token of a forward belongs to; -1 means
    none.

    With a key-value cache they are those of its next tokens, however many forwards read them; whatever goes
    on from there, as `generate` does, belongs to no message: memories that write by message read for it and
    do not write. To write an answer, run it in a block of its own.
    """
    attachment = attachment_of(model)
    before = attachment.segments, attachment.begin
    attachment.segments, attachment.begin = ids, None
    try:
        yield
    finally:
        attachment.segments, attachment.begin = before


def decoder_of(model: nn.Module) -> nn.Module:
    """The model without its output embeddings."""
    get = getattr(model, "get_decoder", None)
    decoder = get() if callable(get) else None
    return decoder if isinstance(decoder, nn.Module) else model


def _targets(model: nn.Module, config: DeltaMemConfig) -> dict[str, nn.Module]:
    """The attention modules to adapt, by path. Raises UserError where the model cannot be served."""
    named = {
        path: module
        for path, module in model.named_modules()
        if path.rsplit(".", 1)[-1] in config.target_modules
    }
    kind = type(model).__name__
    if not named:
        raise UserError(f"{kind} has no attention module named {' or '.join(config.target_modules)}")
    for path, module in named.items():
        missing = [
            f"{head}_proj"
            for head in HEADS
            if not isinstance(getattr(module, f"{head}_proj", None), nn.Module)
        ]
        if missing:
            raise UserError(f"{kind} cannot carry a memory: {path} has no {', '.join(missing)}")
    if not config.target_layers:
        return named
    chosen = {path: module for path, module in named.items() if _layer_index(path) in config.target_layers}
    absent = set(config.target_layers) - {_layer_index(path) for path in chosen}
    if absent:
        raise UserError(
            f"{kind} has no layer {', '.join(map(str, sorted(absent)))}: it has {len(named)} layers"
        )
    return chosen


def _layer_index(path: str) -> int:
    numbers = [int(part) for part in path.split(".") if part.isdigit()]
    return numbers[-1] if numbers else -1


def _weights(path: str, module: nn.Module) -> dict[str, Tensor]:
    """The layer's own projection weights [out, in] by head. Raises UserError for packed ones."""
    return {head: _weight(f"{path}.{head}_proj", module.get_submodule(f"{head}_proj")) for head in HEADS}


def _weight(path: str, projection: nn.Module) -> Tensor:
    weight = getattr(projection, "weight", None)
    if not isinstance(weight, Tensor):
        raise UserError(f"{path} has no weight matrix: quantised layers are not served")
    sizes = [getattr(projection, name, None) for name in ("out_features", "in_features")]
    fits = weight.dim() == 2 and all(
        size in (None, there) for size, there in zip(sizes, weight.shape, strict=True)
    )
    if weight.dtype not in _PLAIN or not fits:
        kind = str(weight.dtype).removeprefix("torch.")
        raise UserError(
            f"the weight of {path} is {kind} {list(weight.shape)}, not a plain matrix: quantised layers are "
            "not served, load the model without quantisation"
        )
    return weight


class _Forward(NamedTuple):
    """What a decoder's forward is called with: where each argument stands among the positional ones."""

    places: Mapping[str, int]

    @classmethod
    def of(cls, decoder: nn.Module) -> _Forward:
        names = inspect.signature(decoder.forward).parameters
        return cls({name: place for place, name in enumerate(names)})

    def argument(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in kwargs:
            return kwargs[name]
        place = self.places.get(name, len(args))
        return args[place] if place < len(args) else None


def _before_decoder(
    attachment: Attachment,
    forward: _Forward,
    decoder: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    if torch.is_grad_enabled() and decoder.training and _checkpoints(decoder):
        raise ValueError(
            "a model that carries a memory cannot checkpoint gradients: each layer would write twice; call "
            "gradient_checkpointing_disable"
        )

    def given(name: str) -> Any:
        return forward.argument(name, args, kwargs)

    ids = given("input_ids")
    tokens = (given("inputs_embeds") if ids is None else ids).shape[1]
    cache = given("past_key_values")
    attachment.mask = real_tokens(given("attention_mask"), tokens, cache)
    attachment.ids, attachment.silent = attachment.segments, False
    if attachment.segments is not None and attachment.config.memory_write_granularity != "token":
        attachment.ids = _ids_of(attachment, attachment.segments, tokens, cache)
        attachment.silent = attachment.ids is None


def _checkpoints(decoder: nn.Module) -> bool:
    """Whether layers forget what their backward pass needs and run again for it."""
    return any(getattr(module, "gradient_checkpointing", False) for module in decoder.modules())


def _ids_of(attachment: Attachment, ids: Tensor, tokens: int, cache: Any) -> Tensor | None:
    """The message ids of a forward's tokens, of a block's; None where it comes after all of them."""
    if cache is None:
        attachment.begin = 0
        return ids
    seen = int(cache.get_seq_length())
    if attachment.begin is None or seen < attachment.begin:
        attachment.begin = seen
    first = seen - attachment.begin
    if first >= ids.shape[1]:
        return None
    return ids[:, first : first + tokens]


def _before_attention(
    attachment: Attachment, memory: LayerMemory, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    hidden: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    mask = attachment.mask
    if mask is not None and mask.device != hidden.device:
        mask = mask.to(hidden.device)
    memory.step(hidden, mask, attachment.ids, attachment.write and not attachment.silent)
    if attachment.last is memory:
        raise Ingested


def _after_projection(
    memory: LayerMemory, head: str, _: nn.Module, __: tuple[Any, ...], output: Tensor
) -> Tensor:
    corrected = memory.corrected(head, output)
    if head == "o":
        memory.reads = None
    return corrected


# A forward leaves no tensor behind: compiled code would hand it to the next.
def _after_attention(memory: LayerMemory, *_: object) -> None:
    memory.reads = None


def _after_decoder(attachment: Attachment, *_: object) -> None:
    attachment.mask = attachment.ids = None
