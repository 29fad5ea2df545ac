"""What a Python file assigns at its top level, read from its syntax tree: nothing of the file is run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.files import check_texts

_UNREAD = "only texts, their sums, f-strings of texts named above and dicts of these are read; nothing is run"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)  # they run nothing when they are defined


class _UnreadError(Exception):
    """An expression whose value would take running it; the line it stands on."""

    def __init__(self, node: ast.expr) -> None:
        super().__init__(node.lineno)
        self.line = node.lineno


def read_constant(file: Path, name: str) -> Any:
    """The value that the file assigns to `name`: texts and numbers, or dicts of them.

    Raises UserError, naming the line where there is one, for a file that is absent, not UTF-8 or not Python,
    that assigns no such name, whose value could only be had by running it or holds a text that UTF-8 cannot,
    or that changes it afterwards.
    """
    tree = _parse(file)
    known: dict[str, Any] = {}
    try:
        for statement in tree.body:
            _take(statement, known, name, file)
    except RecursionError:
        raise UserError(f"{file} is nested too deeply to be read") from None
    if name not in known:
        raise UserError(f"{file} assigns no {name}")
    check_texts(known[name], f"{file}: {name}")
    return known[name]


def _parse(file: Path) -> ast.Module:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        text = file.read_text(encoding="utf-8-sig")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts, which are not ours to mend
            return ast.parse(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    except SyntaxError as error:
        raise UserError(f"{file} line {error.lineno or 1} is not Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{file} is not Python that can be read: {error}") from None


def _take(statement: ast.stmt, known: dict[str, Any], wanted: str, file: Path) -> None:
    """Note what a statement assigns; forget every name that it may change in a way that is not read."""
    target, value = _assignment(statement)
    if target is not None and value is not None:
        try:
            known[target] = _value(value, known)
        except _UnreadError as error:
            known.pop(target, None)
            if target == wanted:
                raise UserError(f"{file} line {error.line}: {_UNREAD}") from None
        return
    if isinstance(statement, _DEFINITIONS):
        return
    for name in _names(statement):
        if name == wanted:
            raise UserError(f"{file} line {statement.lineno} changes or uses {wanted}: {_UNREAD}")
        known.pop(name, None)


def _assignment(statement: ast.stmt) -> tuple[str | None, ast.expr | None]:
    """Name and value of `name = value` or `name: type = value`; None for other statements."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            return name, value
    return None, None


def _names(statement: ast.stmt) -> Iterator[str]:
    return (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """The value of an expression of constants. Raises _UnreadError for any other."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, known) + _text(right, known)
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, known) for part in parts)
        case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
            return _text(inner, known)
        case ast.Dict(keys=keys, values=values):
            named = [key for key in keys if key is not None]  # None stands for **
            if len(named) == len(values):
                pairs = zip(named, values, strict=True)
                return {_text(key, known): _value(item, known) for key, item in pairs}
    raise _UnreadError(node)


def _text(node: ast.expr, known: Mapping[str, Any]) -> str:
    value = _value(node, known)
    if not isinstance(value, str):
        raise _UnreadError(node)
    return value
