"""Text with every code point that a reader cannot see written out."""

from __future__ import annotations

import re

# Code points that a reader cannot see or that move the text around them: controls but for tab and newline,
# marks and overrides of direction, line and paragraph separators, fillers, halves of surrogate pairs, tags.
HIDDEN = (
    (0x00, 0x08),
    (0x0B, 0x1F),
    (0x7F, 0x9F),
    (0x061C, 0x061C),
    (0x180E, 0x180E),
    (0x200B, 0x200B),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xD800, 0xDFFF),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0xE0000, 0xE007F),
)
_HIDDEN = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in HIDDEN) + "]")


def visible(text: str) -> str:
    """The text with every hidden code point written out, as ␀ or [U+202E]."""
    return _HIDDEN.sub(lambda match: _written_out(ord(match[0])), text)


def _written_out(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return f"[U+{code:04X}]"
