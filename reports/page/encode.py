"""The sample browser's data, compact: an index that the page always holds, and parts with all the texts.

A part has a table of values, in which every text stands once; elsewhere a text is the list of its lines'
places in that table, and a negative number stands for that many characters left out. Columns of samples that
are constant or come in runs are written so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isfinite
from typing import Any

from deltamem_eval.exhibits import Clipped, QuestionRecord
from deltamem_eval.reports.groups import accuracy_of
from deltamem_eval.reports.page.collect import Block, Collected, Question, name_of, pools
from deltamem_eval.reports.page.text import script_json
from deltamem_eval.reports.visible import HIDDEN
from deltamem_eval.store import Sample

TITLE = 160  # characters of a question and its answers that lists show and searches look at
_NOTHING_SHOWN, _NOT_STORED = -1, -2


class Layout:
    """Which part holds which question, and which rows of which cell: (rows, part), one after the other."""

    def __init__(self, found: Collected) -> None:
        self.questions: list[int] = []
        self.blocks: list[list[tuple[int, int]]] = [[] for _ in found.blocks]


class _Part:
    """A part in the making. size: about what it takes, in characters."""

    def __init__(self) -> None:
        self.size = 0
        self._values: list[Any] = []
        self._places: dict[tuple[bool, str], int] = {}  # a text never stands for a list that it spells
        self._shown: list[list[int]] = []
        self._shown_places: dict[tuple[int, ...], int] = {}
        self._questions: list[list[Any]] = []
        self._rows: list[list[Any]] = []

    def json(self) -> str:
        """The part for a script."""
        return script_json(
            {
                "values": self._values,
                "shown": self._shown,
                "questions": self._questions,
                "rows": self._rows,
            }
        )

    def question(self, index: int, question: Question) -> None:
        """Add a question's texts."""
        sample, record = question.sample, question.record
        facts = {"chance": sample.chance, "guess from context": sample.selection, **sample.extras}
        told = [[name, _plain(value)] for name, value in facts.items() if value is not None]
        targets = [self._value(target) for target in sample.targets]
        entry = [index, targets, self._value(told), *(self._record(record) if record else ())]
        self._questions.append(entry)
        self.size += 60

    def _record(self, record: QuestionRecord) -> list[Any]:
        marks = {None: 0, "evidence": 1, "answer": 2}
        excerpt = [[marks[span.mark], span.cut, *self._lines(span.text)] for span in record.excerpt]
        self.size += 6 * sum(map(len, excerpt))
        return [
            self._clipped(record.prompt),
            [self._clipped(passage) for passage in record.evidence],
            excerpt,
        ]

    def rows(self, number: int, block: Block, first: int, samples: Sequence[Sample]) -> None:
        """Add samples of a cell, `first` being the place of the first of them in it."""
        columns: dict[str, list[Any]] = {
            "answer": [self._value(sample.answer) for sample in samples],
            "error": [None if sample.error is None else self._value(sample.error) for sample in samples],
            "metrics": [self._value(_pairs(sample.metrics)) for sample in samples],
            "shown": [self._prompt(block, sample) for sample in samples],
            "prompt_tokens": [sample.prompt_tokens for sample in samples],
            "context_tokens": [sample.context_tokens for sample in samples],
            "new_tokens": [sample.new_tokens for sample in samples],
            "evidence": [_number(sample.evidence) for sample in samples],
            "gold": [_number(sample.gold_visible) for sample in samples],
            "memory": [self._value(_pairs(sample.memory_bytes)) for sample in samples],
            "write_seconds": [_number(sample.write_seconds) for sample in samples],
            "answer_seconds": [_number(sample.answer_seconds) for sample in samples],
        }
        self._rows.append([number, first, {name: _column(values) for name, values in columns.items()}])
        self.size += 20 * len(samples)

    def _prompt(self, block: Block, sample: Sample) -> int:
        if sample.query not in block.prompts:
            return _NOT_STORED
        text = block.prompts[sample.query]
        if text is None:
            return _NOTHING_SHOWN
        key = tuple(self._clipped(text))
        if key not in self._shown_places:
            self._shown_places[key] = len(self._shown)
            self._shown.append(list(key))
            self.size += 6 * len(key)
        return self._shown_places[key]

    def _value(self, value: Any) -> int:
        """The value's place in the table."""
        text = isinstance(value, str)
        key = (text, value if text else json.dumps(value))
        if key not in self._places:
            self._places[key] = len(self._values)
            self._values.append(value)
            self.size += len(key[1]) + 4
        return self._places[key]

    def _lines(self, text: str) -> list[int]:
        return [self._value(line) for line in text.split("\n")]

    def _clipped(self, text: Clipped) -> list[int]:
        head = self._lines(text.head)
        return [*head, -text.cut, *self._lines(text.tail)] if text.cut else head


def parts(found: Collected, size: int, layout: Layout) -> Iterator[str]:
    """The parts, each begun anew once the one before is larger than `size` characters; fills `layout`."""
    part, number = _Part(), 0
    for index, question in enumerate(found.questions):
        part.question(index, question)
        layout.questions.append(number)
        if part.size > size:
            yield part.json()
            part, number = _Part(), number + 1
    for index, block in enumerate(found.blocks):
        for first, samples in _pieces(block, size):
            part.rows(index, block, first, samples)
            layout.blocks[index].append((len(samples), number))
            if part.size > size:
                yield part.json()
                part, number = _Part(), number + 1
    yield part.json()


def _pieces(block: Block, size: int) -> Iterator[tuple[int, list[Sample]]]:
    """The cell's samples in pieces whose texts have at most `size` characters, or one sample."""
    piece: list[Sample] = []
    first, room = 0, size
    for index, sample in enumerate(block.samples):
        text = block.prompts.get(sample.query)
        length = len(sample.answer) + (len(text.head) + len(text.tail) if text else 0)
        if piece and length > room:
            yield first, piece
            first, piece, room = index, [], size
        piece.append(sample)
        room -= length
    if piece:
        yield first, piece


def index_of(found: Collected, layout: Layout) -> dict[str, Any]:
    """What lists, filters and comparisons need, and where the texts are."""
    samples = [question.sample for question in found.questions]
    categories, sources = _names(sample.category for sample in samples), _names(s.source for s in samples)
    statuses = _names(sample.status for block in found.blocks for sample in block.samples)
    return {
        "hidden": HIDDEN,
        "runs": [run.name for run in found.runs],
        "settings": [
            [item.run, item.label, item.window, name_of(found, number), item.about]
            for number, item in enumerate(found.settings)
        ],
        "pools": pools(found),
        "categories": list(categories),
        "sources": list(sources),
        "statuses": list(statuses),
        "questions": {
            "id": [sample.query for sample in samples],
            "title": [_title(question) for question in found.questions],
            "targets": [" | ".join(sample.targets)[:TITLE] for sample in samples],
            "category": _column([categories[sample.category] for sample in samples]),
            "source": _column([sources[sample.source] for sample in samples]),
            "seed": _column([question.seed for question in found.questions]),
            "part": _column(layout.questions),
        },
        "blocks": [
            {
                "setting": block.setting,
                "questions": _ranges(block.questions),
                "score": _column([_number(accuracy_of(sample)) for sample in block.samples]),
                "status": _column([statuses[sample.status] for sample in block.samples]),
                "part": _column([number for rows, number in places for _ in range(rows)]),
            }
            for block, places in zip(found.blocks, layout.blocks, strict=True)
        ],
    }


def _title(question: Question) -> str:
    """The start of the question; its id where no run stored the text."""
    return question.record.prompt.head[:TITLE] if question.record else question.sample.query


def _names(values: Iterator[str]) -> dict[str, int]:
    """Places of the distinct values, the most frequent first."""
    return {name: index for index, (name, _) in enumerate(Counter(values).most_common())}


def _pairs(named: dict[str, Any]) -> list[list[Any]]:
    """Names and numbers; as pairs, so that no name can mean anything to a script."""
    return [[name, _number(value)] for name, value in named.items()]


def _number(value: Any) -> Any:
    """Floats to four digits, whole ones as integers, what is not finite as None; all else as it is."""
    if not isinstance(value, float):
        return value
    if not isfinite(value):
        return None
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() else rounded


def _plain(value: Any) -> Any:
    """A number or a text; anything else as JSON."""
    return _number(value) if isinstance(value, int | float | str) else json.dumps(value)


def _ranges(numbers: Sequence[int]) -> list[int]:
    """Numbers as (first, count) of runs of consecutive ones, flat."""
    runs = groupby(enumerate(numbers), key=lambda item: item[1] - item[0])
    found = [[number for _, number in run] for _, run in runs]
    return [part for run in found for part in (run[0], len(run))]


def _column(values: Sequence[Any]) -> Any:
    """A column: {"c": value, "n": rows} where constant, {"r": [value, rows, ...]} where that is shorter."""
    runs = [(value, sum(1 for _ in run)) for value, run in groupby(values)]
    if len(runs) == 1:
        return {"c": values[0], "n": len(values)}
    if 2 * len(runs) < len(values):
        return {"r": [part for run in runs for part in run]}
    return list(values)
