"""Text that strangers wrote, made safe to stand in a page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

_IN_SCRIPT = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def script_json(value: Any) -> str:
    """A value as JSON that ends no script element and is JavaScript too; ASCII where it must be.

    Raises ValueError for numbers that are not finite.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _IN_SCRIPT.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def island(value: Any) -> Markup:
    """`script_json` for a data block of the document."""
    from markupsafe import Markup

    return Markup(script_json(value))
