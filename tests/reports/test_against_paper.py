"""The paper's numbers stand beside ours only where they can."""

from pathlib import Path

import pytest
from deltamem_eval.reports.against_paper import _SAMPLED, _SPLITS, paper_table
from deltamem_eval.reports.paper import BACKBONE, PARAMETERS, printed
from deltamem_eval.store import Sample
from deltamem_eval.tasks.memory_agent_bench.hub import REVISION, SPLITS

from stored import sample, write_run

TTL = {"category": "test-time-learning"}
RELEASE = {
    "protocol": "delta-mem-release",
    "sources": [],
    "sha256": {split.split: "s" for split in SPLITS},
    "prompts": 1,
    "revision": REVISION,
}
LOCOMO = {"context": "whole", "categories": [1, 2, 3, 4]}


def test_the_splits_are_the_benchmark_s() -> None:
    assert {split.split for split in SPLITS} == set(_SPLITS)


def run(tmp_path: Path, **identity: object) -> Path:
    plain = {"method": "sequence-write", "model": BACKBONE, "task": "memory-agent-bench", "data": RELEASE}
    samples = [sample(number, number < 6, **(TTL if number % 2 else {})) for number in range(8)]
    return write_run(tmp_path / "run", [(plain | identity, samples)])


def named(path: Path) -> dict[str, dict]:
    table = paper_table([path])
    keys = [column.key for column in table.columns]
    return {str(row[3].value): dict(zip(keys, row, strict=True)) for row in table.rows}


def test_the_same_backbone_task_and_protocol_stand_side_by_side(tmp_path: Path) -> None:
    rows = named(run(tmp_path))
    assert set(rows) == {
        "MemoryAgentBench",
        "accurate retrieval",
        "test-time learning",
    }
    learning = rows["test-time learning"]
    assert learning["ours"].value == 3 / 4
    assert learning["paper"].value == pytest.approx(0.505)
    assert learning["difference"].value == pytest.approx(0.75 - 0.505)
    assert learning["difference"].low == pytest.approx(learning["ours"].low - 0.505)


def test_another_protocol_or_a_part_of_the_episodes_gives_a_reason_and_no_number(tmp_path: Path) -> None:
    other = named(run(tmp_path / "a", data={"protocol": "isolated"}))["MemoryAgentBench"]
    assert (other["ours"].value, other["difference"].value) == (None, None)
    assert other["ours"].note == "protocol isolated: the paper's is delta-mem-release."
    part = named(run(tmp_path / "b", limit=2))["MemoryAgentBench"]
    assert part["ours"].note == "Limited to some of the episodes."


def test_a_window_that_cuts_contexts_is_not_the_paper_s_but_for_methods_that_choose(tmp_path: Path) -> None:
    def ours(method: str, shown: int) -> tuple[object, str | None]:
        plain = {"method": method, "model": BACKBONE, "task": "memory-agent-bench", "data": RELEASE}
        samples = [sample(number, True, context_tokens=shown) for number in range(4)]
        path = write_run(tmp_path / f"{method}{shown}", [(plain | {"window": 40}, samples)])
        cell = named(path)["MemoryAgentBench"]["ours"]
        return cell.value, cell.note

    assert ours("token-write", 39) == (1.0, None)
    assert ours("token-write", 40) == (None, "window 40 did not hold every context: the paper's prompts do.")
    assert ours("bm25-rag", 40) == (1.0, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sources": ["icl_"]}, "Only sources icl_ were asked: the paper's numbers are of all."),
        (
            {"sha256": {"Test_Time_Learning": "s", "Conflict_Resolution": "s", "Accurate_Retrieval": "s"}},
            "Without split Long_Range_Understanding: the paper's numbers are of all four.",
        ),
        (
            {"prompts": {"name": "official-rag", "templates": "t"}},
            "prompts official-rag: the paper's published scripts do not use the benchmark's own.",
        ),
        (
            {"revision": None},
            "Data that no checksum shows to be the benchmark's own: the paper's numbers are of those.",
        ),
    ],
)
def test_a_part_of_the_benchmark_or_other_prompts_are_not_the_paper_s(
    tmp_path: Path, changes: dict, reason: str
) -> None:
    for row in named(run(tmp_path, data=RELEASE | changes)).values():
        assert (row["ours"].value, row["ours"].note, row["difference"].value) == (None, reason, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"context": "sessions"}, "context sessions: the paper's is the whole dialogue."),
        ({"categories": [1, 4]}, "categories 1, 4: the paper's are 1, 2, 3, 4."),
        ({"categories": [1, 2, 3, 4, 5]}, "categories 1, 2, 3, 4, 5: the paper's are 1, 2, 3, 4."),
    ],
)
def test_locomo_counts_whole_and_in_four_categories(
    tmp_path: Path, changes: dict, reason: str | None
) -> None:
    row = named(run(tmp_path, task="locomo", data=LOCOMO | changes))["LoCoMo"]
    assert row["ours"].value == (6 / 8 if reason is None else None)
    assert row["ours"].note == (reason or _SAMPLED)
    assert "greedily" in _SAMPLED
    assert "temperature 0.4, top_p 0.9, top_k 10" in _SAMPLED


IFEVAL = {"task": "ifeval", "split": "none", "max_new_tokens": 1500}
UNBOUND = {"task": "gpqa_diamond_cot_zeroshot", "split": "none", "filter": "flexible-extract"}
GPQA = UNBOUND | {"max_new_tokens": 8192}


def test_each_of_lm_eval_s_tasks_stands_beside_its_own_number(tmp_path: Path) -> None:
    cells = [
        (
            {"method": "token-write", "model": BACKBONE, "task": "lm-eval", "data": data, "window": 0},
            [sample(number, number < right) for number in range(8)],
        )
        for data, right in ((IFEVAL, 6), (GPQA, 2))
    ]
    rows = named(write_run(tmp_path / "run", cells))
    assert {name: row["ours"].value for name, row in rows.items()} == {
        "GPQA-diamond": 2 / 8,
        "IFEval": 6 / 8,
    }


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (GPQA | {"task": "gpqa_diamond_zeroshot"}, "GPQA-diamond", "task gpqa_diamond_zeroshot: the paper "),
        (GPQA | {"filter": ""}, "GPQA-diamond", "filter the task's first: the paper suite's is flexible-ext"),
        ({"task": "ifeval"}, "IFEval", "split auto: the paper suite's is none."),
        (IFEVAL | {"filter": "mine"}, "IFEval", "filter mine: the paper suite's is the task's first."),
        (UNBOUND, "GPQA-diamond", "max_new_tokens the task's own: the paper suite's is 8,192"),
        (GPQA | {"max_new_tokens": 8191}, "GPQA-diamond", "max_new_tokens 8,191: the paper suite's is 8,192"),
        ({"task": "ifeval", "split": "none"}, "IFEval", "max_new_tokens the task's own: the paper"),
    ],
)
def test_another_way_of_asking_lm_eval_is_not_the_paper_s(
    tmp_path: Path, data: dict, name: str, reason: str
) -> None:
    row = named(run(tmp_path, method="token-write", task="lm-eval", data=data))[name]
    assert row["ours"].value is None
    assert row["ours"].note.startswith(reason)


def test_a_larger_budget_than_the_release_s_is_no_hindrance(tmp_path: Path) -> None:
    data = GPQA | {"max_new_tokens": 10_000}
    row = named(run(tmp_path, method="token-write", task="lm-eval", data=data))["GPQA-diamond"]
    assert (row["ours"].value, row["ours"].note) == (6 / 8, None)


def test_a_task_of_the_user_s_folder_is_not_lm_eval_s(tmp_path: Path) -> None:
    cell = {"method": "token-write", "model": BACKBONE, "task": "lm-eval", "data": IFEVAL}
    request = {"task_options": {"include_path": "mine"}}
    path = write_run(tmp_path / "run", [(cell, [sample(number, True) for number in range(4)])], request)
    assert named(path)["IFEval"]["ours"].note == "include_path: the task is not lm-eval's own."


def counted(number: int, **more: float) -> Sample:
    """A wrong answer by HotpotQA's official rules."""
    return sample(number, False, metrics={"accuracy": 0.0, "exact_match": 0.0, "f1": 0.0, **more})


def test_hotpotqa_counts_all_of_the_dev_set_s_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = {"model": BACKBONE, "task": "hotpotqa", "data": {"sha256": "h"}}
    samples = [counted(number, release_exact_match=float(number < 6), release_f1=0.75) for number in range(8)]
    path = write_run(tmp_path / "run", [(cell, samples)])
    few = named(path)["HotpotQA EM"]["ours"]
    assert (few.value, few.note) == (None, "8 questions: HotpotQA's distractor dev set has 7,405.")
    monkeypatch.setattr("deltamem_eval.reports.against_paper._DISTRACTOR", 8)
    # by the release's rules, not by the official ones that the paper did not count by
    assert {name: row["ours"].value for name, row in named(path).items()} == {
        "HotpotQA EM": 6 / 8,
        "HotpotQA F1": 0.75,
    }


def test_hotpotqa_without_the_release_s_metrics_gives_a_reason_and_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltamem_eval.reports.against_paper._DISTRACTOR", 4)
    cell = {"model": BACKBONE, "task": "hotpotqa", "data": {"sha256": "h"}}
    lost = sample(0, False, status="failed", metrics={})

    def shown(name: str, *others: Sample) -> dict[str, tuple[object, str | None]]:
        rows = named(write_run(tmp_path / name, [(cell, [lost, *others])]))
        return {short: (row["ours"].value, row["ours"].note) for short, row in rows.items()}

    new = [counted(number, release_exact_match=1.0, release_f1=1.0) for number in range(1, 4)]
    assert shown("new", *new) == {"HotpotQA EM": (3 / 4, None), "HotpotQA F1": (3 / 4, None)}
    for name, others in (("old", [counted(1), counted(2), counted(3)]), ("mixed", [*new[:2], counted(3)])):
        assert shown(name, *others) == {
            f"HotpotQA {short}": (
                None,
                f"Stored without {metric}, the paper's way of counting: run it in a new folder.",
            )
            for short, metric in (("EM", "release_exact_match"), ("F1", "release_f1"))
        }


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ({"model": "tiny"}, "the backbone is tiny, and the paper's are HuggingFaceTB/SmolLM3-3B, "),
        ({"task": "embedded"}, "the paper has no number for task embedded"),
        ({"method": "oracle-last-write"}, "the paper has no number for task memory-agent-bench by the same"),
    ],
)
def test_where_nothing_compares_the_caption_says_why(tmp_path: Path, identity: dict, reason: str) -> None:
    table = paper_table([run(tmp_path, **identity)])
    assert table.rows == ()
    assert table.caption.startswith(f"Nothing stands beside the paper's numbers: {reason}")


def test_headline_numbers_of_the_paper() -> None:
    numbers = printed()
    assert numbers[BACKBONE, "vanilla", "mab_avg"] == 29.54
    assert numbers[BACKBONE, "multi-write", "mab_avg"] == 38.85
    assert numbers[BACKBONE, "vanilla", "mab_ttl"] == 26.14
    assert numbers[BACKBONE, "sequence-write", "mab_ttl"] == 50.50
    assert (PARAMETERS["token-write"].added, PARAMETERS["token-write"].share) == (4_870_000, 0.0012)
    assert PARAMETERS["mlp-memory"].share == 0.764
