"""`--config FILE.toml`: options from a file, between a command's defaults and its command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import typer
from deltamem_eval.errors import UserError, unknown

HELP = "a TOML file of these options by their long names; the command line goes before it"


def use_file(context: typer.Context, file: Path | None) -> Path | None:
    """The callback of an eager `--config`: what the file says becomes the command's defaults.

    A key is an option's long name without dashes before it (`batch-size` or `batch_size`). Where an option
    takes several values, separated by commas or repeated, a list may give them; where it takes NAME=VALUE, a
    table. Paths are as on the command line, from the working folder. Raises UserError for a file that cannot
    be read, is no TOML, has a key or a kind of value that the command has not, or gives an option twice.
    """
    if file is not None:
        known = _options(context)
        given = _given(file)
        for key in given:
            if key not in known:
                raise unknown(f"option in {file}", key, known)
        context.default_map = {known[key].name: _value(file, key, known[key], given[key]) for key in given}
    return file


def beside_file(
    context: typer.Context, parameter: typer.CallbackParam, given: list[str] | None
) -> list[str] | None:
    """The callback of options of NAME=VALUE pairs: those given, and the file's of other names before them."""
    filed: list[str] = (context.default_map or {}).get(parameter.name) or []
    names = {_name_of(pair) for pair in given or []}
    return [*(pair for pair in filed if _name_of(pair) not in names), *(given or [])] or None


def _name_of(pair: str) -> str:
    return pair.partition("=")[0]


def _options(context: typer.Context) -> dict[str, Any]:
    """The command's options, and what its arguments are called, without `--config` itself."""
    found = {}
    for parameter in context.command.params:
        long = [name[2:] for name in parameter.opts if name.startswith("--")]
        if long and long[0] not in ("config", "help"):
            found[long[0]] = parameter
    return found


def _given(file: Path) -> dict[str, Any]:
    """The file's values by the options' long names. Raises UserError for two spellings of one."""
    found: dict[str, Any] = {}
    for key, value in _read(file).items():
        name = key.replace("_", "-")
        if name in found:
            raise UserError(f"{file} gives {name} twice, with a dash and with an underscore: keep one")
        found[name] = value
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {file} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"--config {file} is no TOML: {error}") from None


def _value(file: Path, key: str, option: Any, value: Any) -> Any:
    """A value of the file as the command line would have given it."""
    where = f"{key} in {file}"
    if getattr(option, "is_flag", False):
        if not isinstance(value, bool):
            raise UserError(f"{where} is a switch: true or false, not {json.dumps(value, default=str)}")
        return value
    if isinstance(value, dict):
        if not key.endswith("option"):
            raise UserError(f"{where} takes no table")
        return [f"{name}={json.dumps(setting, default=str)}" for name, setting in value.items()]
    if value == []:
        raise UserError(f"{where} is an empty list: give a value or leave it out")
    parts = [_text(where, part) for part in (value if isinstance(value, list) else [value])]
    return parts if option.multiple else ",".join(parts)


def _text(where: str, value: Any) -> str:
    """A number or a text as the command line has it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where} takes a text or a number, not {json.dumps(value, default=str)}")
    return str(value)
