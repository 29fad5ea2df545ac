"""The tables of evidence, on rows as small as can be."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence
import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.render import to_csv
from deltamem_eval.session import Request, execute
from fact_rows import facts_row

K10 = evidence.SETTINGS[1]


def cells(text: str) -> dict[str, dict[str, str]]:
    """The lines of a CSV by their source."""
    return {line["source"]: line for line in csv.DictReader(text.splitlines())}


def test_bm25_s_ten_passages_are_measured_on_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def noted(request: Request, *more: Any) -> None:
        asked.append(request)
        execute(request, *more)

    monkeypatch.setattr(evidence, "execute", noted)
    rows = [facts_row("factconsolidation_sh_6k", 4), facts_row("factconsolidation_sh_262k", 60)]
    found = cells(to_csv(evidence.measure(K10, rows)))
    (request,) = asked
    assert (request.methods, request.windows) == (("bm25-rag",), (5120,))
    assert {"passage_tokens": 512, "top_k": 10}.items() <= request.options.items()
    short, long = (found[f"factconsolidation_sh_{size}"] for size in ("6k", "262k"))
    assert float(short["evidence_recall"]) == float(long["evidence_recall"]) == 1.0
    assert float(short["prompt_tokens"]) < float(long["prompt_tokens"])


def test_no_more_passages_are_shown_than_asked_for() -> None:
    rows = [facts_row("factconsolidation_sh_6k", 60)]
    few = replace(K10, options={"passage_tokens": 64, "top_k": 2})
    assert float(cells(to_csv(evidence.measure(few, rows)))["factconsolidation_sh_6k"]["prompt_tokens"]) < 400


def test_both_tables_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    sources = ("factconsolidation_mh_6k", "factconsolidation_sh_6k", "factconsolidation_sh_262k")
    file.write_text(json.dumps([facts_row(source, 4) for source in sources]))
    first = replace(evidence.SETTINGS[0], methods=("vanilla",), windows=(64,), positions=1024)
    monkeypatch.setattr(evidence, "SETTINGS", (first, K10))
    monkeypatch.setattr("sys.argv", ["evidence.py", str(file), "--out", str(tmp_path / "results")])
    evidence.main()
    printed = capsys.readouterr().out
    assert printed.count("| method | window | source |") == 2
    assert "backbone embedded (float32)" in printed
    written = {path.name: cells(path.read_text()) for path in (tmp_path / "results").iterdir()}
    assert {name: sorted(found) for name, found in written.items()} == {
        "evidence.csv": ["factconsolidation_mh_6k", "factconsolidation_sh_6k"],
        "evidence_bm25_k10.csv": ["factconsolidation_sh_262k", "factconsolidation_sh_6k"],
    }


def test_a_file_without_such_rows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([facts_row("factconsolidation_sh_32k", 4)]))
    with pytest.raises(UserError, match="holds no row of a source factconsolidation_sh_6k or"):
        evidence.chosen_rows(file, K10)
