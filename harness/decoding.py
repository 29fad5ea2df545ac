"""What is asked of a generation, what comes of it, and one continuation while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One prompt to continue: token ids that follow the prefix, a budget in tokens, and stop strings."""

    ids: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Continuation:
    """What a request produced: the text before any stop string, and the number of tokens generated."""

    text: str
    new_tokens: int


class Decodes(Protocol):
    """What a continuation asks of a backbone."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""

    def end_ids(self) -> frozenset[int]:
        """Ids that end a generation."""


class Decoding:
    """One request's continuation while it grows, until a stop string, an end token or its budget ends it."""

    def __init__(self, backbone: Decodes, request: Request) -> None:
        self._backbone = backbone
        self._request = request
        self._ends = backbone.end_ids()
        self._ids: list[int] = []
        self._count = 0
        self.finished = False

    def take(self, token: int) -> None:
        """Append a token; one that comes after the end is ignored."""
        if self.finished:
            return
        self._count += 1
        if token in self._ends:
            self.finished = True
            return
        self._ids.append(token)
        self.finished = self._count >= self._request.max_new_tokens or self._stopped()

    def _stopped(self) -> bool:
        if not self._request.stop:
            return False
        text = self.text().lstrip()
        return any(stop in text for stop in self._request.stop)

    def text(self) -> str:
        """What was generated so far, stop strings and all."""
        return self._backbone.decode(self._ids)

    def continuation(self) -> Continuation:
        """The result: the text before any stop string, without white space around it.

        Where there are no stop strings it is the text as it is: a task may score how a reply begins.
        """
        if not self._request.stop:
            return Continuation(self.text(), self._count)
        text = self.text().lstrip()
        for stop in self._request.stop:
            text = text.split(stop, 1)[0]
        return Continuation(text.strip(), self._count)
