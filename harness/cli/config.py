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
    be read, is no TOML, or has a key or a kind of value that the command has not.
    """
    if file is not None:
        known = _options(context)
        given = {key.replace("_", "-"): value for key, value in _read(file).items()}
        for key in given:
            if key not in known:
                raise unknown(f"option in {file}", key, known)
        context.default_map = {known[key].name: _value(file, key, known[key], given[key]) for key in given}
    return file


def _options(context: typer.Context) -> dict[str, Any]:
    """The command's options, and what its arguments are called, without `--config` itself."""
    found = {}
    for parameter in context.command.params:
        long = [name[2:] for name in parameter.opts if name.startswith("--")]
        if long and long[0] not in ("config", "help"):
            found[long[0]] = parameter
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
    parts = [_text(where, part) for part in (value if isinstance(value, list) else [value])]
    return parts if option.multiple else ",".join(parts)


def _text(where: str, value: Any) -> str:
    """A number or a text as the command line has it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where} takes a text or a number, not {json.dumps(value, default=str)}")
    return str(value)
