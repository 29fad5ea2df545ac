"""What a row's metadata may hold of its questions, and its checking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.files import refuse


def is_texts(value: Any) -> bool:
    """Whether `value` is a list of texts, of none at all too."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_texts_or_null(value: Any) -> bool:
    return value is None or is_texts(value)


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


_PASSAGES = ("a list of texts, or null where it is not known", _is_texts_or_null)
_NUMBER = ("a finite number", _is_number)
_TEXT = ("a text or null", _is_text_or_null)
# Lists that hold one value a question and are handed on with it: what each value must be.
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "evidence": _PASSAGES,
    "chance": _NUMBER,
    "selection": _NUMBER,
    "distance": _NUMBER,
    "associations": _NUMBER,
    "updates": _NUMBER,
    "context_tokens": _NUMBER,
    "question_types": _TEXT,
    "question_ids": _TEXT,
    "question_dates": _TEXT,
}
PER_QUESTION = tuple(_KINDS)


def check_metadata(metadata: Mapping[str, Any], questions: int, where: str) -> None:
    """Raises UserError, beginning with `where`, for lists of another length or values of another kind."""
    for name in ("qa_pair_ids", *PER_QUESTION):
        if metadata.get(name) is not None:
            check_length(metadata[name], questions, f"metadata.{name}", where)
    for name, (wanted, fits) in _KINDS.items():
        for number, value in enumerate(metadata.get(name) or ()):
            if not fits(value):
                refuse(where, f"metadata.{name} of question {number}", wanted, value)
    if not _is_texts_or_null(metadata.get("keypoints")):
        refuse(where, "metadata.keypoints", "a list of texts or null", metadata["keypoints"])


def check_length(values: Any, questions: int, name: str, where: str) -> None:
    """Raises UserError, beginning with `where`, for a field that is no list of one value a question."""
    if not isinstance(values, list) or len(values) != questions:
        count = len(values) if isinstance(values, list) else "no list"
        raise UserError(f"{where}: {name} must be as long as questions ({questions}), not {count}")
