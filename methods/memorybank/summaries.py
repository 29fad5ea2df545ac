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

    A backbone with a chat template is asked in it; any other continues the text up to an empty line. calls:
    generations so far.
    """

    def __init__(self, backbone: Backbone, new_tokens: int) -> None:
        from deltamem_eval.methods.prompt import PromptBuilder

        self._backbone = backbone
        self._prompts = PromptBuilder(backbone)
        self._new_tokens = min(new_tokens, backbone.positions // 8)
        self._known: dict[tuple[str, str], str] = {}
        self.calls = 0

    def __call__(self, days: dict[int, str]) -> Summaries:
        """Summaries of days, each the day's whole text."""
        events = self._each(list(days.values()), _DAY)
        traits = self._each(list(days.values()), _PERSON)
        history = self._each(["\n".join(events)], _HISTORY)[0] if events else ""
        portrait = self._each(["\n".join(traits)], _PORTRAIT)[0] if traits else ""
        by_day = [dict(zip(days, texts, strict=True)) for texts in (events, traits)]
        return Summaries(by_day[0], by_day[1], history, portrait)

    def _each(self, texts: Sequence[str], task: str) -> list[str]:
        """The task done for every text; of one longer than the positions, for its end."""
        from deltamem_eval.decoding import Request

        new = [text for text in dict.fromkeys(texts) if (task, text) not in self._known]
        room, stop = self._backbone.positions - self._new_tokens, () if self._prompts.chats else ("\n\n",)
        requests = [Request(self._prompts.alone(text, task, room), self._new_tokens, stop) for text in new]
        self.calls += len(requests)
        results = self._backbone.generate(requests)
        found = zip(new, results, strict=True)
        self._known.update(((task, text), result.text.strip()) for text, result in found)
        return [self._known[task, text] for text in texts]
