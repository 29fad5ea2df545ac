"""Log-probabilities of given continuations, after the very prompts a method would answer from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from deltamem_eval.attention import can_share, reading
from deltamem_eval.errors import UserError
from torch import Tensor

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone, Prefix
    from deltamem_eval.decoding import Request
    from deltamem_eval.interface import Answer, MemoryMethod, Query

Place = Callable[[int], None]
_TAG = "\u2060continuation {}\u2060"  # a stop string no text holds; marks the continuation to score


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


class Expected:
    """The continuations a backbone is to measure in place of generating, and their scores.

    A request is known by its first stop string, which methods hand through from their queries. Requests that
    are not expected (a method's own summaries, say) are generated as ever. A method that decodes by itself
    asks `of` what a request is to be scored on, and tells its score by `note`.
    """

    def __init__(self) -> None:
        self._wanted: Mapping[str, Sequence[int]] = {}
        self._scores: dict[str, Scored] = {}

    @contextmanager
    def within(self, continuations: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Scored]]:
        """Within the block, requests whose first stop string is a key are scored into the dict given.

        continuations: token ids by stop string.
        """
        self._wanted, self._scores = continuations, {}
        try:
            yield self._scores
        finally:
            self._wanted = {}

    def of(self, request: Request) -> Sequence[int] | None:
        """The token ids a request is to be scored on, None for one that is to be generated."""
        return self._wanted.get(request.stop[0]) if request.stop else None

    def of_all(self, requests: Sequence[Request]) -> list[Sequence[int]]:
        """The token ids of each request, nothing where all are to be generated.

        Raises ValueError where some are and some are not.
        """
        found = [self.of(request) for request in requests]
        wanted = [ids for ids in found if ids is not None]
        if wanted and len(wanted) < len(requests):
            raise ValueError("a method mixed questions with generations of its own in one call")
        return wanted

    def note(self, request: Request, score: Scored) -> None:
        """Keep the score of an expected request."""
        self._scores[request.stop[0]] = score


def tag(index: int) -> str:
    """The stop string by which the request of that number is known."""
    return _TAG.format(index)


def measure(
    method: MemoryMethod,
    backbone: Backbone,
    queries: Sequence[Query],
    continuations: Mapping[str, Sequence[int]],
) -> list[tuple[Answer, Scored | None]]:
    """Each query's answer, whose text is empty, and the score of its continuation, in order.

    continuations: token ids by the query's first stop string. A score is None where the method skipped or
    failed. Raises UserError for a method that answers without the backbone.
    """
    with backbone.expected.within(continuations) as found:
        answers = method.answer(queries)
    pairs = [(answer, found.get(query.stop[0])) for query, answer in zip(queries, answers, strict=True)]
    if any(score is None and answer.status == "ok" for answer, score in pairs):
        raise UserError(
            f"{method.name} does not answer through the backbone: the probability of a given "
            "continuation cannot be had from it (generate_until tasks work)"
        )
    return pairs


def continuation_ids(
    backbone: Backbone, question: str, continuation: str, chat: bool
) -> tuple[str, list[int]]:
    """The question as it is to be asked, and the continuation's token ids.

    In running text the two are tokenised together and cut where the question's own tokens end, its trailing
    spaces counted to the continuation (lm-eval's `_encode_pair`). In a chat template the continuation begins
    the assistant's turn: white space that would part it from the question is left out.
    """
    if chat:
        return question, backbone.encode(continuation.lstrip())
    kept = question.rstrip()
    moved = question[len(kept) :] + continuation
    return kept, backbone.encode(kept + moved)[len(backbone.encode(kept)) :]
