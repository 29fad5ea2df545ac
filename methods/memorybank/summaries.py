"""Summaries and portraits that the backbone itself writes, in our own wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone

_DAY = "\nThe events and key facts of this day in short:"
_PERSON = "\nThe traits and feelings of the user that this day shows, in short:"
_HISTORY = "\nAll of these days in a few sentences:"
_PORTRAIT = "\nThe user's personality in a few sentences:"


@dataclass(frozen=True)
class Summaries:
    """By day: what happened and what it says of the user; and both over all days."""

    days: dict[int, str]
    traits: dict[int, str]
    history: str
    portrait: str


EMPTY = Summaries({}, {}, "", "")


class Summariser:
    """Two generations a day and two over all days; a day that did not change is not summarised again.

    calls: generations so far.
    """

    def __init__(self, backbone: Backbone, new_tokens: int) -> None:
        self._backbone = backbone
        self._new_tokens = min(new_tokens, backbone.positions // 8)
        self._known: dict[str, str] = {}
        self.calls = 0

    def __call__(self, days: dict[int, str]) -> Summaries:
        """Summaries of days, each the day's whole text."""
        events = self._each([text + _DAY for text in days.values()])
        traits = self._each([text + _PERSON for text in days.values()])
        history = self._each(["\n".join(events) + _HISTORY])[0] if events else ""
        portrait = self._each(["\n".join(traits) + _PORTRAIT])[0] if traits else ""
        by_day = [dict(zip(days, texts, strict=True)) for texts in (events, traits)]
        return Summaries(by_day[0], by_day[1], history, portrait)

    def _each(self, prompts: Sequence[str]) -> list[str]:
        from deltamem_eval.backbone import Request

        new = list(dict.fromkeys(prompt for prompt in prompts if prompt not in self._known))
        room = self._backbone.positions - self._new_tokens
        # Of a day longer than the positions its end is summarised.
        requests = [
            Request(tuple(self._backbone.encode(prompt)[-room:]), self._new_tokens, ("\n",)) for prompt in new
        ]
        self.calls += len(requests)
        results = self._backbone.generate(requests)
        self._known.update(zip(new, (result.text for result in results), strict=True))
        return [self._known[prompt] for prompt in prompts]
