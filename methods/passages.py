"""Texts too long to be shown whole, cut where they read best."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from deltamem_eval.methods.window import LEAST_WINDOW

# Lines, then sentences, then words: each pattern's matches are the text without a gap.
_CUTS = tuple(map(re.compile, (r"[^\n]*\n|[^\n]+", r"(?s:.+?)(?:(?<=[.!?])\s+|\Z)", r"\s*\S+\s*|\s+")))


def sentences(text: str) -> list[str]:
    """A partition of the text into sentences, each with the white space that follows it; a line ends one."""
    lines = [found[0] for found in _CUTS[0].finditer(text)]
    return [found[0] for line in lines for found in _CUTS[1].finditer(line) if found[0]]


def passage_size(window: int) -> int:
    """Tokens of a passage where none are asked for: 512, or a quarter of a window smaller than 2048."""
    return 512 if window >= 2048 else max(window // 4, LEAST_WINDOW)


def fitting(text: str, window: int, length: Callable[[str], int]) -> list[str]:
    """The text itself where the window holds it, else passages of it that can be shown.

    window: tokens; length: tokens of a text.
    """
    if window <= 0 or length(text) <= window:
        return [text]
    return passages_of(text, passage_size(window), length)


def passages_of(text: str, most: int, length: Callable[[str], int]) -> list[str]:
    """A partition of the text into passages of at most `most` tokens.

    Whole lines together, as many as fit; a longer line is cut into sentences, a longer sentence between
    words, and a longer word stays whole. length: tokens of a text.
    """
    return list(_packed(text, most, length, 0))


def _packed(text: str, most: int, length: Callable[[str], int], level: int) -> Iterator[str]:
    held, total = "", 0
    for unit in (found[0] for found in _CUTS[level].finditer(text)):
        size = length(unit)
        if held and total + size > most:
            yield held
            held, total = "", 0
        if size > most and level + 1 < len(_CUTS):
            yield from _packed(unit, most, length, level + 1)
            continue
        held, total = held + unit, total + size
    if held:
        yield held
