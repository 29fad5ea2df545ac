"""The frozen language model: loading, prefill of a shared prefix, and batched greedy generation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from deltamem_eval.ahead import Ahead
from deltamem_eval.attention import can_share, reading
from deltamem_eval.decoding import Continuation, Decoding, Request
from deltamem_eval.errors import UserError
from deltamem_eval.hub import identity_of
from deltamem_eval.likelihood import Expected, score_continuations
from deltamem_eval.overhead import ModelShape
from deltamem_eval.phases import DecodeClock, is_out_of_memory
from deltamem_eval.shapes import meant
from deltamem_eval.sharding import sharding
from deltamem_eval.spread import SPREAD, check_spread, loading
from deltamem_eval.tokens import NOT_LOADED, last_tokens, why
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EMBEDDED = "embedded"
PIECE = 8192  # tokens of a context that are read at once
LEAST_PIECE = 512
SEEN = 2**24  # pairs of a token and one before it: of later pieces, attention wants a mask of them
T = TypeVar("T")
_FILES = (".safetensors", ".json", ".bin", ".model", ".jinja", ".txt")  # those that decide answers


@dataclass(frozen=True)
class Prefix:
    """A prefilled prompt start: its token ids and one key-value cache of batch 1."""

    ids: tuple[int, ...]
    cache: Any

    def rows(self, count: int) -> Any:
        """An independent copy of the cache for `count` rows; generation may grow it."""
        if count == 1:
            return copy.deepcopy(self.cache)
        # Repeating makes new tensors of its own: the structure is copied, the tensors are not copied twice.
        tensors = [item for layer in self.cache.layers for item in (layer.keys, layer.values)]
        cache = copy.deepcopy(self.cache, {id(item): item for item in tensors if item is not None})
        cache.batch_repeat_interleave(count)
        return cache

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [1, heads, tokens, width] of every layer."""
        return [(layer.keys, layer.values) for layer in self.cache.layers]

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held."""
        return sum(
            tensor.numel() * tensor.element_size()
            for layer in self.cache.layers
            for tensor in (layer.keys, layer.values)
            if tensor is not None
        )


class Backbone:
    """A decoder-only model and its tokenizer.

    positions: the longest sequence the model may see, in tokens. identity: content hash of its files, or
    the hub commit. batch_size: rows decoded at once, set to what is asked for; halved when memory runs out
    (`notices` says so), until `full_batches`. system: the message that opens every prompt, where a task sets
    one. processors: called with the last forward's token ids [batch, tokens] and the next token's logits
    [batch, vocab], as transformers' logits processors are; their results are what is decoded from. expected:
    continuations that are measured where they would be generated.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, identity: str, batch_size: int = 8) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.identity = identity
        self.batch_size = batch_size
        self.notices: list[str] = []
        self.system = ""
        self.processors: list[Callable[[Tensor, Tensor], Tensor]] = []
        self.clock = DecodeClock()
        self.expected = Expected()
        self._ahead = ahead = Ahead(tokenizer)
        # A run asks for each context once a cell. This must not hold the backbone, or its weights would stay.
        self._length = lru_cache(maxsize=4096)(lambda text: len(ahead.encode(text)))
        self._parameters: int = sum(parameter.numel() for parameter in model.parameters())
        self.config: dict[str, Any] = model.config.get_text_config().to_dict()
        self.positions = int(self.config.get("max_position_embeddings") or tokenizer.model_max_length)

    @property
    def batch_size(self) -> int:
        """Rows decoded at once, as asked for or as few as memory has held since."""
        return self._rows

    @batch_size.setter
    def batch_size(self, rows: int) -> None:
        self._rows = self._rows_asked = rows

    def full_batches(self) -> None:
        """Decode as many rows at once again as were asked for, however few memory held before."""
        self._rows = self._rows_asked

    @property
    def device(self) -> torch.device:
        """Where tokens go in: where the weights are, of a spread model the first of them."""
        device: torch.device = self.model.device
        return device

    @property
    def devices(self) -> str:
        """Names of all devices that hold weights, separated by commas: one, unless it is spread."""
        return ",".join(dict.fromkeys(str(parameter.device) for parameter in self.model.parameters()))

    @property
    def dtype(self) -> str:
        """Name of the weights' type, as `--dtype` spells it."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def weights(self) -> str:
        """Its weights and their type in words: what is trained on it fits these."""
        return f"{self.identity} in {self.dtype}"

    def shape(self) -> ModelShape:
        """The model's dimensions. Raises UserError for a family without a parameter formula."""
        return ModelShape.from_config(self.config)

    def parameters(self) -> int:
        """Parameters of the model itself, tied weights counted once; not what methods attach to it later."""
        return self._parameters

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        return self._ahead.encode(text)

    def announce(self, texts: Sequence[str], context: str = "", wait: bool = False) -> None:
        """Encode beside other work what will be asked for next.

        context: a text whose `length` will be asked for; it is encoded for the first announcement only. wait:
        until all is encoded; what was announced just before is not encoded again.
        """
        self._ahead.announce(texts, context)
        if wait:
            self._ahead.wait()

    def length(self, text: str) -> int:
        """Length of a text in tokens; remembered, since every cell reads the same contexts."""
        return self._length(text)

    def last(self, text: str, tokens: int) -> str:
        """The end of a text: its last `tokens` tokens, all of it where it has no more."""
        return last_tokens(self.tokenizer, text, tokens, self.name)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; special tokens are left out, spaces are kept as they are."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    @torch.no_grad()
    def prefill(self, ids: Sequence[int]) -> Prefix | None:
        """Read `ids` once and keep the keys and values; None for no ids.

        A long context is read by pieces: what layers compute for a piece is gone before the next one.
        """
        if not ids:
            return None
        cache = None
        for piece in torch.split(torch.tensor([list(ids)], device=self.device), _piece(len(ids)), 1):
            output = self.model(piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
        return Prefix(tuple(ids), cache)

    def generate(
        self,
        requests: Sequence[Request],
        prefix: Prefix | None = None,
        before_batch: Callable[[int], None] | None = None,
    ) -> list[Continuation]:
        """Continue every request greedily after the shared prefix.

        before_batch is called with the number of rows before each batch (a memory sets its state
        there). Answers do not depend on the batch: padding is masked and positions count real tokens only.
        Requests that are `expected` are scored and give empty texts. Raises UserError where prompt and budget
        exceed the model's positions.
        """
        wanted = self.expected.of_all(requests)
        if wanted:
            scores = score_continuations(self, requests, wanted, prefix, before_batch)
            for request, score in zip(requests, scores, strict=True):
                self.expected.note(request, score)
            return [Continuation("", 0)] * len(requests)
        for request in requests:
            self._check_length(request, prefix)
        order = sorted(range(len(requests)), key=lambda index: len(requests[index].ids))
        done: dict[int, Continuation] = {}
        start = 0
        while start < len(order):
            rows = order[start : start + self.batch_size]
            batch = self.try_batch(
                len(rows),
                partial(self._generate_batch, [requests[row] for row in rows], prefix),
                before_batch,
            )
            if batch is None:
                continue
            done.update(zip(rows, batch, strict=True))
            start += len(rows)
        return [done[index] for index in range(len(requests))]

    def _check_length(self, request: Request, prefix: Prefix | None) -> None:
        length = len(request.ids) + (len(prefix.ids) if prefix else 0)
        if length + request.max_new_tokens > self.positions:
            raise UserError(
                f"a prompt of {length} tokens and {request.max_new_tokens} to generate exceed the "
                f"{self.positions} positions of {self.name}: shorten the question, lower --window, or "
                f"choose a longer model"
            )

    def try_batch(self, rows: int, work: Callable[[], T], before: Callable[[int], None] | None) -> T | None:
        """The result of a batch of so many rows, or None after halving the batch size because memory ran out.

        before: called with the number of rows first.
        """
        try:
            if before is not None:
                before(rows)
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error) or rows == 1:
                raise
            self._rows = rows // 2
            self.notices.append(f"out of memory at {rows} rows: batch size is now {self.batch_size}")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return None

    @torch.no_grad()
    def _generate_batch(self, requests: list[Request], prefix: Prefix | None) -> list[Continuation]:
        with self.clock.generation():
            if prefix is not None and can_share(self.model):
                with reading(self.model, prefix.layers):
                    return self._decode_rows(requests, len(prefix.ids), 0, None)
            past = len(prefix.ids) if prefix else 0
            return self._decode_rows(requests, past, past, prefix.rows(len(requests)) if prefix else None)

    def _decode_rows(self, requests: list[Request], past: int, cached: int, cache: Any) -> list[Continuation]:
        """Greedy continuations of left-padded rows. past: tokens before each row's own; of them the cache
        holds `cached`.
        """
        rows, width = len(requests), max(len(request.ids) for request in requests)
        tokens = torch.full((rows, width), self._pad(), device=self.device)
        mask = torch.zeros((rows, cached + width), dtype=torch.long, device=self.device)
        mask[:, :cached] = 1
        for row, request in enumerate(requests):
            tokens[row, width - len(request.ids) :] = torch.tensor(request.ids, device=self.device)
            mask[row, cached + width - len(request.ids) :] = 1
        positions = (mask[:, cached:].cumsum(1) - 1).clamp(min=0) + past
        sequences = [Decoding(self, request) for request in requests]
        while True:
            output = self.model(
                tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            scores = output.logits[:, -1]
            for processor in self.processors:
                scores = processor(tokens, scores)
            chosen = scores.argmax(-1)
            known = chosen.tolist()
            self.clock.token()
            for sequence, token in zip(sequences, known, strict=True):
                sequence.take(token)
            if all(sequence.finished for sequence in sequences):
                return [sequence.continuation() for sequence in sequences]
            tokens = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones((rows, 1))], dim=1)
            positions = positions[:, -1:] + 1

    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else 0)

    def end_ids(self) -> frozenset[int]:
        """Ids that end a generation: the model's own, else the tokenizer's."""
        ids = getattr(self.model.generation_config, "eos_token_id", None)
        if ids is None:
            ids = self.tokenizer.eos_token_id
        return frozenset([] if ids is None else ids if isinstance(ids, list) else [ids])


def embedded_folder() -> Path:
    """Folder of the tiny models that ship with the package."""
    from deltamem_eval.tasks import embedded

    return Path(str(embedded.__file__)).parent / "weights"


def source_of(name: str) -> str:
    """What transformers loads for a model's name: the embedded one's folder, else the name itself."""
    return str(embedded_folder() / "backbone") if name == EMBEDDED else name


def _piece(tokens: int) -> int:
    """Tokens to read at once of a context of that many."""
    return PIECE if tokens <= PIECE else min(PIECE, max(LEAST_PIECE, SEEN // tokens))


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1`... as a device that exists. Raises UserError where it does not."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device: torch.device | None = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device '{name}': use auto, cpu, cuda or {SPREAD}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is to be had here: use --device cpu or --device auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"no {name} is to be had here: there are {torch.cuda.device_count()} CUDA devices")
    return device


def load_backbone(name: str, device: str = "auto", dtype: str = "auto", batch_size: int = 8) -> Backbone:
    """Load a model by `embedded`, a local folder, or a hub name; no remote code is run.

    device: as for `pick_device`, or `spread`: layer by layer over all GPUs of the machine. dtype: float32,
    bfloat16, float16, or `auto` (float32 on a CPU, the checkpoint's own on a GPU). Raises UserError where the
    model cannot be had or does not fit.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = pick_device("auto" if device == SPREAD else device)
    more = loading(device)
    if dtype != "auto" and dtype not in DTYPES:
        raise UserError(f"unknown dtype '{dtype}': use auto, {', '.join(DTYPES)}")
    source = source_of(name)
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise UserError(f"cannot load model '{name}': there is no such folder")
    kind: Any = DTYPES.get(dtype) or (torch.float32 if place.type == "cpu" else "auto")
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=kind, trust_remote_code=False, **more)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (SafetensorError, RuntimeError, ImportError) as error:  # damaged, too large, a package is missing
        raise UserError(f"cannot load model '{name}': {why(error)}") from error
    except NOT_LOADED as error:
        near = meant(name)
        hint = f"did you mean {near}?" if near else "known here: embedded, a local folder, or a hub name"
        raise UserError(f"cannot load model '{name}': {why(error)} ({hint})") from error
    check_spread(model, name)
    if not more and not sharding():  # a model shared out goes to its devices later, layer by layer
        try:
            model = model.to(place)
        except RuntimeError as error:
            hint = "choose a smaller model or --dtype bfloat16, or --device spread over several GPUs"
            raise UserError(f"cannot put model '{name}' on {place}: {why(error)} ({hint})") from error
        except (ValueError, ImportError) as error:  # quantized weights that stay put, a missing package
            raise UserError(f"cannot put model '{name}' on {place}: {why(error)}") from error
    return Backbone(model, tokenizer, name, identity_of(source, _FILES), batch_size)
