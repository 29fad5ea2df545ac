"""Cutting a text into passages that are short enough to ask about and to learn whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone


def passages(backbone: Backbone, text: str, most: int) -> list[str]:
    """Runs of whole lines of at most `most` tokens, counted line by line; together they are the text.

    A longer line is cut, between words where it has any. Blank passages are left out.
    """
    made, held = [""], 0
    for line in text.splitlines(keepends=True):
        for piece in _pieces(backbone, line, most):
            size = backbone.length(piece)
            if held and held + size > most:
                made.append("")
                held = 0
            made[-1] += piece
            held += size
    return [passage for passage in made if passage.strip()]


def _pieces(backbone: Backbone, line: str, most: int) -> list[str]:
    """A line in halves, and halves of halves, until each has at most `most` tokens."""
    if len(line) < 2 or backbone.length(line) <= most:
        return [line]
    half = len(line) // 2
    middle = line.rfind(" ", 1, half) + 1 or half
    return [*_pieces(backbone, line[:middle], most), *_pieces(backbone, line[middle:], most)]
