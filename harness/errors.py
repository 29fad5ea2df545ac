"""The errors a user can cause. The command line prints each as one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 12  # names listed of many more


class UserError(Exception):
    """Something the user can put right. The message is one line: what is wrong, and what to do."""


class UnavailableError(UserError):
    """Data or packages that are not here yet: going online, naming a file or installing would bring them."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among `known`, with the nearest known names.

    `kind` is the noun to print, for example "method".
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {_listed(names)}"
    return UserError(f"unknown {kind} '{name}': {hint}")


def _listed(names: list[str]) -> str:
    """Names on a line; of many the first."""
    shown = names if len(names) <= 2 * _SHOWN else names[:_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"{', '.join(shown) or 'none'}{more}"
