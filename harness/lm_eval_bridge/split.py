"""Where a request's text is cut into a context, which a method writes, and a question, which it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltamem_eval.errors import UserError

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
RULES = "auto, none, blank, field:NAME or text:SEPARATOR"


@dataclass(frozen=True)
class Parts:
    """A request's text in two: context and question, joined, are the text exactly."""

    context: str
    question: str


class Splitter:
    """Cuts requests by one rule.

    `none`: everything is the question. `blank`: everything up to the last blank line, that line included, is
    the context. `text:SEPARATOR`: everything up to the last SEPARATOR, included (\\n and \\t are read as a
    newline and a tab). `field:NAME`: everything up to the end of the text of the document's field NAME.
    `auto`: by the document's field `context` where the request holds its text, else by the last blank line.
    A cut that would leave only white space as the question is passed over for an earlier one; where no cut
    is found there is no context. Raises UserError for another rule.
    """

    def __init__(self, rule: str) -> None:
        kind, sign, value = rule.partition(":")
        named = kind in ("field", "text") and sign and value
        if rule not in ("auto", "none", "blank") and not named:
            raise UserError(f"no split rule {rule!r}: there are {RULES}")
        self.rule = rule
        self._kind, self._value = kind, value.replace("\\n", "\n").replace("\\t", "\t")

    def split(self, text: str, doc: Any = None) -> Parts:
        """The parts of one request. doc: the document it was made from, a mapping where fields are needed.

        Raises UserError where rule `field` finds no such field, or not its text in the request.
        """
        if self._kind == "none":
            return Parts("", text)
        if self._kind == "text":
            return _cut(text, _last(text, self._value))
        if self._kind == "field":
            end = _field_end(text, doc, self._value)
            if end is None:
                raise UserError(
                    f"split {self.rule}: the document's {self._value} does not stand before a question "
                    f"in {text[:60]!r}"
                )
            return _cut(text, end)
        end = _field_end(text, doc, "context") if self._kind == "auto" else None
        return _cut(text, _last_blank(text) if end is None else end)


def _cut(text: str, end: int) -> Parts:
    return Parts(text[:end], text[end:])


def _last(text: str, separator: str) -> int:
    """Where the last separator with something after it ends; 0 for none."""
    found = text.rfind(separator, 0, max(len(text.rstrip()) - 1, 0))
    return 0 if found < 0 else found + len(separator)


def _last_blank(text: str) -> int:
    ends = [match.end() for match in _BLANK.finditer(text.rstrip())]
    return ends[-1] if ends else 0


def _field_end(text: str, doc: Any, name: str) -> int | None:
    """Where the field's text ends in the request, white space after it included; None where it does not."""
    value = doc.get(name) if isinstance(doc, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        return None
    start = text.rfind(value.strip())
    if start < 0:
        return None
    end = start + len(value.strip())
    while end < len(text) and text[end].isspace():
        end += 1
    return end if text[end:] else None
