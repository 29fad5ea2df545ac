"""The result table from stored samples whose numbers are known."""

from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.matrix import matrix_table
from deltamem_eval.reports.summary import FLEXIBLE, summary_table
from deltamem_eval.store import RunStore, Sample
from deltamem_eval.tasks.memory_agent_bench.flexible import flexible
from deltamem_eval.tasks.memory_agent_bench.sources import SOURCES

OVERHEAD = {"trainable": 25, "stored": 25, "backbone": 1000}


def sample(number: int, right: bool, status: str = "ok", **more: object) -> Sample:
    context = number // 2
    return Sample(
        episode=f"e{context}",
        query=f"e{context}/q{number}",
        source="embedded_codes",
        category="accurate-retrieval",
        cluster=f"c{context}",
        status=status,
        targets=["x"],
        metrics={"accuracy": float(right)},
        target_hash="t",
        prompt_tokens=10,
        chance=0.1,
        write_seconds=2.0,
        answer_seconds=0.5,
        memory_bytes={"state": 100, "text": 28},
        **more,
    )


def cell(
    store: RunStore,
    control: str | None,
    window: int | None,
    samples: list[Sample],
    seed: int = 0,
    method: str = "token-write",
    **more: object,
) -> None:
    identity = {
        "method": "vanilla" if control in ("closed-book", "full-context") else method,
        "control": control,
        "task": "embedded",
        "data": {"generator": 1},
        "weights": "w",
        "model": "tiny",
        "dtype": "float32",
        "window": window,
        "seed": seed,
        "limit": None,
        **more,
    }
    place = store.cell(identity)
    place.append(samples)
    place.finish({"overhead": OVERHEAD})


def test_accuracy_lift_and_cost_by_hand(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    cell(store, "closed-book", 0, [sample(number, number == 0) for number in range(8)])
    cell(store, None, 0, [sample(number, number < 6, evidence=number % 2) for number in range(8)])
    table = summary_table([tmp_path / "run"])
    keys = [column.key for column in table.columns]
    closed, method = (dict(zip(keys, row, strict=True)) for row in table.rows)
    assert closed["method"].value == "vanilla [closed-book]"
    assert closed["accuracy"].value == 1 / 8
    assert (method["accuracy"].value, method["accuracy"].n) == (6 / 8, 8)
    assert method["lift"].value == 5 / 8
    assert method["evidence_recall"].value == 0.5
    assert closed["evidence_recall"].value is None
    assert (method["added_parameters"].value, method["added_percent"].value) == (25, 0.025)
    assert method["memory_bytes"].value == 128
    assert method["write_seconds"].value == 2.0
    assert "8 questions on 4 contexts; window 0 tokens; seeds 0; backbone tiny (float32)." in table.caption


def test_what_did_not_end_well_counts_as_wrong_and_is_shown(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    statuses = ["ok", "failed", "oom", "failed"]
    cell(store, None, 0, [sample(number, True, status) for number, status in enumerate(statuses)])
    (row,) = summary_table([tmp_path / "run"]).rows
    assert row[3].value == 0.25
    assert row[-1].value == "2 failed, 1 oom"
    assert row[4].value is None  # no closed-book partner, no lift


def test_the_same_questions_of_two_seeds_are_pooled(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    cell(store, None, 0, [sample(number, True) for number in range(4)], seed=0)
    cell(store, None, 0, [sample(number, False) for number in range(4)], seed=1)
    table = summary_table([tmp_path / "run"])
    assert table.rows[0][3].value == 0.5
    assert table.rows[0][3].n == 8
    assert "8 questions on 4 contexts; window 0 tokens; seeds 0, 1" in table.caption


def test_a_run_without_a_finished_cell_is_refused(tmp_path: Path) -> None:
    RunStore.open(tmp_path / "run", {}, {})
    with pytest.raises(UserError, match="no finished cell"):
        summary_table([tmp_path / "run"])


def test_breakdowns_group_by_size_and_differences_pair_the_same_questions(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})

    def of(right: set[int]) -> list[Sample]:
        lengths = (64, 64, 64, 64, 256, 256, 1024, 1024)
        return [
            sample(number, number in right, extras={"context_tokens": length})
            for number, length in enumerate(lengths)
        ]

    cell(store, None, 64, of({0, 1, 4}), method="vanilla")
    cell(store, None, 64, of({0, 4, 5, 6}))
    cell(store, None, 16, of({7}))
    table = summary_table([tmp_path / "run"], ("window_share",))
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
    found = [
        (row["method"].value, row["window"].value, row["window_share"].value, row["over_vanilla"].value)
        for row in rows
    ]
    assert found == [
        ("token-write", "16", "0.015625", None),
        ("token-write", "16", "0.0625", None),
        ("token-write", "16", "0.25", None),
        ("token-write", "64", "0.0625", 0.5),
        ("token-write", "64", "0.25", 0.5),
        ("token-write", "64", "1", -0.25),
        ("vanilla", "64", "0.0625", None),
        ("vanilla", "64", "0.25", None),
        ("vanilla", "64", "1", None),
    ]
    with pytest.raises(UserError, match="no breakdown 'kind'"):
        summary_table([tmp_path / "run"], ("kind",))


def test_a_cell_in_two_runs_counts_once_and_must_agree(tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 4), ("c", 2)):
        store = RunStore.open(tmp_path / name, {"of": name}, {})
        cell(store, "closed-book", 0, [sample(number, False) for number in range(count)])
    (row,) = summary_table([tmp_path / "a", tmp_path / "b"]).rows
    assert row[3].n == 4
    with pytest.raises(UserError, match="unlike a run before it"):
        summary_table([tmp_path / "a", tmp_path / "c"])


def test_settings_of_one_method_stand_apart_and_pair_with_their_own_backbone(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    for weights, right in (("w", 2), ("x", 5)):
        cell(
            store, "closed-book", 0, [sample(number, number < right) for number in range(8)], weights=weights
        )
    for weights, top_k, right in (("w", 1, 4), ("w", 5, 6), ("x", 5, 7)):
        cell(
            store,
            None,
            0,
            [sample(number, number < right) for number in range(8)],
            method="bm25-rag",
            weights=weights,
            options={"top_k": top_k, "words": "split"},
        )
    table = summary_table([tmp_path / "run"])
    keys = [column.key for column in table.columns]
    lifts = {row[0].value: row[keys.index("lift")].value for row in table.rows if "bm25" in str(row[0].value)}
    assert lifts == {
        "bm25-rag (weights=w, top_k=1)": 2 / 8,
        "bm25-rag (weights=w, top_k=5)": 4 / 8,
        "bm25-rag (weights=x, top_k=5)": 2 / 8,
    }


def test_p_values_are_adjusted_over_the_table(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    count = 12  # six contexts of two questions
    cell(store, None, 0, [sample(number, False) for number in range(count)], method="vanilla")
    cell(store, None, 0, [sample(number, True) for number in range(count)], method="bm25-rag")
    cell(store, None, 0, [sample(number, number == 0) for number in range(count)], method="token-write")
    table = summary_table([tmp_path / "run"])
    keys = [column.key for column in table.columns]
    found = {row[0].value: row[keys.index("p_vanilla")].value for row in table.rows}
    # Six contexts all better: two of 64 sign patterns; one better and five equal: every pattern.
    assert found == {"vanilla": None, "bm25-rag": pytest.approx(2 * 2 / 64), "token-write": 1.0}


def test_the_matrix_turns_the_table_and_marks_what_differs(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    count = 24  # twelve contexts of two questions
    cell(store, None, 0, [sample(number, False) for number in range(count)], method="vanilla")
    cell(store, None, 0, [sample(number, True) for number in range(count)], method="bm25-rag")
    cell(store, None, 64, [sample(number, True) for number in range(count)], method="bm25-rag")
    table = matrix_table([tmp_path / "run"])
    assert [column.key for column in table.columns] == ["method", "window", "accurate-retrieval"]
    assert [[cell.value for cell in row] for row in table.rows] == [
        ["bm25-rag", "0", 1.0],
        ["vanilla", "0", 0.0],
        ["bm25-rag", "64", 1.0],
    ]
    assert [row[2].mark for row in table.rows] == ["▲", "", ""]
    assert (table.rows[0][2].low, table.rows[0][2].high, table.rows[0][2].n) == (1.0, 1.0, count)


def test_a_row_without_a_difference_takes_no_share_of_the_error(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    count = 12
    for method, right in (("vanilla", 0), ("bm25-rag", count), ("token-write", 0)):
        cell(store, None, 0, [sample(number, number < right) for number in range(count)], method=method)
    table = summary_table([tmp_path / "run"])
    place = [column.key for column in table.columns].index("p_vanilla")
    assert {row[0].value: row[place].value for row in table.rows} == {
        "vanilla": None,
        "bm25-rag": pytest.approx(2 / 64),
        "token-write": 1.0,
    }
    assert "rows in which anything differs" in table.footnotes[0]
    assert "below 1 in 10,001" in table.footnotes[0]


def test_failed_answers_cost_nothing_that_counts(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    nothing = {"prompt_tokens": 0, "write_seconds": 0.0, "answer_seconds": 0.0, "memory_bytes": {}}
    samples = [sample(number, True) for number in range(4)]
    samples[1] = samples[1].model_copy(update={"status": "oom", **nothing})
    samples[3] = samples[3].model_copy(update={"memory_bytes": {"state": 28}})
    cell(store, None, 0, samples)
    failed = [one.model_copy(update={"status": "timeout", **nothing}) for one in samples]
    cell(store, None, 0, failed, method="bm25-rag")
    rows = costs_of(tmp_path / "run")
    assert rows["token-write"] == (128, 10, 2.0, 0.5)  # a context's memory is the most of any question
    assert rows["bm25-rag"] == (None, None, None, None)


def costs_of(run: Path) -> dict[object, tuple[object, ...]]:
    table = summary_table([run])
    keys = [column.key for column in table.columns]
    costs = ("memory_bytes", "prompt_tokens", "write_seconds", "answer_seconds")
    return {row[0].value: tuple(row[keys.index(key)].value for key in costs) for row in table.rows}


@pytest.mark.parametrize(
    ("source", "wanted"), [("icl_banking77", 0.5), ("eventqa_full", 0.5), ("ruler_qa1", 1.0), ("locomo", 1.0)]
)
def test_a_failed_answer_is_no_flexible_match(tmp_path: Path, source: str, wanted: float) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    samples = [sample(0, True), sample(1, False, "failed")]
    for one in samples:
        one.source = source
    samples[0].metrics["flexible_exact_match"] = 1.0
    cell(store, None, 0, samples)
    table = summary_table([tmp_path / "run"])
    place = [column.key for column in table.columns].index("flexible")
    assert table.rows[0][place].value == wanted


def test_golds_that_do_not_fit_the_answer_are_shown_where_there_are_any(tmp_path: Path) -> None:
    def shares(name: str, fits: dict[int, float], **more: object) -> list[object] | None:
        store = RunStore.open(tmp_path / name, {}, {})
        samples = [
            sample(number, True, extras={"gold_fits": fits[number]} if number in fits else {})
            for number in range(4)
        ]
        cell(store, None, 0, samples)
        cell(store, None, 0, [sample(number, True, **more) for number in range(4)], method="bm25-rag")
        table = summary_table([tmp_path / name])
        keys = [column.key for column in table.columns]
        assert all(len(row) == len(keys) for row in table.rows)
        return [row[keys.index("gold_fits")].value for row in table.rows] if "gold_fits" in keys else None

    assert shares("stored-before", {}) is None
    assert shares("all-fit", dict.fromkeys(range(4), 1.0)) is None
    assert shares("one-does-not", {0: 1.0, 1: 1.0, 2: 0.0, 3: 1.0}) == [None, 0.75]
    assert shares("one-of-two", {0: 0.0, 1: 1.0}, extras={"gold_fits": 1.0}) == [1.0, 0.5]


def test_the_share_of_the_context_that_prompts_showed(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    lengths = ((30, 60), (40, 40), (21, 20), (0, 10))  # the third with a heading of the method's own
    found = [
        sample(number, True, context_tokens=shown, written_tokens=whole)
        for number, (shown, whole) in enumerate(lengths)
    ]
    late = sample(4, False, "timeout", context_tokens=0, written_tokens=60)
    cell(store, None, 64, [*found, late], method="bm25-rag")
    nothing = [sample(number, True, written_tokens=60) for number in range(4)]
    cell(store, "closed-book", 0, nothing)
    before = [sample(number, True, context_tokens=30) for number in range(4)]
    cell(store, None, 64, before, method="vanilla")
    table = summary_table([tmp_path / "run"])
    place = [column.key for column in table.columns].index("context_shown")
    shares = {row[0].value: (row[place].value, row[place].n) for row in table.rows}
    assert shares["bm25-rag"] == ((0.5 + 1.0 + 1.0 + 0.0) / 4, 4)
    assert shares["vanilla [closed-book]"] == shares["vanilla"] == (None, 0)


def test_the_sources_with_a_flexible_match_are_the_benchmark_s() -> None:
    found = [source.family for source in SOURCES if flexible(source.prefix, "", ()) is not None]
    assert sorted(found) == sorted(FLEXIBLE)
