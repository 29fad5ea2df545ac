"""Any file of rows as a task of lm-eval: its documents, its scores and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from bridged import evaluate, made, save_tiny
from deltamem_eval.errors import UserError
from deltamem_eval.lm_eval_bridge import tasks_folder
from deltamem_eval.tasks.memory_agent_bench.task import RowsTask


def row(source: str, context: str) -> dict[str, Any]:
    asked = {"questions": ["Where does Ann live?", "Where is Rome?"], "answers": [["Oslo"], ["Italy", "a"]]}
    return {"context": context, **asked, "metadata": {"source": source}}


def write(folder: Path, *rows: dict[str, Any]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
    return str(file)


def test_rows_are_documents_with_the_scores_of_their_source(tmp_path: Path) -> None:
    facts, notes = "0. Rome is in Italy.\n1. Ann lives in Oslo.\n", "Ann moved. She lives in Oslo"
    file = write(tmp_path, row("factconsolidation_sh_6k", facts), row("ruler_qa1_197K", notes))
    lm = made(model=str(save_tiny(tmp_path / "model")), split="auto", window=200)
    found = evaluate(lm, "dme_rows", folder=tasks_folder(), metadata={"rows": file})
    samples = found["samples"]["dme_rows"]
    task = RowsTask(file)
    queries = [query for episode in task.episodes(0, None) for query in episode.queries]
    assert [sample["doc"]["id"] for sample in samples] == [query.id for query in queries]
    texts = [sample["arguments"][0][0] for sample in samples]
    wanted = [facts] * 2 + [f"{notes}\n"] * 2
    assert texts == [text + query.prompt for text, query in zip(wanted, queries, strict=True)]
    for sample, query in zip(samples, queries, strict=True):
        scored = task.score(query, sample["resps"][0][0])
        for name in ("accuracy", "exact_match", "f1", "substring_exact_match"):
            assert sample[name] == scored[name]
    assert "accuracy,none" in found["results"]["dme_rows"]
    assert set(lm.memories.ingests.values()) == {1}
    assert lm.memories.ingests.total() == 2


def test_scores_are_those_of_the_source(tmp_path: Path) -> None:
    from deltamem_eval.lm_eval_bridge.tasks.rows_docs import documents, scores

    file = write(tmp_path, row("factconsolidation_sh_6k", "a\n"), row("icl_banking77_5900shot", "b\n"))
    facts, _, labels, _ = documents(rows=file)["test"]
    assert scores(facts, ["It is Oslo."])["accuracy"] == 1  # the answer stands in the reply
    assert scores(labels, ["It is Oslo."])["accuracy"] == 0  # the reply is not the label
    assert scores(labels, ["Oslo"])["accuracy"] == 1
    assert len(documents(rows=file, rows_limit=1)["test"]) == 4


def test_what_it_cannot_ask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"""needs a file of rows: give --metadata '{"rows": "FILE"}'"""):
        evaluate("dummy", "dme_rows", folder=tasks_folder())
    file = write(tmp_path, row("infbench_sum_eng_shots2", "a\n"))
    with pytest.raises(UserError, match="too few for infbench_sum_eng_shots2: deltamem-eval run --rows FILE"):
        evaluate("dummy", "dme_rows", folder=tasks_folder(), metadata={"rows": file})
