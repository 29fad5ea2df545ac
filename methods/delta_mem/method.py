"""δ-mem behind the harness's interface: three write policies, one class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deltamem_eval.errors import UserError
from deltamem_eval.interface import (
    Answer,
    Chunk,
    Footprint,
    MemoryMethod,
    MethodSettings,
    Overhead,
    Query,
    Snapshot,
)
from deltamem_eval.methods.passages import sentences

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
    from deltamem_eval.overhead import ModelShape
    from torch import Tensor

_LONGEST_WRITE = 8192


class DeltaMem(MemoryMethod):
    """Writes the whole context into the state, then answers from the state and the window, with writes off.

    The context streams through the decoder in segments of whole chunks, at most write_length tokens each,
    with no key-value cache between them: only the state carries over. Option write_length: at most the
    backbone's positions; 0 means as many as those, at most 8192 (the paper's).
    """

    trained: ClassVar[bool] = True
    writes_through: ClassVar[bool] = True
    granularity: ClassVar[str] = "token"
    state_heads: ClassVar[int] = 1  # of the paper's adapter
    defaults: ClassVar[Mapping[str, Any]] = {"write_length": 0}

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.delta_mem.adapter import load_adapter, read_config
        from deltamem_eval.methods.options import merge_options
        from deltamem_eval.methods.shared_prefix import SharedPrefix
        from deltamem_eval.methods.window import Window, window_size

        options = merge_options(self.name, self.defaults, settings.options)
        if settings.adapter is None:
            raise UserError(f"{self.name} needs trained weights: give --adapter FOLDER")
        self._config = read_config(settings.adapter)
        self._check_policy(self._config, settings.adapter)
        self._backbone = backbone
        self._window = Window(backbone, window_size(backbone, settings.window))
        self._shared = SharedPrefix(backbone, self._window)
        self._write_length = self._checked_length(options["write_length"])
        load_adapter(backbone.model, settings.adapter)
        self.reset()

    def _checked_length(self, asked: int) -> int:
        """Tokens of a segment. Raises UserError for a number that the backbone cannot read at once."""
        most = self._backbone.positions
        if not 0 <= asked <= most:
            raise UserError(
                f"option write_length of {self.name} is 1 to {most:,} tokens, the positions of "
                f"{self._backbone.name}, or 0 for the default, not {asked}"
            )
        return asked or min(most, _LONGEST_WRITE)

    def _check_policy(self, config: DeltaMemConfig, folder: str) -> None:
        if not self._serves(config):
            raise UserError(
                f"the adapter in {folder} writes by {config.memory_write_granularity} into "
                f"{config.num_state_heads} "
                f"state(s): it is not for {self.name}"
            )

    @classmethod
    def _serves(cls, config: DeltaMemConfig) -> bool:
        """Whether an adapter writes as this policy does."""
        several = config.num_state_heads > 1
        return (config.memory_write_granularity, several) == (cls.granularity, cls.state_heads > 1)

    def reset(self) -> None:
        """Forget the context: empty states, nothing pending."""
        self._state: dict[str, Tensor] = {}
        self._pending: list[tuple[int, list[int]]] = []
        self._settled: dict[str, Tensor] | None = None
        self._shared.clear()
        self._window.ids, self._window.seen = [], 0

    def write(self, chunk: Chunk) -> None:
        """Take in a chunk; a full segment goes through the decoder at once."""
        ids = self._window.add(chunk)
        self._settled = None
        self._shared.clear()
        if self._config.memory_write_granularity != "sentence_mean":
            self._take(chunk.index, ids)
            return
        for sentence in sentences(chunk.text):
            last = self._pending[-1][0] if self._pending else -1
            self._take(last + 1, self._backbone.encode(sentence))

    def _take(self, message: int, ids: list[int]) -> None:
        """Take in one message, or what a write is of; ids rise within a segment."""
        if self._pending and sum(len(part) for _, part in self._pending) + len(ids) > self._write_length:
            self._flush()
        for start in range(0, len(ids), self._write_length):
            part = ids[start : start + self._write_length]
            self._pending.append((message, part))
            if len(part) == self._write_length:
                self._flush()

    def _flush(self) -> None:
        self._state = self._written(self._state, self._pending)
        self._pending = []

    def _written(self, state: dict[str, Tensor], parts: list[tuple[int, list[int]]]) -> dict[str, Tensor]:
        """The state after `parts`, each a message id and its tokens, from `state`; neither is changed."""
        import torch
        from deltamem_eval.methods.delta_mem.hooks import get_state, set_state
        from deltamem_eval.methods.delta_mem.ingest import ingest

        if not any(ids for _, ids in parts):
            return state
        model, device = self._backbone.model, self._backbone.device
        tokens = torch.tensor([[token for _, ids in parts for token in ids]], device=device)
        messages = torch.tensor([[message for message, ids in parts for _ in ids]], device=device)
        set_state(model, state)
        with torch.no_grad():
            ingest(model, tokens, messages)
            return get_state(model)

    def _settle(self) -> dict[str, Tensor]:
        """The state with everything written, pending chunks included, which stay pending."""
        if self._settled is None:
            self._settled = self._written(self._state, self._pending)
        return self._settled

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer with writes off, from the state and the last tokens of the context."""
        from deltamem_eval.methods.delta_mem.hooks import writing

        with writing(self._backbone.model, False):
            return self._shared.answer(queries, self._place)

    def _place(self, rows: int) -> None:
        """Set the settled state for that many rows."""
        from deltamem_eval.methods.delta_mem.hooks import set_state

        state = self._settle()
        rowed = {path: tensor.expand(rows, *tensor.shape[1:]) for path, tensor in state.items()}
        set_state(self._backbone.model, rowed)

    def snapshot(self) -> Snapshot:
        """The states, the chunks not yet written, and the window.

        Those chunks are written into a state of its own here, so that no answer waits for it.
        """
        self._settle()
        meta = {
            "pending": [[message, list(ids)] for message, ids in self._pending],
            "window": list(self._window.ids),
            "seen": self._window.seen,
        }
        return Snapshot(dict(self._state), meta)

    def restore(self, snapshot: Snapshot) -> None:
        """Put everything back; what was derived from the same memory is kept."""
        pending = [(int(message), list(ids)) for message, ids in snapshot.meta["pending"]]
        if not self._same(snapshot.tensors) or pending != self._pending:
            self._settled = None
            self._shared.clear()
            self._state = {
                path: tensor.to(self._backbone.device) for path, tensor in snapshot.tensors.items()
            }
            self._pending = pending
        self._window.ids = list(snapshot.meta["window"])
        self._window.seen = int(snapshot.meta["seen"])

    def _same(self, state: Mapping[str, Tensor]) -> bool:
        return state.keys() == self._state.keys() and all(
            tensor is self._state[path] for path, tensor in state.items()
        )

    def footprint(self) -> Footprint:
        """Bytes of the states, and of the window's text with its keys and values."""
        state = sum(tensor.numel() * tensor.element_size() for tensor in self._settle().values())
        text = len(self._backbone.decode(self._window.ids).encode("utf-8"))
        return Footprint(text=text, state=state, kv=self._shared.bytes)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Exact parameters of the paper's configuration of this write policy (rank 8, q and o corrected)."""
        return _overhead(cls.adapter_config(), shape)

    def added(self, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Exact parameters of the adapter that was loaded, whatever its rank, layers and corrections."""
        return _overhead(self._config, shape)

    @property
    def capacity(self) -> int:
        """Rank times state heads: a state of rank r holds r associations."""
        return self._config.width

    def trained_tensors(self) -> Iterable[Tensor]:
        """The adapter's parameters, inactive corrections left out."""
        from deltamem_eval.methods.delta_mem.hooks import trainable_parameters

        return trainable_parameters(self._backbone.model)

    @classmethod
    def adapter_config(cls) -> DeltaMemConfig:
        """The paper's adapter of this write policy: rank 8, q and o corrected."""
        from deltamem_eval.methods.delta_mem.config import DeltaMemConfig

        return DeltaMemConfig(num_state_heads=cls.state_heads, memory_write_granularity=cls.granularity)

    @classmethod
    def adapter_hash(cls, folder: str) -> str:
        """Content hash of the adapter's config and weights."""
        from deltamem_eval.methods.delta_mem.adapter import adapter_hash

        return adapter_hash(folder)

    def close(self) -> None:
        """Take the memory off the backbone."""
        from deltamem_eval.methods.delta_mem.hooks import detach

        detach(self._backbone.model)


def _overhead(config: DeltaMemConfig, shape: ModelShape) -> Overhead:
    from deltamem_eval.methods.delta_mem.config import added_parameters

    outputs = {"q": shape.q_out, "k": shape.kv_out, "v": shape.kv_out, "o": shape.hidden}
    count = added_parameters(config, shape.hidden, outputs, shape.layers)
    return Overhead(trainable=count, stored=count)


class TokenWrite(DeltaMem):
    """Token-state write: every token writes into one state."""

    name: ClassVar[str] = "token-write"
    summary: ClassVar[str] = "δ-mem, every token writes into one 8×8 state a layer"


class SequenceWrite(DeltaMem):
    """Sequence-state write: each message writes once, the mean of its tokens.

    An adapter of sentence_mean writes once a sentence; one with several states writes into all of them.
    """

    name: ClassVar[str] = "sequence-write"
    summary: ClassVar[str] = "δ-mem, each message writes its mean into one 8×8 state a layer"
    granularity: ClassVar[str] = "message_mean"

    @classmethod
    def _serves(cls, config: DeltaMemConfig) -> bool:
        """Whether an adapter writes by message or by sentence, into however many states."""
        return config.memory_write_granularity != "token"


class MultiWrite(DeltaMem):
    """Multi-state write: every token writes into four states."""

    name: ClassVar[str] = "multi-write"
    summary: ClassVar[str] = "δ-mem, every token writes into four 8×8 states a layer"
    state_heads: ClassVar[int] = 4


POLICIES: Mapping[str, type[DeltaMem]] = {
    policy.name: policy for policy in (TokenWrite, SequenceWrite, MultiWrite)
}
