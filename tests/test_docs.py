"""What the documents list is what there is: links, make targets, extras, sources, metadata, tables."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from deltamem_eval.cli.report import _TABLES
from deltamem_eval.tasks.memory_agent_bench.metadata import PER_QUESTION
from deltamem_eval.tasks.memory_agent_bench.rows import check_row
from deltamem_eval.tasks.memory_agent_bench.sources import SOURCES

from shared import ROOT

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def cells(file: Path, title: str) -> list[list[str]]:
    """The rows below the head of the table whose head begins with `title`."""
    table = file.read_text().partition(f"| {title} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_links_and_make_targets_exist(file: Path) -> None:
    text = file.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (file.parent / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_every_extra_is_in_the_readme_and_in_the_tests_own() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = [name for row in cells(ROOT / "README.md", "extra") for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(told) == sorted(extras)
    assert {need for name in extras for need in extras[name]} == set(extras["test"])


def test_the_example_row_can_be_read() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "rows.md").read_text(), re.DOTALL)
    check_row(json.loads(text), "example")


def test_the_sources_are_those_there_are() -> None:
    told = {row[0].strip("`"): (row[1], row[2], row[3]) for row in cells(ROOT / "docs" / "rows.md", "source")}
    there = {
        source.prefix: (source.category, source.primary, f"{source.new_tokens:,}")
        for source in SOURCES
        if not source.prefix.startswith("embedded_")
    }
    assert told == there


def test_the_lists_of_metadata_are_those_there_are() -> None:
    told = [
        name for row in cells(ROOT / "docs" / "rows.md", "list") for name in re.findall(r"`([^`]+)`", row[0])
    ]
    assert sorted(told) == sorted(("qa_pair_ids", *PER_QUESTION))


def test_every_table_has_a_name_to_print_it_by() -> None:
    told = [row[1] for row in cells(ROOT / "docs" / "reports.md", "file | `--table`")]
    names = {name.split()[0] for row in told for name in re.findall(r"`([^`]+)`", row)}
    assert names == set(re.split(r", | or ", _TABLES))
