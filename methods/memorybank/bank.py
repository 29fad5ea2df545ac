"""What a memory bank holds, how it is searched, and how it forgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Curve = Literal["paper", "code"]
TURN, SUMMARY = "turn", "summary"


@dataclass
class Piece:
    """One thing to remember: a turn, or the summary of a day.

    day: number of the day it was written. strength: 1 plus the number of recalls. recalled: day of the last
    recall, or of writing. dated: the day's date as the task gives it, empty where it gives none.
    """

    kind: str
    day: int
    text: str
    strength: int = 1
    recalled: int = 0
    dated: str = ""

    @property
    def heading(self) -> str:
        """The line that stands above it in a prompt; empty without a date."""
        if not self.dated:
            return ""
        return f"Summary of {self.dated}:\n" if self.kind == SUMMARY else f"Conversation on {self.dated}:\n"


def retention(days: int, strength: int, curve: Curve) -> float:
    """Probability of still knowing a thing after `days` without recall.

    paper: exp(-t/S) (arXiv 2305.10250, section 2.3). code: exp(-t·S/5), as the authors' program computes it,
    by which what was recalled often is forgotten faster.
    """
    return math.exp(-days / strength) if curve == "paper" else math.exp(-days * strength / 5)


class Bank:
    """Pieces in the order of writing, with their embeddings [pieces, width]."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.vectors: list[Tensor] = []

    def add(self, piece: Piece, vector: Tensor) -> None:
        """Append a piece with its embedding [width]."""
        self.pieces.append(piece)
        self.vectors.append(vector)

    def add_all(self, pieces: Iterable[tuple[Piece, Tensor]]) -> None:
        """Append pieces with their embeddings."""
        for piece, vector in pieces:
            self.add(piece, vector)

    def nearest(self, vector: Tensor, count: int) -> list[int]:
        """Indices of the closest pieces by squared L2 distance, closest first; of equals the earlier."""
        import torch

        if not self.pieces:
            return []
        distances = (torch.stack(self.vectors) - vector).square().sum(-1)
        return [int(index) for index in torch.argsort(distances, stable=True)[:count]]

    def around(self, index: int, limit: int) -> list[int]:
        """A turn with its neighbours of the same day, nearest first, up to `limit` characters in all.

        A summary stands alone.
        """
        piece = self.pieces[index]
        if piece.kind == SUMMARY:
            return [index]
        day = [
            number for number, other in enumerate(self.pieces) if (other.kind, other.day) == (TURN, piece.day)
        ]
        place, total = day.index(index), len(piece.text)
        found = [index]
        for step in range(1, len(day)):
            for neighbour in (place - step, place + step):
                if not 0 <= neighbour < len(day):
                    continue
                total += len(self.pieces[day[neighbour]].text)
                if total > limit:
                    return sorted(found)
                found.append(day[neighbour])
        return sorted(found)

    def rendered(self, indices: Iterable[int]) -> list[str]:
        """Pieces by day as they stand in a prompt, a heading above the first of each day and kind."""
        shown: list[str] = []
        above = ""
        for index in sorted(indices, key=lambda number: (self.pieces[number].day, number)):
            piece = self.pieces[index]
            if piece.heading not in ("", above):
                above = piece.heading
                shown.append(above)
            shown.append(piece.text)
        return shown

    def recall(self, indices: Sequence[int], day: int) -> None:
        """Strengthen what was recalled on a day."""
        for index in indices:
            self.pieces[index].strength += 1
            self.pieces[index].recalled = day

    def forget(self, day: int, curve: Curve, rng: Random) -> int:
        """At the beginning of a day, drop each piece with probability 1 - retention; how many went."""
        kept = [
            index
            for index, piece in enumerate(self.pieces)
            if rng.random() < retention(day - piece.recalled, piece.strength, curve)
        ]
        gone = len(self.pieces) - len(kept)
        self.pieces = [self.pieces[index] for index in kept]
        self.vectors = [self.vectors[index] for index in kept]
        return gone

    def to_json(self) -> list[dict[str, Any]]:
        """The pieces as JSON values."""
        return [asdict(piece) for piece in self.pieces]
