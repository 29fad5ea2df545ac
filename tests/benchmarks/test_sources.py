"""In-context-learning sources from raw files as small as can be: both tables, and what is missing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import sources
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.tokens import counter

# Of two labels each word would stand in half of the examples, which Okapi counts as nothing.
LABELS = ("x", "y", "z")


def said(kind: str, shown: Callable[[str, str], str]) -> str:
    """Lines of utterances that name their label, as `shown` writes a pair of text and label."""
    numbers = range(12) if kind == "train" else range(100, 112)
    return "".join(shown(f"{kind} {n} of {label} {label}", label) for n in numbers for label in LABELS)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Raw files of all four sources; one utterance that Banking77 holds out stands in its training set."""
    folder = tmp_path / "raw"
    for name in ("banking77", "hwu64/train", "hwu64/test", "trec"):
        (folder / name).mkdir(parents=True)
    for kind in ("train", "test"):
        table = "text,category\n" + said(kind, lambda text, label: f"{text},{label}\n")
        (folder / "banking77" / f"{kind}.csv").write_text(
            table + ("train 1 of x x,x\n" if kind == "test" else "")
        )
        hwu = folder / "hwu64" / kind
        (hwu / "seq.in").write_text(said(kind, lambda text, label: f"{text}\n"))
        (hwu / "label").write_text(said(kind, lambda text, label: f"{label}\n"))
    for name, kind in (("train_5500.label", "train"), ("TREC_10.label", "test")):
        (folder / "trec" / name).write_text(
            said(kind, lambda text, label: f"{label.upper()}:{label} {text}\n")
        )
    return folder


def lines(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_both_tables_are_printed_and_written(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "BUDGETS", dict.fromkeys(sources.BUDGETS, (300, 150)))
    monkeypatch.setattr(sources, "RESAMPLES", 2)
    monkeypatch.setattr(sources, "QUESTIONS", 6)
    out = tmp_path / "results"
    monkeypatch.setattr("sys.argv", ["sources.py", str(raw), "--out", str(out)])
    sources.main()
    printed = capsys.readouterr().out
    assert "| source | budget, tokens | shots |" in printed
    assert "| source | budget, tokens | context tokens, least |" in printed
    found = lines(out / "icl_sources.csv")
    assert [(line["source"], line["budget"], line["method"]) for line in found] == [
        (title, budget, method)
        for title in ("Banking77", "NLU", "TREC coarse", "TREC fine")
        for budget in ("300", "150")
        for method in ("majority-label", "nearest-example")
    ]
    for line in found:
        assert (line["labels"], line["contexts"], line["accuracy_n"]) == ("3", "2", "12")
        assert float(line["accuracy_low"]) <= float(line["accuracy"]) <= float(line["accuracy_high"])
        assert float(line["shots_per_label"]) == round(int(line["shots"]) / 3, 1)
        assert line["method"] == "majority-label" or float(line["accuracy"]) == 1.0
    assert int(found[0]["shots"]) > int(found[2]["shots"]) >= 3
    leaks = lines(out / "icl_leakage.csv")
    assert [line["left_out_in_training"] for line in leaks] == ["1", "1", *["0"] * 6]
    for line in leaks:
        assert (line["questions"], line["questions_in_context"], line["duplicated_questions"]) == (
            "12",
            "0",
            "0",
        )
        assert 0 < int(line["context_tokens_min"]) <= int(line["context_tokens_max"]) <= int(line["budget"])


def test_missing_files_are_said_before_anything_is_built(raw: Path, tmp_path: Path) -> None:
    for file in (raw / "trec").iterdir():
        file.unlink()
    (raw / "trec").rmdir()
    with pytest.raises(UserError, match="raw holds no trec: the raw files of TREC coarse"):
        next(sources.build(raw, counter()))
    with pytest.raises(UserError, match="holds no nlu_eval/hwu64 or hwu64"):
        sources.RAW[1].corpus(tmp_path)
