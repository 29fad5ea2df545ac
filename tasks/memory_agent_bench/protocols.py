"""How a row's context is handed over: ours, the benchmark's own, and that of δ-mem's release."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench.sources import Source, longest_of, source_of

Name = Literal["isolated", "official", "delta-mem-release"]
PROTOCOLS: dict[Name, str] = {
    "isolated": "lines one by one, every question from the same snapshot of the memory",
    "official": "space-joined chunks in a turn each, cut at their beginning as the benchmark's agents do",
    "delta-mem-release": "contexts cut in the middle to 120,000 characters, one prompt for all sources",
}
VERSION = 3  # of what `official` and `delta-mem-release` ask and score: raise when answers change
CLIP = 120_000  # characters, the marker's among them
# Our words; with its line breaks as long as the release's, 31 characters.
MARKER = "\n\n[the middle part is absent]\n\n"
DEFAULTS = "punkt's defaults"  # what finds sentences where the English model is not at hand
OFFICIAL_CHUNK = 4096  # tokens; the paper reports 512 for some sources
SLACK = 50_000  # tokens by which the official rule lets a limit exceed the context before it cuts
_LONGEST_LINE = 2000  # characters
STAMP = "2026-01-01 00:00:00"  # in place of the official wall clock, which makes every prompt another one

_UNDATED = ("longmemeval_",)  # its contexts tell dates of their own, and the official turn has none
_TOLD = {  # what a turn says of its chunk, what the reader did with it, and the word that stands for it
    "ruler_qa": ("these are the documents", "learned", "them"),
    "longmemeval_": ("this is the conversation", "memorized", "it"),
    "eventqa_": ("this is a part of the book", "read", "it"),
    "icl_": ("these are the examples", "learned", "them"),
    "recsys_": ("these are the conversations about movies", "learned", "them"),
    "infbench_sum": ("this is a part of the book", "read", "it"),
    "detective_": ("this is a part of the book", "read", "it"),
    "factconsolidation_": ("these are the facts", "learned", "them"),
}


@dataclass(frozen=True)
class Handed:
    """What methods are given of a context. pieces: messages in order. text: what of the context is in them.

    cut: share of the context's characters that is not. tokens_cut: share of its tokens that is not, by what
    the protocol counts with; None where nothing counts tokens.
    """

    pieces: tuple[str, ...]
    text: str
    cut: float
    tokens_cut: float | None = 0.0


def clip_middle(context: str, most: int = CLIP) -> str:
    """A context of at most `most` characters, MARKER among them, as δ-mem's release cuts it.

    Of the characters beside MARKER a third (rounded down) are of its beginning and the others of its end,
    without the white space at the two seams. most: at least as many as MARKER has.
    """
    if len(context) <= most:
        return context
    room = most - len(MARKER)
    head = room // 3
    tail = room - head
    return context[:head].rstrip() + MARKER + context[len(context) - tail :].lstrip()


def official_chunks(
    sentences: Sequence[str], count: Callable[[str], int], size: int = OFFICIAL_CHUNK
) -> list[str]:
    """Sentences packed greedily into chunks of `size` tokens and joined by one space, as the benchmark does.

    The joining spaces are not counted and a sentence longer than a chunk is not cut. Where the very first one
    is so long, an empty chunk comes first.
    """
    chunks: list[str] = []
    held: list[str] = []
    total = 0
    for sentence in sentences:
        tokens = count(sentence)
        if total + tokens > size:
            chunks.append(" ".join(held))
            held, total = [], 0
        held.append(sentence)
        total += tokens
    if held:
        chunks.append(" ".join(held))
    return chunks


def own_turn(source: Source) -> tuple[str, str]:
    """What stands before and after a chunk in its turn of a dialogue, in our own words."""
    told, done, word = _TOLD.get(source.prefix, ("this is the context", "read", "it"))
    stamp = "" if source.prefix in _UNDATED else f", {STAMP}"
    return (
        f"Dialogue of user and assistant{stamp}\nUser: {told}:\n",
        f"\nAssistant: I have {done} {word} and will answer questions about {word}.",
    )


def official_tail(name: str, input_limit: int, buffer: int) -> int | None:
    """Tokens of its end that a long-context agent keeps of a context of source `name`; None for all.

    input_limit: tokens the model takes; buffer: tokens kept free beside the answer's. The context is cut only
    where what is left does not exceed the source's own limit by more than 50,000 tokens.
    """
    left = input_limit - buffer - source_of(name).new_tokens
    longest = longest_of(name)
    if longest is None or left > longest + SLACK:
        return None
    return max(min(longest, left), 0)


@dataclass(frozen=True)
class Limits:
    """What a long-context agent's model can take, by which `official` cuts contexts.

    input_limit, buffer: tokens, as in `official_tail`. last: the end of a text, so many tokens long.
    """

    input_limit: int
    buffer: int
    last: Callable[[str, int], str]

    def cut_from(self, name: str, memory: str) -> int:
        """Characters of a memory of source `name` that are cut off its beginning.

        Raises UserError where nothing would be left of any.
        """
        most = official_tail(name, self.input_limit, self.buffer)
        if most == 0:
            raise UserError(
                f"{self.input_limit} tokens, less a buffer of {self.buffer} and {source_of(name).new_tokens} "
                f"for the answer, leave none for a context of {name}: give --task-option input_limit=N or "
                "buffer=N"
            )
        return 0 if most is None else len(memory) - len(self.last(memory, most))


def hand_over(
    protocol: Name,
    name: str,
    context: str,
    count: Callable[[str], int],
    limits: Limits | None = None,
    turn: tuple[str, str] | None = None,
    chunk_size: int = OFFICIAL_CHUNK,
    sentences: Callable[[str], Sequence[str]] | None = None,
    length: Callable[[str], int] | None = None,
) -> Handed:
    """A context of source `name` as a protocol hands it over.

    count: tokens of a text, for chunks. limits: by which `official` cuts, None for never. turn: what stands
    before and after each of its chunks, our own words where None. chunk_size: of its chunks, in tokens.
    sentences: of a text, for chunks; `sentences_of` where None. length: the model's tokens of a text,
    in which it is told what `delta-mem-release` cuts by characters; None where they are not to be had.
    """
    if protocol == "official":
        chunks = official_chunks((sentences or sentences_of)(context), count, chunk_size)
        return _official(name, chunks, limits, turn or own_turn(source_of(name)), count)
    if protocol == "isolated" or len(context) <= CLIP:
        return Handed(tuple(split_context(context)), context, 0.0)
    clipped = clip_middle(context)
    text = clipped.replace(MARKER, "\n")  # its words answer no question
    cut = 1 - (len(clipped) - len(MARKER)) / len(context)
    tokens_cut = None if length is None else _share_cut(clipped.split(MARKER), [context], length)
    return Handed(tuple(split_context(clipped)), text, cut, tokens_cut)


def _share_cut(kept: Sequence[str], whole: Sequence[str], count: Callable[[str], int]) -> float:
    """Share of the tokens of some texts that those kept of them do not have."""
    return max(1 - sum(map(count, kept)) / max(sum(map(count, whole)), 1), 0.0)


def _official(
    name: str,
    chunks: Sequence[str],
    limits: Limits | None,
    turn: tuple[str, str],
    count: Callable[[str], int],
) -> Handed:
    """Turns, a line break after each, without the beginning that a long-context agent cuts off."""
    before, after = turn
    turns = [f"{before}{chunk}{after}\n" for chunk in chunks]
    memory = "".join(turns).removesuffix("\n")  # what the official agents count
    cut = start = 0 if limits is None else limits.cut_from(name, memory)
    pieces, kept = [], []
    for chunk, text in zip(chunks, turns, strict=True):
        if start < len(text):
            pieces.append(text[start:])
            kept.append(chunk[max(start - len(before), 0) :])
        start = max(start - len(text), 0)
    share = 1 - sum(map(len, kept)) / sum(map(len, chunks))
    return Handed(tuple(pieces), " ".join(kept), share, _share_cut(kept, chunks, count) if cut else 0.0)


def sentences_of(text: str) -> list[str]:
    """Sentences without the white space between them, by nltk's Punkt with its defaults.

    The benchmark uses the English model (`counting.official_sentences`); the defaults know no abbreviations.
    """
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return [str(sentence) for sentence in PunktSentenceTokenizer().tokenize(text)]


def split_context(context: str) -> Iterator[str]:
    """The context's lines with their ends, long ones cut into sentences: a partition, nothing is lost."""
    for line in context.splitlines(keepends=True):
        yield from [line] if len(line) <= _LONGEST_LINE else _cut(line)


def _cut(line: str) -> Iterator[str]:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    starts = [start for start, _ in PunktSentenceTokenizer().span_tokenize(line)]
    starts = [0, *starts[1:], len(line)]
    for start, end in pairwise(starts):
        yield line[start:end]
