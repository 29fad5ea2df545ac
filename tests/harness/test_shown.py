"""How much of a context stood in the prompts, from the run to the table."""

import json
from pathlib import Path

import pytest
from deltamem_eval.display import Display
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.store import Sample, read_cells
from tiny import tiny_backbone

POSITIONS = 2048


def context(tokens: int) -> str:
    """Lines of as many bytes, each a token of the tiny backbone."""
    lines = "".join(f"{n}. town {n} has {7 * n} wells.\n" for n in range(tokens))
    return lines[: tokens - 1] + "\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two contexts, of twice as many tokens as there are positions and of a tenth of that."""
    folder = tmp_path_factory.mktemp("shown")
    backbone = tiny_backbone(positions=POSITIONS)
    backbone.model.save_pretrained(folder / "model")
    backbone.tokenizer.save_pretrained(folder / "model")
    rows = [
        {
            "context": context(tokens),
            "questions": ["How many wells has town 3?"],
            "answers": [["21"]],
            "metadata": {"source": source, "qa_pair_ids": [source]},
        }
        for source, tokens in (("factconsolidation_sh_6k", 2 * POSITIONS), ("factconsolidation_sh_32k", 400))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = Request(
        ("vanilla", "bm25-rag"),
        model=str(folder / "model"),
        rows=str(folder / "rows.jsonl"),
        windows=(100,),
        device="cpu",
    )
    with Display(2, quiet=True) as display:
        execute(check(asked), folder / "run", display)
    return folder / "run"


def test_a_full_context_longer_than_the_positions_is_not_all_shown(run: Path) -> None:
    table = summary_table([run], ("source",))
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
    shown = {(row["method"].value, row["source"].value): row["context_shown"].value for row in rows}
    long, short = "factconsolidation_sh_6k", "factconsolidation_sh_32k"
    assert 0.35 < shown["vanilla [full-context]", long] <= 0.5
    assert shown["vanilla [full-context]", short] == 1.0
    assert shown["vanilla [closed-book]", long] is None
    assert shown["vanilla", long] == 100 / (2 * POSITIONS)
    assert shown["vanilla", short] == 0.25
    assert 0 < shown["bm25-rag", short] <= 0.25
    assert {row["context_cut"].value for row in rows} <= {0.0, None}  # the protocol cut nothing


def test_the_share_is_of_the_context_that_was_written(run: Path) -> None:
    def lengths(control: str | None) -> dict[str, int | None]:
        found: list[Sample] = []
        for record, samples in read_cells(run):
            if (record.identity["method"], record.identity["control"]) == ("bm25-rag", control):
                found += samples
        return {sample.source: sample.written_tokens for sample in found}

    own, others = lengths(None), lengths("wrong-memory")
    assert sorted(own.values()) == [400, 2 * POSITIONS]
    assert list(others.values()) == [own[source] for source in reversed(others)]
