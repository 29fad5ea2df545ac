"""The memory of one attention layer: projections, gates, state, read and write."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal, Self, cast

import torch
from deltamem_eval.methods.delta_mem.config import HEADS, DeltaMemConfig
from deltamem_eval.methods.delta_mem.initial import initial_delta, initial_scale, random_projection
from deltamem_eval.methods.delta_mem.packed import pack, tie
from deltamem_eval.methods.delta_mem.scan import Form, UpdateMode, scan
from deltamem_eval.methods.delta_mem.step import EPS, step_token
from torch import Tensor, nn
from torch.nn import functional

_INPUTS = ("memory_q_proj", "memory_k_proj", "memory_v_proj")
PIECE = 4096  # tokens whose float32 copies and corrections are alive at once


class LayerMemory(nn.Module):
    """Reads and writes the state of one layer and turns reads into corrections of its projections.

    Parameter names and shapes are the release's. bases: the layer's own projection weights [out, in] by head,
    for shapes and for the base-slice initialisation. reads [batch, tokens, R], or [batch, R] of a single
    token: what the forward under way read, None outside of one and where there is nothing to read.
    """

    memory_q_proj: nn.Parameter
    memory_k_proj: nn.Parameter
    memory_v_proj: nn.Parameter
    delta_o_proj: nn.Parameter

    def __init__(self, config: DeltaMemConfig, bases: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.form: Form = "auto"
        self.reads: Tensor | None = None
        self._state: Tensor | None = None
        self._buffer: Tensor | None = None
        hidden, width = bases["q"].shape[1], config.width
        for name in _INPUTS:
            self.register_parameter(name, random_projection(width, hidden))
        for head in HEADS:
            start = initial_delta(config, bases[head]) if head in config.delta_heads else None
            value = torch.zeros(bases[head].shape[0], width) if start is None else start
            self.register_parameter(
                f"delta_{head}_proj", nn.Parameter(value, requires_grad=start is not None)
            )
        self.beta_proj = nn.Parameter(torch.zeros(config.gates, hidden))
        self.beta_bias = nn.Parameter(torch.full((config.gates,), config.beta_bias_init))
        if not config.couple_lambda:
            weight = torch.zeros(config.gates, hidden)
            bias = torch.full((config.gates,), -config.beta_bias_init)
            self.lambda_proj = nn.Parameter(weight, requires_grad=config.has_lambda)
            self.lambda_bias = nn.Parameter(bias, requires_grad=config.has_lambda)
        if config.delta_o_rmsnorm:
            ones = torch.ones(bases["o"].shape[0])
            self.delta_o_rmsnorm_weight = nn.Parameter(ones, requires_grad="o" in config.delta_heads)
        if config.trainable_delta_scale:
            self.delta_scale_raw = nn.Parameter(initial_scale(config))
        gates = ("beta", "lambda") if config.has_lambda else ("beta",)
        self._rows = (*_INPUTS, *(f"{gate}_proj" for gate in gates))
        self._offsets = tuple(f"{gate}_bias" for gate in gates)
        self._heads = {head: f"delta_{head}_proj" for head in HEADS}
        self._scale = config.alpha / config.rank
        self._tie()

    def _tie(self) -> None:
        parts = self._parts()
        self._packed = tie(*parts)
        names = self._rows + self._offsets
        self._addresses = {name: part.data_ptr() for name, part in zip(names, chain(*parts), strict=True)}

    def _parts(self) -> tuple[list[Tensor], list[Tensor]]:
        own = cast(dict[str, Tensor], self._parameters)
        return [own[name] for name in self._rows], [own[name] for name in self._offsets]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What moves a module moves its tensors one by one: they are put together again."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._tie()
        return self

    def active_parameters(self) -> list[nn.Parameter]:
        """The parameters that training changes and that count as added; inactive corrections, which are
        zeros, and a decay gate that the update mode does not use do not.
        """
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def state(self) -> Tensor | None:
        """What is remembered, [batch, rank, rank], or [batch, heads, rank, rank] with several state heads;
        None is an empty memory. A copy, unless gradients flow through it.
        """
        if self._state is None:
            return None
        state = self._state.clone() if self._state is self._buffer else self._state
        return state.squeeze(1) if self.config.num_state_heads == 1 else state

    @state.setter
    def state(self, state: Tensor | None) -> None:
        if state is not None:
            rank, heads = self.config.rank, self.config.num_state_heads
            kind = torch.float64 if state.dtype == torch.float64 else torch.float32
            state = state.to(self.memory_q_proj.device, kind)
            self._keep(state.reshape(state.shape[0], heads, rank, rank))
            return
        self._state = None
        if self._buffer is not None:
            self._buffer.zero_()

    def _keep(self, state: Tensor) -> Tensor:
        """Remember a state [batch, heads, rank, rank]; returns it where it is kept.

        Without gradients it is copied to a buffer that lasts, at one address, while the number of rows does:
        decoding updates it in place, and a captured graph finds it there.
        """
        if state is self._buffer or state.requires_grad:
            self._state = state
            return state
        buffer = self._buffer
        if buffer is None or (buffer.shape, buffer.dtype, buffer.device) != (
            state.shape,
            state.dtype,
            state.device,
        ):
            buffer = _lasting(state)
        self._state = self._buffer = buffer.copy_(state)
        return buffer

    def step(self, hidden: Tensor, mask: Tensor | None, segments: Tensor | None, write: bool) -> None:
        """Read for every token, and write if asked.

        hidden: [batch, tokens, width of the model], the attention module's input. mask: [batch, tokens],
        False for padding. segments: message ids [batch, tokens], -1 for none. Raises ValueError where shapes
        disagree.
        """
        if self.memory_q_proj.device != hidden.device:
            self.to(hidden.device)
        by_message = self.config.memory_write_granularity != "token" and segments is not None
        if not write and self._state is None:
            self.reads = None
        elif hidden.shape[1] == 1 and not (
            (write and by_message) or torch.is_grad_enabled() or self.form == "naive"
        ):
            self._step_token(hidden[:, 0], None if mask is None else mask[:, 0], write)
        else:
            self._step_tokens(hidden, mask, segments if by_message else None, write)

    def _step_token(self, hidden: Tensor, live: Tensor | None, write: bool) -> None:
        state = self._state_for(hidden)
        if write:
            projected = self._project(hidden)
            state = self._keep(state.detach() if state.requires_grad else state)
        else:
            projected = _linear(hidden, self.memory_q_proj)
        self.reads = step_token(projected, state, live, self.config, write)

    def _step_tokens(self, hidden: Tensor, mask: Tensor | None, segments: Tensor | None, write: bool) -> None:
        state = self._state_for(hidden)
        if segments is not None or not write:
            reads = self._read_only(hidden, mask, state)
            if write:
                means, present = message_means(wide(hidden), cast(Tensor, segments), mask)
                state = self._scan(self._project(means), present, state)[1]
        else:
            reads, state = self._scan(self._project(hidden), mask, state)
        if write:
            self._keep(state)
        self.reads = reads.transpose(1, 2).flatten(2)

    def corrected(self, head: str, output: Tensor) -> Tensor:
        """The output [batch, tokens, out] of the layer's own projection of `head`, with its correction added;
        in place where no gradients are wanted.
        """
        reads = self.reads
        if reads is None:
            return output
        if torch.is_grad_enabled():
            return output + self._correction(head, reads).to(output.dtype)
        if reads.dim() == 3:
            for piece, read in zip(torch.split(output, PIECE, 1), torch.split(reads, PIECE, 1), strict=True):
                self._add(head, piece, read)
        else:
            self._add(head, output.squeeze(1), reads)
        return output

    def _add(self, head: str, output: Tensor, reads: Tensor) -> None:
        """Add the correction in place, the plain one without a tensor more than it takes."""
        weight, scale = cast(Tensor, self._parameters[self._heads[head]]), self._scale
        if self.config.scales or (head == "o" and self.config.delta_o_rmsnorm):
            output.add_(self._correction(head, reads))
        elif reads.dim() == 2 and reads.dtype == output.dtype == weight.dtype:
            output.addmm_(reads, weight.t(), alpha=scale)
        else:
            output.add_(_linear(reads, weight), alpha=scale)

    def _correction(self, head: str, reads: Tensor) -> Tensor:
        """(α/r) W^Δ r of reads [..., R], times its learnt scale, and for o through its norm [..., out]."""
        config, own = self.config, cast(dict[str, Tensor], self._parameters)
        change = self._scale * _linear(reads, own[self._heads[head]])
        if config.scales:
            raw = own["delta_scale_raw"][HEADS.index(head) if config.scales > 1 else 0]
            change = change * (config.delta_scale_max * raw.to(change.dtype).sigmoid())
        if head == "o" and config.delta_o_rmsnorm:
            weight = own["delta_o_rmsnorm_weight"].to(change.dtype)
            change = functional.rms_norm(change, weight.shape, weight, config.delta_o_rmsnorm_eps)
        return change

    def keys_of(self, x: Tensor, head: Literal["q", "k"]) -> Tensor:
        """Normalised keys of reading (q) or writing (k) of states [batch, tokens, width of the model], as
        [batch, heads, tokens, rank].
        """
        return self._key(_linear(x, self.memory_q_proj if head == "q" else self.memory_k_proj))

    def written_state(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The state after writing x [batch, writes, width of the model] into an empty one, and the writes'
        keys [batch, heads, writes, rank]. present: [batch, writes], False where there is none.
        """
        empty = x.new_zeros(x.shape[0], self.config.num_state_heads, self.config.rank, self.config.rank)
        return self._scan(self._project(x), present, empty)[1], self.keys_of(x, "k")

    def _state_for(self, hidden: Tensor) -> Tensor:
        """The state as [batch, heads, rank, rank], zeros where there is none."""
        rank, heads = self.config.rank, self.config.num_state_heads
        kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        state = self._state
        if state is None:
            return hidden.new_zeros(hidden.shape[0], heads, rank, rank, dtype=kind)
        if state.shape[0] != hidden.shape[0]:
            raise ValueError(
                f"the memory holds the states of {state.shape[0]} rows but {hidden.shape[0]} came: "
                "call reset_state, or set_state with as many rows"
            )
        # What a backward pass will look at must not be changed by the next step.
        if state is self._buffer and torch.is_grad_enabled():
            state = state.clone()
        return state.to(hidden.device, kind)

    def _project(self, hidden: Tensor) -> Tensor:
        """q, k, v and gates before any nonlinearity, [..., 3R + gates], by one product.

        Of the parameters themselves where gradients are to reach them, or where one was given storage of its
        own since they were tied; compiled code takes it that none was.
        """
        packed = self._packed
        if torch.is_grad_enabled() or not (torch.compiler.is_compiling() or self._tied()):
            packed = pack(*self._parts())
        return _linear(hidden, *packed)

    def _tied(self) -> bool:
        own = cast(dict[str, Tensor], self._parameters)
        return {name: own[name].data_ptr() for name in self._addresses} == self._addresses

    def _split(self, projected: Tensor) -> Tensor:
        """[batch, tokens, heads·n] as [batch, heads, tokens, n]."""
        batch, tokens, _ = projected.shape
        return projected.reshape(batch, tokens, self.config.num_state_heads, -1).transpose(1, 2)

    def _key(self, projected: Tensor) -> Tensor:
        key = self._split(projected)
        if not self.config.normalize_qk:
            return key
        return functional.normalize(key.tanh(), dim=-1, eps=EPS)

    def _gate(self, projected: Tensor) -> Tensor:
        return self._split(projected.sigmoid())

    def _read_only(self, hidden: Tensor, mask: Tensor | None, state: Tensor) -> Tensor:
        """Reads [batch, heads, tokens, rank] of every token from one state."""
        reads = self._key(_linear(hidden, self.memory_q_proj)) @ state.transpose(-1, -2)
        return reads if mask is None else torch.where(mask[:, None, :, None], reads, reads.new_zeros(()))

    def _scan(self, projected: Tensor, mask: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        sizes = [config.width] * 3 + [config.gates] * (2 if config.has_lambda else 1)
        q, k, v, *gates = torch.split(projected, sizes, -1)
        return scan(
            self._key(q),
            self._key(k),
            self._split(v),
            self._gate(gates[0]),
            self._gate(gates[1]) if config.has_lambda else None,
            state,
            mask=mask,
            mode=cast(UpdateMode, config.state_update_mode),
            form=self.form,
        )


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 what is float64."""
    return x if x.dtype == torch.float64 else x.float()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A product in float32 of states [batch, tokens, n] or [batch, n] of any kind; of a long sequence by
    pieces, so that it is not alive in float32 as a whole.
    """
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    if x.dtype == weight.dtype == kind:
        return functional.linear(x, weight, bias)
    weight, bias = weight.to(kind), None if bias is None else bias.to(kind)
    if x.shape[-2] <= PIECE or torch.is_grad_enabled():
        return functional.linear(x.to(kind), weight, bias)
    pieces = torch.split(x, PIECE, -2)
    return torch.cat([functional.linear(piece.to(kind), weight, bias) for piece in pieces], -2)


def _lasting(like: Tensor) -> Tensor:
    """A buffer that later steps may change in place, within `inference_mode` or without."""
    if torch.compiler.is_compiling():
        return torch.empty_like(like)
    with torch.inference_mode(False):
        return torch.empty(like.shape, dtype=like.dtype, device=like.device)


def message_means(x: Tensor, segments: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean of x over each message's valid tokens.

    x: [batch, tokens, width]; segments: [batch, tokens], -1 for no message. Returns means [batch, messages,
    width], in the order of the ids within each row, and which of them exist [batch, messages].
    """
    if segments.shape != x.shape[:2]:
        raise ValueError(
            f"message ids are {tuple(segments.shape)} but the forward has {tuple(x.shape[:2])} tokens"
        )
    ids = segments.to(x.device)
    if mask is not None:
        ids = torch.where(mask, ids, -torch.ones_like(ids))
    found = cast(Tensor, torch.unique(ids))
    found = found[found >= 0]
    member = (ids[:, None, :] == found[None, :, None]).to(x.dtype)
    counts = member.sum(-1)
    clean = x if mask is None else torch.where(mask[..., None], x, x.new_zeros(()))
    return member @ clean / counts.clamp(min=1)[..., None], counts > 0
