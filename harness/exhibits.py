"""What a reader needs beside a sample: the question, where its evidence stands, what the prompt showed.

All of it is bounded, whatever the length of the context, so that a run of long contexts stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from deltamem_eval.errors import UserError
from deltamem_eval.files import read_lines
from deltamem_eval.hashing import hash_text
from deltamem_eval.interface import Episode, Query
from pydantic import BaseModel, ConfigDict

LONGEST = 4_000  # characters kept of a question, of a prompt's context, of an excerpt's marked places
PASSAGE = 1_000  # characters kept of one passage
PASSAGES = 20  # passages kept of one question, and places marked in its excerpt
AROUND = 160  # characters shown on either side of a marked place
_LINE = 80  # characters that an end of an excerpt may move to fall on the end of a line
Mark = Literal["evidence", "answer"]


class Clipped(BaseModel):
    """A text; where it was long, its first and last characters and how many were `cut` between them."""

    head: str
    cut: int = 0
    tail: str = ""


class Span(BaseModel):
    """A piece of an excerpt, `cut` characters after the piece before it.

    mark: `evidence` for a passage that is needed; `answer` for an acceptable answer's text in a context whose
    evidence is not known; None for what stands around them.
    """

    text: str
    mark: Mark | None = None
    cut: int = 0


class QuestionRecord(BaseModel):
    """One question of a context. excerpt: the context around its evidence, its start where none is found."""

    query: str
    prompt: Clipped
    targets: list[str]
    evidence: list[Clipped] = []
    excerpt: list[Span] = []


class ContextRecord(BaseModel):
    """One line of `contexts.jsonl`: a context by its content hash, and what an episode asks about it."""

    model_config = ConfigDict(extra="allow")
    cluster: str
    episode: str
    characters: int
    questions: list[QuestionRecord]


class PromptRecord(BaseModel):
    """One line of `prompts.jsonl`: the context text that stood in a question's prompt.

    shown: its content hash, None where the prompt held none; text: the text itself, on the first line that
    shows it.
    """

    model_config = ConfigDict(extra="allow")
    query: str
    shown: str | None = None
    text: Clipped | None = None


def clip(text: str, longest: int = LONGEST) -> Clipped:
    """At most `longest` characters of a text, half from either end."""
    if len(text) <= longest:
        return Clipped(head=text)
    half = longest // 2
    return Clipped(head=text[:half], cut=len(text) - 2 * half, tail=text[-half:])


def context_record(episode: Episode) -> ContextRecord:
    """The record of an episode's context and of everything asked about it."""
    context = episode.context
    return ContextRecord(
        cluster=hash_text(context),
        episode=episode.id,
        characters=len(context),
        questions=[_question(context, query) for query in episode.queries],
    )


def _question(context: str, query: Query) -> QuestionRecord:
    passages = [str(passage) for passage in query.metadata.get("evidence") or ()]
    return QuestionRecord(
        query=query.id,
        prompt=clip(query.prompt),
        targets=list(query.targets),
        evidence=[clip(passage, PASSAGE) for passage in passages[:PASSAGES]],
        excerpt=excerpt(context, passages, query.targets),
    )


def excerpt(context: str, passages: Sequence[str], targets: Sequence[str]) -> list[Span]:
    """The context around the passages, which are marked; around the answers where no passage is found.

    The spans' texts and cuts add up to the context.
    """
    mark: Mark = "evidence"
    places = _places(context, [passage.strip() for passage in passages], whole_words=False)
    if not places:
        mark = "answer"
        places = _places(context, [target.strip() for target in targets], whole_words=True)
    return _spans(context, places or [(0, 0)], mark)


def _places(context: str, texts: Sequence[str], whole_words: bool) -> list[tuple[int, int]]:
    """Where the texts stand, as (start, end) in order and apart: the first PASSAGES, LONGEST characters."""
    found = sorted({place for text in texts if text for place in _occurrences(context, text, whole_words)})
    kept: list[tuple[int, int]] = []
    room = LONGEST
    for start, end in found[:PASSAGES]:
        begin = max(start, kept[-1][1] if kept else 0)
        stop = min(end, begin + room)
        if begin < stop:
            kept.append((begin, stop))
            room -= stop - begin
    return kept


def _occurrences(context: str, text: str, whole_words: bool) -> Iterator[tuple[int, int]]:
    """The first PASSAGES places of a text."""
    start = context.find(text)
    count = 0
    while start >= 0 and count < PASSAGES:
        end = start + len(text)
        inside = context[max(start - 1, 0) : start].isalnum() or context[end : end + 1].isalnum()
        if not (whole_words and inside):
            count += 1
            yield start, end
        start = context.find(text, end)


def _spans(context: str, places: Sequence[tuple[int, int]], mark: Mark) -> list[Span]:
    """Marked places with what stands around them, and what was left out between."""
    spans: list[Span] = []
    at = 0  # everything before it is in the spans
    for index, (start, end) in enumerate(places):
        first = max(at, _line_start(context, start - AROUND))
        following = places[index + 1][0] if index + 1 < len(places) else len(context)
        last = min(following, _line_end(context, end + AROUND))
        around = [(first, start, None), (start, end, mark), (end, last, None)]
        for begin, stop, kind in around:
            if begin < stop:
                spans.append(Span(text=context[begin:stop], mark=kind, cut=begin - at))
                at = stop
    if at < len(context):
        spans.append(Span(text="", cut=len(context) - at))
    return spans


def _line_start(context: str, place: int) -> int:
    """The start of the line that `place` is in, where it is near."""
    place = max(place, 0)
    found = context.rfind("\n", max(place - _LINE, 0), place)
    return 0 if place <= _LINE and found < 0 else place if found < 0 else found + 1


def _line_end(context: str, place: int) -> int:
    """The end of the line that `place` is in, where it is near."""
    found = context.find("\n", place, place + _LINE)
    if found >= 0:
        return found + 1
    return len(context) if place + _LINE >= len(context) else place


def read_contexts(run: Path) -> dict[tuple[str, str], QuestionRecord]:
    """By a sample's cluster and query, what a run asked and where its evidence stands; empty where it stored
    none. Raises UserError for a damaged file.
    """
    records = read_lines(run / "contexts.jsonl", ContextRecord)
    return {
        (record.cluster if record.characters else hash_text(asked.query), asked.query): asked
        for record in records
        for asked in record.questions
    }


def read_prompts(cell: Path) -> dict[str, Clipped | None]:
    """By query, the context text that stood in its prompt, None where it held none; a query that is missing
    was not stored. Raises UserError for a damaged file.
    """
    records = read_lines(cell / "prompts.jsonl", PromptRecord)
    texts: dict[str | None, Clipped | None] = {None: None}
    texts |= {record.shown: record.text for record in records if record.text is not None}
    if any(record.shown not in texts for record in records):
        raise UserError(f"{cell / 'prompts.jsonl'} is damaged: it lacks a text that it names")
    return {record.query: texts[record.shown] for record in records}
