"""Files in MemoryAgentBench's row schema: reading, checking, and turning rows into episodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, Episode, Query
from deltamem_eval.tasks.files import parse_json
from deltamem_eval.tasks.memory_agent_bench.metadata import (
    PER_QUESTION,
    check_length,
    check_metadata,
    is_texts,
)
from deltamem_eval.tasks.memory_agent_bench.prompts import wrap
from deltamem_eval.tasks.memory_agent_bench.protocols import (
    OFFICIAL_CHUNK,
    Handed,
    Limits,
    Name,
    hand_over,
    split_context,
)
from deltamem_eval.tasks.memory_agent_bench.sources import Source, source_of
from deltamem_eval.tasks.memory_agent_bench.templates import Wording

Row = dict[str, Any]

_WORD = re.compile(r"\w+")


def load_rows(path: str | Path) -> list[Row]:
    """The rows of a .json, .jsonl or .parquet file, checked.

    Raises UserError, naming file, row and field, for a file that cannot be read or a row that breaks the
    schema.
    """
    file = Path(path)
    readers = {".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if file.suffix not in readers:
        raise UserError(f"{file}: rows must be a .json, .jsonl or .parquet file")
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        rows = readers[file.suffix](file)
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    if not rows:
        raise UserError(f"{file} holds no rows")
    for index, row in enumerate(rows):
        check_row(row, f"{file} row {index}")
    return rows


def sources_in(path: Path) -> list[str]:
    """The sources of a file's rows, each once, in order; of a parquet file only their names are read.

    Raises UserError as `load_rows`.
    """
    if path.suffix != ".parquet":
        found = [row["metadata"]["source"] for row in load_rows(path)]
    else:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            read = parquet.read_table(path, columns=["metadata.source"]).to_pylist()
            found = [row["metadata"]["source"] for row in read]
        except (pa.ArrowException, OSError, KeyError, TypeError, UnicodeDecodeError):
            found = [row["metadata"]["source"] for row in load_rows(path)]  # which says what is wrong
    return list(dict.fromkeys(map(str, found)))


def _read_json(file: Path) -> list[Any]:
    value = parse_json(file.read_text(encoding="utf-8-sig"), str(file))
    if isinstance(value, dict):
        value = value.get("data", [value] if "context" in value else None)
    if not isinstance(value, list):
        raise UserError(f"{file} must hold a list of rows, or an object with such a list under data")
    return value


def _read_jsonl(file: Path) -> list[Any]:
    lines = file.read_text(encoding="utf-8-sig").split("\n")
    return [parse_json(line, f"{file} line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _read_parquet(file: Path) -> list[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows: list[Any] = parquet.read_table(file).to_pylist()
    except pa.ArrowException as error:
        raise UserError(f"{file} is not a parquet file: {str(error).splitlines()[0]}") from None
    return rows


def check_row(row: Any, where: str) -> None:
    """Raises UserError, beginning with `where`, for a row that breaks the schema."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, found {type(row).__name__}")
    for name in ("context", "questions", "answers", "metadata"):
        if row.get(name) is None:
            raise UserError(f"{where}: lacks {name}")
    if not isinstance(row["context"], str) or not row["context"].strip():
        raise UserError(f"{where}: context must be a text that is not empty")
    _check_questions(row["questions"], where)
    answers = row["answers"]
    _check_answers(answers, where)
    metadata = row["metadata"]
    if not isinstance(metadata, dict) or not isinstance(metadata.get("source"), str):
        raise UserError(f"{where}: metadata must be an object with a source")
    try:
        source_of(metadata["source"])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    check_length(answers, len(row["questions"]), "answers", where)
    check_metadata(metadata, len(row["questions"]), where)


def _check_questions(questions: Any, where: str) -> None:
    if not is_texts(questions) or not questions:
        raise UserError(f"{where}: questions must be a list of texts, at least one")
    for index, question in enumerate(questions):
        if not question.strip():
            raise UserError(f"{where}: question {index} is empty")


def _check_answers(answers: Any, where: str) -> None:
    if not isinstance(answers, list) or not all(is_texts(golds) and golds for golds in answers):
        raise UserError(f"{where}: answers must hold a list of acceptable texts for each question")
    for index, golds in enumerate(answers):
        if not all(gold.strip() for gold in golds):  # an empty text stands in every reply
            raise UserError(f"{where}: the answers of question {index} hold an empty text")


def episode_from_row(
    row: Mapping[str, Any],
    *,
    split: str,
    index: int,
    protocol: Name = "isolated",
    count: Callable[[str], int] = len,
    limits: Limits | None = None,
    wording: Wording | None = None,
    chunk_size: int = OFFICIAL_CHUNK,
    sentences: Callable[[str], list[str]] | None = None,
    length: Callable[[str], int] | None = None,
) -> Episode:
    """One row as an episode. Queries are keyed by (split, row, question), since qa_pair_ids repeat.

    count: tokens of a text, by which protocol `official` packs its chunks of chunk_size. sentences: that they
    are packed of, by Punkt's defaults where None. limits: by which it cuts contexts, None for never. wording:
    the benchmark's own prompts, None for ours. length: the model's tokens of a text, for `gold_fits` (see
    `fits`) and for `tokens_cut` of contexts cut by characters, which are left out where None. Answers end at
    a line break under `isolated` alone, and there for sources of short answers.
    """
    name, context = str(row["metadata"]["source"]), str(row["context"])
    source = source_of(name)
    turn = None if wording is None else wording.turn(source)
    handed = hand_over(protocol, name, context, count, limits, turn, chunk_size, sentences, length)
    stop = ("\n",) if source.short and protocol == "isolated" else ()
    found = evidence_of(name, tuple(split_context(context)), row)
    kept = survivors(row, found, context, handed)
    queries = []
    for number in range(len(row["questions"])):
        golds = _texts(row["answers"][number])
        more = {
            "evidence": found[number],
            "gold_survives": kept[number],
            "gold_fits": None if length is None else fits(source, golds, length),
            "context_cut": handed.cut,
            "tokens_cut": handed.tokens_cut,
        }
        question = str(row["questions"][number])
        prompt = wrap(source, question, protocol) if wording is None else wording.question(source, question)
        queries.append(_query(row, f"{split}/{index}/q{number:03d}", number, prompt, stop, more))
    return Episode(f"{split}/{index}", name, source.category, _chunks(name, context, handed), tuple(queries))


def _chunks(name: str, context: str, handed: Handed) -> tuple[Chunk, ...]:
    """Messages as handed over; dated turns of a live dialogue keep their day and role."""
    if name.startswith("live_") and handed.text == context:
        from deltamem_eval.tasks.builders.live import chunks

        return tuple(chunks(context))
    return tuple(Chunk(text, position) for position, text in enumerate(handed.pieces))


def _query(
    row: Mapping[str, Any],
    key: str,
    number: int,
    prompt: str,
    stop: tuple[str, ...],
    more: Mapping[str, Any],
) -> Query:
    question, metadata = str(row["questions"][number]), row["metadata"]
    source = source_of(str(metadata["source"]))
    given = {name: metadata[name][number] for name in PER_QUESTION if metadata.get(name) is not None}
    known = {name: value for name, value in {**given, **more}.items() if value is not None}
    if metadata.get("keypoints"):
        known["keypoints"] = list(metadata["keypoints"])
    return Query(
        id=key,
        prompt=prompt,
        targets=tuple(_texts(row["answers"][number])),
        max_new_tokens=source.new_tokens,
        stop=stop,
        metadata={**known, "question": question, "source": metadata["source"]},
    )


def survivors(
    row: Mapping[str, Any], evidence: Sequence[list[str] | None], context: str, handed: Handed
) -> list[float | None]:
    """For each question whether what answers it is in what methods are given.

    By the passages needed, where they are known, else by an acceptable answer's text; None where that does
    not stand in the whole context either.
    """
    whole, kept = context.lower(), handed.text.lower()
    found: list[float | None] = []
    for golds, passages in zip(row["answers"], evidence, strict=True):
        texts = [text.strip().lower() for text in passages or ()]
        if texts:
            found.append(float(all(" ".join(text.split()) in kept or text in kept for text in texts)))
            continue
        standing = [gold.lower() for gold in _texts(golds) if gold.lower() in whole]
        found.append(float(any(gold in kept for gold in standing)) if standing else None)
    return found


def fits(source: Source, golds: Sequence[str], length: Callable[[str], int]) -> float | None:
    """1 where an acceptable answer is no longer than what may be answered, in the tokens of `length`, else 0.

    None for movies, whose acceptable answers are numbers that nobody is to say.
    """
    if source.prefix == "recsys_":
        return None
    return float(any(length(gold.strip()) <= source.new_tokens for gold in golds))


def _texts(golds: Any) -> list[str]:
    return [golds] if isinstance(golds, str) else [str(gold) for gold in golds]


def evidence_of(name: str, lines: tuple[str, ...], row: Mapping[str, Any]) -> list[list[str] | None]:
    """For each question the passages needed to answer it, None where they are not known.

    A row may state them, null for a question whose are not known. For single-hop FactConsolidation they are
    found by rule: of the lines that hold the gold answer as whole words, the one that shares most words with
    the question, the newest of equals. The chain of facts behind a multi-hop question is not in the data.
    """
    stated = row["metadata"].get("evidence")
    if stated is not None:
        return [None if item is None else list(item) for item in stated]
    if not name.startswith("factconsolidation_sh"):
        return [None] * len(row["questions"])
    words = [frozenset(_WORD.findall(line.lower())) for line in lines]
    return [
        _gold_line(lines, words, str(question), list(golds))
        for question, golds in zip(row["questions"], row["answers"], strict=True)
    ]


def _gold_line(
    lines: tuple[str, ...], words: list[frozenset[str]], question: str, golds: list[str]
) -> list[str] | None:
    asked = frozenset(_WORD.findall(question.lower()))
    patterns = [re.compile(rf"(?<!\w){re.escape(gold.lower())}(?!\w)") for gold in golds]
    holding = [
        number
        for number, line in enumerate(lines)
        if any(pattern.search(line.lower()) for pattern in patterns)
    ]
    if not holding:
        return None
    return [lines[max(holding, key=lambda number: (len(asked & words[number]), number))].strip()]
