"""A verdict for machines and code hosts: JSON, a comment in Markdown, GitHub annotations, JUnit XML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from deltamem_eval.reports.regress.tables import flipped, verdict_table
from deltamem_eval.reports.regress.verdicts import RowVerdict, Verdicts
from deltamem_eval.reports.render.markdown import to_markdown
from deltamem_eval.reports.render.plain import to_json
from deltamem_eval.reports.table import notes

FLIPS = 20  # flipped questions shown to people; JSON holds all
_FAILED = 50  # failed rows shown in a comment
_COMMENT = 65_000  # GitHub takes no comment of more than 65,536 characters
_PART = 24_000  # of these for the failed rows, and as many for the flipped questions
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_plain(found: Verdicts) -> dict[str, Any]:
    """The verdict as JSON: outcome, notes, the table, every flipped question."""
    return {
        "baseline": str(found.baseline),
        "passed": not found.failed,
        "summary": found.summary,
        "notes": list(found.notes),
        "rows": json.loads(to_json(verdict_table(found))),
        "flips": json.loads(to_json(flipped(found))),
    }


def to_comment(found: Verdicts) -> str:
    """Markdown for a pull request: what failed, the questions that flipped, and all rows folded away.

    Of what a code host has no room for, the first rows and questions, and how many more there are.
    """
    parts = [f"### {'Regression' if found.failed else 'No regression'}: {found.summary}\n"]
    if found.failed:
        parts.append(_fitting(min(_FAILED, len(found.failed)), lambda most: _failed(found, most)))
    if flipped(found, 1).rows:
        flips = _fitting(FLIPS, lambda most: to_markdown(flipped(found, most)))
        parts.append(_folded("Flipped questions", flips))
    left = _COMMENT - sum(map(len, parts))
    everything = _folded("All rows", to_markdown(verdict_table(found)))
    if len(everything) > left:
        everything = _folded("Notes", _noted(notes(verdict_table(found)), left))
    return "\n".join([*parts, everything])


def _fitting(most: int, make: Callable[[int], str]) -> str:
    """What is made of as many rows as a part of a comment has room for, at most `most`."""
    return next((text for rows in range(most, 0, -1) if len(text := make(rows)) <= _PART), make(0))


def _failed(found: Verdicts, most: int) -> str:
    """The first failed rows, and how many more there are."""
    rows = found.failed
    table = _without_notes(to_markdown(verdict_table(found, rows[:most]))) if most else ""
    if most == len(rows):
        return table
    return f"{table}\n{len(rows) - most} more of {len(rows)} failed rows are not shown; `--json` has all.\n"


def _noted(text: str, room: int) -> str:
    """Notes in place of all rows, cut to the characters there are for them and what folds them away."""
    end = "\n\nThere are too many rows to show all."
    room -= len(_folded("Notes", end))
    return (text if len(text) <= room else f"{text[: room - 1]}…") + end


def _without_notes(markdown: str) -> str:
    """A table alone: the whole one below has the same notes."""
    return "".join(line + "\n" for line in markdown.split("\n") if line.startswith("|"))


def _folded(title: str, markdown: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{markdown}\n</details>\n"


def to_annotations(found: Verdicts) -> str:
    """GitHub's workflow commands, one line each: an error a failed row, a notice a new one."""
    lines = [_annotation("error", f"{row.verdict}: {row.name}", _what(row)) for row in found.failed]
    lines += [
        _annotation("notice", f"new: {row.name}", "the baseline has no such row")
        for row in found.rows
        if row.verdict == "new"
    ]
    return "".join(line + "\n" for line in lines)


def _what(row: RowVerdict) -> str:
    if row.verdict == "vanished":
        return "the baseline has this row and the run has not"
    flips = row.difference.flips if row.difference is not None else []
    lost = [pair.b.query for pair in flips if pair.change < 0]
    named = f"; lost: {', '.join(lost[:FLIPS])}{', ...' if len(lost) > FLIPS else ''}" if lost else ""
    return "; ".join(row.breaches) + named


def _annotation(level: str, title: str, text: str) -> str:
    """One workflow command; in its title a colon and a comma would end the property."""
    safe = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={safe}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def to_junit(found: Verdicts) -> str:
    """JUnit XML: a test case a row, in one suite; new and ungated rows are skipped ones."""
    skipped = [row for row in found.rows if row.verdict in ("new", "not gated")]
    counts = {
        "tests": str(len(found.rows)),
        "failures": str(len(found.failed)),
        "errors": "0",
        "skipped": str(len(skipped)),
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "deltamem-eval regress", **counts})
    for row in found.rows:
        names = {
            "classname": _xml(row.key[0]),
            "name": _xml(row.name.removeprefix(f"{row.key[0]}, ")),
            "time": "0",
        }
        case = ElementTree.SubElement(suite, "testcase", names)
        if row.failed:
            message = {"type": row.verdict, "message": _xml("; ".join(row.breaches) or row.verdict)}
            ElementTree.SubElement(case, "failure", message).text = _xml(_what(row))
        elif row in skipped:
            ElementTree.SubElement(case, "skipped", {"message": row.verdict})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Without the characters that XML cannot hold, not even escaped."""
    return _NOT_XML.sub("", text)
