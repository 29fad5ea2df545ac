"""Errors that lm-eval raises over what it was given, told apart from our own and put into a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import FrameType

from deltamem_eval.errors import UserError
from deltamem_eval.lm_eval_bridge import tasks_folder

_OURS, _THEIRS = "deltamem_eval", "lm_eval"


@contextmanager
def in_a_line(what: str, hint: str = "") -> Iterator[None]:
    """Within the block, errors of lm-eval, and of the libraries and tasks that it loads, are a line.

    what: the line's beginning; hint: its end. Raises UserError for a file, a setting, a task, data or a
    package that lm-eval cannot work with. Errors of our own, and of other kinds, pass as they are.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, _kinds()) or not _is_theirs(error):
            raise
        raise UserError(f"{what}: {_told(error)}{hint}") from error


def _kinds() -> tuple[type[Exception], ...]:
    """What a wrong file, setting or task leads to; imported late, for they are seldom asked for."""
    from jinja2 import TemplateError
    from yaml import YAMLError  # type: ignore[import-untyped]

    found = (OSError, ImportError, ValueError, TypeError, LookupError, AttributeError, NameError, SyntaxError)
    return (*found, TemplateError, YAMLError)


def _is_theirs(error: Exception) -> bool:
    """Whether lm-eval, or what it called, raised an error.

    Of the calls that are ours or lm-eval's the innermost decides: where it is ours so is the error, in
    whatever library it arose.
    """
    owners = [_owner(frame) for frame, _ in walk_tb(error.__traceback__)]
    known = [owner for owner in owners if owner is not None]
    return bool(known) and known[-1] == _THEIRS


def _owner(frame: FrameType) -> str | None:
    """Whose code a call is in: ours or lm-eval's, None for any other."""
    if Path(frame.f_code.co_filename).parent == tasks_folder().resolve():  # lm-eval gives these no package
        return _OURS
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return package if package in (_OURS, _THEIRS) else None


def _told(error: Exception) -> str:
    """The error on one line; its kind stands before it where the text may not speak for itself."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"{text}: pip install {package}, or the extra of lm-eval that brings it"
    return text if type(error) is ValueError and text else f"{type(error).__name__}: {text}"
