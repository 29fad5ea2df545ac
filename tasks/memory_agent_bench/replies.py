"""Texts as the official scorer compares them: normalised, and parsed out of a reply."""

from __future__ import annotations

import re
import string

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MARK = re.compile(r"answer:", re.IGNORECASE)


def normalise(text: str) -> str:
    """Lower case; ASCII punctuation deleted; whole words a, an, the removed; white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def parse_reply(text: str) -> str:
    """What follows "Answer:" on its line, else the first line, even where that is empty."""
    mark = _MARK.search(text)
    line = (text[mark.end() :] if mark else text).split("\n", 1)[0].strip()
    again = _MARK.match(line)
    return line[again.end() :].strip() if again else line
