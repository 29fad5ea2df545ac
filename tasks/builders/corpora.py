"""Readers of labelled utterances: Banking77, CLINC150, NLU evaluation data and HWU64, TREC."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.common import listed, pick, read_json, read_text

_NLU_COLUMNS = ("scenario", "intent", "answer_from_anno")


@dataclass(frozen=True)
class Example:
    """An utterance and its label's name."""

    text: str
    label: str


@dataclass(frozen=True)
class Corpus:
    """train: what contexts are made from; held_out: what is asked about."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def banking77(paths: Sequence[Path]) -> Corpus:
    """PolyAI's train.csv and test.csv, `text,category` (Casanueva et al. 2020)."""
    train, test = (pick(paths, f"{kind} set of Banking77", ".csv", kind) for kind in ("train", "test"))
    return Corpus(_banking(train), _banking(test))


def _banking(file: Path) -> tuple[Example, ...]:
    lines = _table(file, ",")
    header = next(lines, (0, []))[1]
    if header != ["text", "category"]:
        raise UserError(f"{file}: its header must be text,category, not {','.join(header)[:80]!r}")
    return _pairs(file, lines)


def clinc150(paths: Sequence[Path]) -> Corpus:
    """Larson et al. 2019, data_full.json. The held-out questions are the validation set's, as
    MemoryAgentBench's are; out of scope is a label of its own, the 151st.
    """
    file = pick(paths, "CLINC150 file", ".json", *(("data_full",) if any(p.is_dir() for p in paths) else ()))
    value = read_json(file)
    if not isinstance(value, dict):
        raise UserError(f"{file} must hold an object with lists under train and val")
    missing = [name for name in ("train", "val") if not isinstance(value.get(name), list)]
    if missing:
        raise UserError(f"{file} lacks a list under {missing[0]}")
    return Corpus(*(_clinc_part(file, value, (name, f"oos_{name}")) for name in ("train", "val")))


def _clinc_part(file: Path, value: dict[str, object], names: tuple[str, ...]) -> tuple[Example, ...]:
    found = []
    for name in names:
        pairs = value.get(name, [])
        if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
            raise UserError(f"{file}: {name} must be a list of [text, intent] pairs")
        found += [(number, text, label) for number, (text, label) in enumerate(pairs)]
    return _examples(file, iter(found), "item")


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)


def nlu(paths: Sequence[Path]) -> Corpus:
    """Liu et al. 2019: a fold's train and test CSV, or HWU64's folder of train/ and test/."""
    if len(paths) == 1 and (paths[0] / "train" / "seq.in").is_file():
        return Corpus(_parallel(paths[0] / "train"), _parallel(paths[0] / "test"))
    train, test = (pick(paths, f"{kind} set of NLU", ".csv", kind) for kind in ("train", "test"))
    return Corpus(_pairs(train, _table(train, ",")), _nlu_test(test))


def _nlu_test(file: Path) -> tuple[Example, ...]:
    lines = _table(file, ";")
    header = next(lines, (0, []))[1]
    missing = [name for name in _NLU_COLUMNS if name not in header]
    if missing:
        raise UserError(f"{file}: its header, parted by semicolons, lacks {missing[0]}")
    scenario, intent, text = (header.index(name) for name in _NLU_COLUMNS)
    rows = ((number, _fields(file, number, line, len(header))) for number, line in lines)
    return _examples(file, ((number, row[text], f"{row[scenario]}_{row[intent]}") for number, row in rows))


def _parallel(folder: Path) -> tuple[Example, ...]:
    texts, labels = (read_text(folder / name).splitlines() for name in ("seq.in", "label"))
    if len(texts) != len(labels):
        raise UserError(f"{folder}: seq.in has {len(texts)} lines and label {len(labels)}")
    pairs = zip(texts, labels, strict=True)
    return _examples(folder / "seq.in", ((number, *pair) for number, pair in enumerate(pairs, 1)))


def trec_coarse(paths: Sequence[Path]) -> Corpus:
    """Li and Roth 2002, `COARSE:fine question` in Latin-1, labelled by the coarse class."""
    return _trec(paths, lambda label: label.partition(":")[0])


def trec_fine(paths: Sequence[Path]) -> Corpus:
    """As `trec_coarse`, labelled by both classes."""
    return _trec(paths, lambda label: label)


def _trec(paths: Sequence[Path], name: Callable[[str], str]) -> Corpus:
    suffix = next((file.suffix for file in listed(paths) if "train" in file.name.lower()), ".label")
    train = pick(paths, "train set of TREC", suffix, "train")
    test = pick(paths, "test set of TREC", suffix, "trec_10", "test")
    return Corpus(_questions(train, name), _questions(test, name))


def _questions(file: Path, name: Callable[[str], str]) -> tuple[Example, ...]:
    found = []
    for number, line in enumerate(read_text(file, "latin-1").split("\n"), 1):
        if not line.strip():
            continue
        label, _, text = line.strip().partition(" ")
        if not all(label.partition(":")) or not text:
            raise UserError(
                f"{file} line {number}: expected COARSE:fine question, found {line.strip()[:60]!r}"
            )
        found.append((number, text, name(label)))
    return _examples(file, iter(found))


def _table(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """A CSV's records that are not empty, each with the number of the line it ends on."""
    reader = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=delimiter)
    try:
        for line in reader:
            if line:
                yield reader.line_num, line
    except csv.Error as error:
        raise UserError(f"{file} line {reader.line_num} is not CSV: {error}") from None


def _pairs(file: Path, lines: Iterator[tuple[int, list[str]]]) -> tuple[Example, ...]:
    rows = ((number, _fields(file, number, line, 2)) for number, line in lines)
    return _examples(file, ((number, text, label) for number, (text, label) in rows))


def _fields(file: Path, number: int, line: list[str], count: int) -> list[str]:
    if len(line) != count:
        raise UserError(f"{file} line {number}: expected {count} fields, found {len(line)}")
    return line


def _examples(file: Path, found: Iterator[tuple[int, str, str]], unit: str = "line") -> tuple[Example, ...]:
    """Checked examples; an utterance's line ends become spaces, since a context gives it one line."""
    made = []
    for number, text, label in found:
        example = Example(" ".join(text.split()), label.strip())
        if not example.text or not example.label:
            raise UserError(f"{file} {unit} {number}: an utterance and its label must not be empty")
        made.append(example)
    if not made:
        raise UserError(f"{file} holds no examples")
    return tuple(made)
