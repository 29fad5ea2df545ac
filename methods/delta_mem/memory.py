"""The memory of one attention layer: projections, gates, state, read and write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from deltamem_eval.methods.delta_mem.config import HEADS, DeltaMemConfig
from deltamem_eval.methods.delta_mem.scan import Form, UpdateMode, scan
from torch import Tensor, nn
from torch.nn import functional

_EPS = 1e-6
Head = Literal["q", "k", "v", "o"]


class LayerMemory(nn.Module):
    """Reads and writes the state of one layer and turns reads into corrections of its projections.

    Parameter names and shapes are the release's. bases: the layer's own projection weights [out, in] by head,
    for shapes and for the base-slice initialisation. state: [batch, rank, rank], or [batch, heads, rank,
    rank] with several state heads; None stands for zeros.
    """

    memory_q_proj: nn.Parameter
    memory_k_proj: nn.Parameter
    memory_v_proj: nn.Parameter
    delta_o_proj: nn.Parameter

    def __init__(self, config: DeltaMemConfig, bases: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.state: Tensor | None = None
        self.corrections: dict[str, Tensor] = {}
        self.form: Form = "auto"
        hidden, width = bases["q"].shape[1], config.width
        for name in ("memory_q_proj", "memory_k_proj", "memory_v_proj"):
            self.register_parameter(name, _projection(width, hidden))
        for head in HEADS:
            start = _initial_delta(config, bases[head]) if head in config.delta_heads else None
            value = torch.zeros(bases[head].shape[0], width) if start is None else start
            self.register_parameter(
                f"delta_{head}_proj", nn.Parameter(value, requires_grad=start is not None)
            )
        self.beta_proj = nn.Parameter(torch.zeros(config.gates, hidden))
        self.beta_bias = nn.Parameter(torch.full((config.gates,), config.beta_bias_init))
        if config.has_lambda:
            self.lambda_proj = nn.Parameter(torch.zeros(config.gates, hidden))
            self.lambda_bias = nn.Parameter(torch.full((config.gates,), -config.beta_bias_init))

    def active_parameters(self) -> list[nn.Parameter]:
        """The parameters that training changes and that count as added; inactive corrections are zeros and
        do not.
        """
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def step(self, hidden: Tensor, mask: Tensor | None, segments: Tensor | None, write: bool) -> None:
        """Read for every token, compute the corrections, and write if asked.

        hidden: [batch, tokens, width of the model], the attention module's input. mask: [batch, tokens],
        False for padding. segments: message ids [batch, tokens], -1 for none. Raises ValueError where shapes
        disagree.
        """
        if self.memory_q_proj.device != hidden.device:
            self.to(hidden.device)
        x = hidden.to(torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        state = self._state_for(x)
        by_message = self.config.memory_write_granularity != "token" and segments is not None
        if by_message or not write:
            reads = self._read_only(x, mask, state)
            if write:
                state = self._write_messages(x, mask, cast(Tensor, segments), state)
        else:
            reads, state = self._scan(x, x, mask, state)
        if write:
            self.state = state.squeeze(1) if self.config.num_state_heads == 1 else state
        self._correct(reads.transpose(1, 2).flatten(2))

    def keys_of(self, x: Tensor, head: Literal["q", "k"]) -> Tensor:
        """Normalised keys of reading (q) or writing (k) of states [batch, tokens, width of the model], as
        [batch, heads, tokens, rank].
        """
        return self._key(x, self.memory_q_proj if head == "q" else self.memory_k_proj)

    def written_state(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The state after writing x [batch, writes, width of the model] into an empty one, and the writes'
        keys [batch, heads, writes, rank]. present: [batch, writes], False where there is none.
        """
        empty = x.new_zeros(x.shape[0], self.config.num_state_heads, self.config.rank, self.config.rank)
        return self._scan(x, x, present, empty)[1], self.keys_of(x, "k")

    def _state_for(self, x: Tensor) -> Tensor:
        """The state as [batch, heads, rank, rank], zeros where there is none."""
        rank, heads = self.config.rank, self.config.num_state_heads
        if self.state is None:
            return x.new_zeros(x.shape[0], heads, rank, rank)
        if self.state.shape[0] != x.shape[0]:
            raise ValueError(
                f"the memory holds the states of {self.state.shape[0]} rows but {x.shape[0]} came: "
                "call reset_state, or set_state with as many rows"
            )
        return self.state.to(x).reshape(x.shape[0], heads, rank, rank)

    def _split(self, projected: Tensor) -> Tensor:
        """[batch, tokens, heads·n] as [batch, heads, tokens, n]."""
        batch, tokens, _ = projected.shape
        return projected.reshape(batch, tokens, self.config.num_state_heads, -1).transpose(1, 2)

    def _key(self, x: Tensor, weight: Tensor) -> Tensor:
        key = self._split(functional.linear(x, weight.to(x.dtype)))
        if not self.config.normalize_qk:
            return key
        return functional.normalize(key.tanh(), dim=-1, eps=_EPS)

    def _gate(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self._split(functional.linear(x, weight.to(x.dtype), bias.to(x.dtype)).sigmoid())

    def _read_only(self, x: Tensor, mask: Tensor | None, state: Tensor) -> Tensor:
        """Reads [batch, heads, tokens, rank] of every token from one state."""
        reads = self._key(x, self.memory_q_proj) @ state.transpose(-1, -2)
        return reads if mask is None else torch.where(mask[:, None, :, None], reads, reads.new_zeros(()))

    def _scan(self, x: Tensor, queries: Tensor, mask: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        decay = self._gate(x, self.lambda_proj, self.lambda_bias) if config.has_lambda else None
        return scan(
            self._key(queries, self.memory_q_proj),
            self._key(x, self.memory_k_proj),
            self._split(functional.linear(x, self.memory_v_proj.to(x.dtype))),
            self._gate(x, self.beta_proj, self.beta_bias),
            decay,
            state,
            mask=mask,
            mode=cast(UpdateMode, config.state_update_mode),
            form=self.form,
        )

    def _write_messages(self, x: Tensor, mask: Tensor | None, segments: Tensor, state: Tensor) -> Tensor:
        """The state after one write per message, of the mean of its tokens, in the order of the ids."""
        means, present = message_means(x, segments, mask)
        return self._scan(means, means, present, state)[1]

    def _correct(self, reads: Tensor) -> None:
        """Corrections (α/r) W^Δ r of the active heads, from concatenated reads [batch, tokens, R]."""
        scale = self.config.alpha / self.config.rank
        for head in self.config.delta_heads:
            weight: Tensor = getattr(self, f"delta_{head}_proj")
            self.corrections[head] = scale * functional.linear(reads, weight.to(reads.dtype))


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


def _projection(rows: int, columns: int) -> nn.Parameter:
    weight = torch.empty(rows, columns)
    nn.init.kaiming_uniform_(weight, a=5**0.5)
    return nn.Parameter(weight)


def _initial_delta(config: DeltaMemConfig, base: Tensor) -> Tensor:
    """The start of an active correction [out, R].

    base_slice_fixed: the first min(base_slice_ref_width, rank) columns are the base weight's first columns,
    each of unit length, times online_gain; the others are zero. base_slice: the same for all R columns.
    """
    out, width = base.shape[0], config.width
    start = torch.zeros(out, width)
    if config.output_init == "random":
        return _projection(out, width).data * config.online_gain
    if config.output_init.startswith("base_slice"):
        fixed = config.output_init == "base_slice_fixed"
        count = min(config.base_slice_ref_width, config.rank) if fixed else width
        count = min(count, base.shape[1])
        columns = functional.normalize(base.detach()[:, :count].float(), dim=0)
        start[:, :count] = config.online_gain * columns.cpu()
    return start
