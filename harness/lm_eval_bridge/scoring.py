"""Log-probabilities of given continuations, after the very prompts a method would answer from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from deltamem_eval.attention import can_share, reading
from deltamem_eval.backbone import Backbone, Prefix
from deltamem_eval.decoding import Continuation, Request
from deltamem_eval.errors import UserError
from torch import Tensor

Place = Callable[[int], None]


@dataclass(frozen=True)
class Scored:
    """A continuation's natural log-probabilities, one a token, and whether greedy decoding gives it."""

    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-probability of the whole continuation."""
        return sum(self.logprobs)


@dataclass(frozen=True)
class _Row:
    """Token ids before a continuation, those of the shared prefix left out, and the continuation's."""

    ids: tuple[int, ...]
    wanted: tuple[int, ...]

    @property
    def fed(self) -> tuple[int, ...]:
        """What goes into one forward pass: everything but the last token."""
        return (*self.ids, *self.wanted[:-1])


def score_continuations(
    backbone: Backbone,
    requests: Sequence[Request],
    continuations: Sequence[Sequence[int]],
    prefix: Prefix | None = None,
    before_batch: Place | None = None,
) -> list[Scored]:
    """Log-probabilities of each continuation's token ids after the prefix and its request's ids.

    One forward pass a batch; token by token where the backbone has processors, which see one position at a
    time. before_batch: as `Backbone.generate`'s. A request without ids is scored after the prefix's ids, or,
    without those either, after the tokenizer's first token (bos, else eos). Log-softmax in float32. Raises
    UserError where a continuation is empty or does not fit the model's positions.
    """
    rows = [_row(request, wanted) for request, wanted in zip(requests, continuations, strict=True)]
    shared = [index for index, row in enumerate(rows) if row.ids and prefix is not None]
    alone = [index for index in range(len(rows)) if index not in set(shared)]
    whole = [rows[index] if rows[index].ids else _complete(backbone, rows[index], prefix) for index in alone]
    found = dict(zip(alone, _score(backbone, whole, None, before_batch), strict=True))
    rest = [rows[index] for index in shared]
    found.update(zip(shared, _score(backbone, rest, prefix, before_batch), strict=True))
    return [found[index] for index in range(len(rows))]


def first_token(backbone: Backbone) -> int:
    """The token that stands before a text with nothing before it: bos, else eos, as lm-eval has it."""
    tokenizer = backbone.tokenizer
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if token is None:
        raise UserError(f"{backbone.name} has neither a bos nor an eos token to begin a text with")
    return int(token)


def _row(request: Request, wanted: Sequence[int]) -> _Row:
    if not wanted:
        raise UserError("a continuation without tokens has no probability to measure")
    return _Row(request.ids, tuple(wanted))


def _complete(backbone: Backbone, row: _Row, prefix: Prefix | None) -> _Row:
    return _Row(prefix.ids if prefix is not None else (first_token(backbone),), row.wanted)


def _score(
    backbone: Backbone, rows: Sequence[_Row], prefix: Prefix | None, before_batch: Place | None
) -> list[Scored]:
    """Scores of rows that all come after the same prefix, in batches of like lengths."""
    past = len(prefix.ids) if prefix is not None else 0
    for row in rows:
        if past + len(row.fed) > backbone.positions:
            raise UserError(
                f"{past + len(row.ids)} tokens and {len(row.wanted)} to score exceed the "
                f"{backbone.positions} positions of {backbone.name}: lower the window or choose another model"
            )
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].fed))
    found: dict[int, Scored] = {}
    start = 0
    while start < len(order):
        members = order[start : start + backbone.batch_size]
        work = partial(_score_batch, backbone, [rows[index] for index in members], prefix)
        batch = backbone.try_batch(len(members), work, before_batch)
        if batch is not None:
            found.update(zip(members, batch, strict=True))
            start += len(members)
    return [found[index] for index in range(len(rows))]


@torch.no_grad()
def _score_batch(backbone: Backbone, rows: list[_Row], prefix: Prefix | None) -> list[Scored]:
    measure = _stepwise if backbone.processors else _at_once
    if prefix is not None and can_share(backbone.model):
        with reading(backbone.model, prefix.layers):
            return measure(backbone, rows, len(prefix.ids), 0, None)
    past = len(prefix.ids) if prefix is not None else 0
    return measure(backbone, rows, past, past, prefix.rows(len(rows)) if prefix is not None else None)


def _padded(backbone: Backbone, rows: list[tuple[int, ...]], past: int, cached: int) -> dict[str, Tensor]:
    """Left-padded rows as a forward's arguments. past: tokens before each row's own; the cache holds
    `cached` of them.
    """
    width, pad = max(map(len, rows)), backbone.tokenizer.pad_token_id
    tokens = torch.full((len(rows), width), 0 if pad is None else int(pad), device=backbone.device)
    mask = torch.zeros((len(rows), cached + width), dtype=torch.long, device=backbone.device)
    mask[:, :cached] = 1
    for index, ids in enumerate(rows):
        tokens[index, width - len(ids) :] = torch.tensor(ids, device=backbone.device)
        mask[index, cached + width - len(ids) :] = 1
    positions = (mask[:, cached:].cumsum(1) - 1).clamp(min=0) + past
    return {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}


def _at_once(backbone: Backbone, rows: list[_Row], past: int, cached: int, cache: Any) -> list[Scored]:
    """All continuation tokens of all rows from one forward pass."""
    longest = max(len(row.wanted) for row in rows)
    given = _padded(backbone, [row.fed for row in rows], past, cached)
    logits = backbone.model(**given, past_key_values=cache, use_cache=True, logits_to_keep=longest).logits
    return [measured(logits[index, -len(row.wanted) :], row.wanted) for index, row in enumerate(rows)]


def _stepwise(backbone: Backbone, rows: list[_Row], past: int, cached: int, cache: Any) -> list[Scored]:
    """One token a forward pass, each next-token distribution as the backbone's processors leave it."""
    longest = max(len(row.wanted) for row in rows)
    given = _padded(backbone, [row.ids for row in rows], past, cached)
    steps: list[Tensor] = []
    for step in range(longest):
        output = backbone.model(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, scores = output.past_key_values, output.logits[:, -1]
        for processor in backbone.processors:
            scores = processor(given["input_ids"], scores)
        steps.append(scores)
        fed = [[row.wanted[min(step, len(row.wanted) - 1)]] for row in rows]
        mask = given["attention_mask"]
        given = {
            "input_ids": torch.tensor(fed, device=backbone.device),
            "attention_mask": torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1),
            "position_ids": given["position_ids"][:, -1:] + 1,
        }
    logits = torch.stack(steps, dim=1)
    return [measured(logits[index, : len(row.wanted)], row.wanted) for index, row in enumerate(rows)]


def measured(logits: Tensor, wanted: Sequence[int]) -> Scored:
    """The score of wanted token ids; logits: [tokens, vocab], row n that of token n."""
    targets = torch.tensor(list(wanted), device=logits.device)
    logprobs = logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    greedy = bool((logits.argmax(-1) == targets).all())
    return Scored(tuple(logprobs.tolist()), greedy)


class ScoringBackbone(Backbone):
    """A backbone that measures, instead of generating, the continuations it was told to expect.

    A request is known by its first stop string, which methods hand through from their queries. Requests that
    are not expected (a method's own summaries, say) are generated as ever.
    """

    _expected: Mapping[str, Sequence[int]]
    _scores: dict[str, Scored]

    @classmethod
    def of(cls, backbone: Backbone) -> ScoringBackbone:
        """The same model and tokenizer, able to score."""
        model, tokenizer = backbone.model, backbone.tokenizer
        made = cls(model, tokenizer, backbone.name, backbone.identity, backbone.batch_size)
        made._expected, made._scores = {}, {}
        return made

    @contextmanager
    def expecting(self, continuations: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Scored]]:
        """Within the block, requests whose first stop string is a key are scored into the dict given."""
        self._expected, self._scores = continuations, {}
        try:
            yield self._scores
        finally:
            self._expected = {}

    def expected(self, request: Request) -> Sequence[int] | None:
        """The token ids a request is to be scored on, None for one that is to be generated."""
        return self._expected.get(request.stop[0]) if request.stop else None

    def record(self, key: str, score: Scored) -> None:
        """Note the score of an expected request, for a method that does not generate through here."""
        self._scores[key] = score

    def generate(
        self,
        requests: Sequence[Request],
        prefix: Prefix | None = None,
        before_batch: Place | None = None,
    ) -> list[Continuation]:
        """As Backbone's; an expected request is scored and gives an empty text."""
        found = [self.expected(request) for request in requests]
        wanted = [ids for ids in found if ids is not None]
        if not wanted:
            return super().generate(requests, prefix, before_batch)
        if len(wanted) < len(requests):
            raise ValueError("a method mixed questions with generations of its own in one call")
        keys = [request.stop[0] for request in requests]
        scores = score_continuations(self, requests, wanted, prefix, before_batch)
        for key, score in zip(keys, scores, strict=True):
            self.record(key, score)
        return [Continuation("", 0)] * len(requests)
