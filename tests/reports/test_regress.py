"""A run against a baseline: what is an alarm and what is none, what was not checked, baselines and rules."""

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.cli.main import entry
from deltamem_eval.errors import UserError
from deltamem_eval.reports.regress.baseline import read_baseline, samples_file, update
from deltamem_eval.reports.regress.rules import DEFAULTS, Rule, Rules, read_rules
from deltamem_eval.reports.regress.verdicts import RowVerdict, Verdicts, judge
from deltamem_eval.reports.render.plain import to_csv
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.store import Sample

from grids import halves, make_run
from shared import ROOT

STATISTICAL = Rules(rule=[Rule(metric="accuracy", kind="statistical", least=0.01)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two seeds, `base`, and its table with the samples beside it."""
    place = tmp_path_factory.mktemp("made")
    update(place / "base.csv", [make_run(place / "base", halves, seeds=(0, 1))])
    return place


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    """A tracked table of two seeds, of one's own."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "base.csv"


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """The command line in this process; gives the exit code and all it printed."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["deltamem-eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            entry()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out + told.err

    return call


def forgets(method: str, category: str, number: int) -> float:
    """As `halves`, but token-write gets every second of its right answers wrong in one category."""
    worse = method == "token-write" and category == "selective-forgetting" and number % 4 == 0
    return 0.0 if worse else halves(method, category, number)


def found_of(table: Path, folder: Path, rules: Rules = DEFAULTS, **more: Any) -> Verdicts:
    return judge(read_baseline(table), [folder], rules, **more)


def failed(found: Verdicts) -> list[tuple[str, ...]]:
    return [row.key for row in found.failed]


def row_of(found: Verdicts, method: str, category: str) -> RowVerdict:
    return next(row for row in found.rows if row.key == (method, "64", category))


def shuffled(samples: list[Sample]) -> list[Sample]:
    return random.Random(3).sample(samples, len(samples))


def test_a_run_again_never_alarms_whatever_the_seed_and_order(base: Path, tmp_path: Path) -> None:
    again = make_run(
        tmp_path / "again", halves, seeds=(1, 0), methods=("token-write", "vanilla"), arrange=shuffled
    )
    for seed in range(10):
        found = found_of(base, again, seed=seed)
        assert failed(found) == []
        assert [row.verdict for row in found.rows] == ["holds"] * 4
        assert all(row.difference.p.value == 1.0 for row in found.rows if row.difference is not None)


def test_a_loss_is_caught_and_named(base: Path, tmp_path: Path) -> None:
    found = found_of(base, make_run(tmp_path / "worse", forgets, seeds=(0, 1)))
    assert failed(found) == [("token-write", "64", "selective-forgetting")]
    (row,) = found.failed
    assert (row.before, row.after) == (0.5, 0.25)
    assert row.breaches == (
        "accuracy 50.0 % → 25.0 %, p <0.001 by sign flip, Holm",
        "accuracy 50.0 % → 25.0 %, more than 3 points worse",
    )
    assert found.rows[0] is row
    assert found.summary == "1 of 4 rows regressed, 0 vanished, 0 new"
    assert found.notes == ("The baseline was made with commit unknown, unknown device.",)
    assert row.difference is not None
    assert (row.difference.lost, row.difference.won) == (18, 0)


def test_noise_as_often_up_as_down_is_no_significant_loss(base: Path, tmp_path: Path) -> None:
    for seed in range(10):
        noise = random.Random(seed)

        def flickers(method: str, category: str, number: int, noise: random.Random = noise) -> float:
            right = halves(method, category, number)
            return 1.0 - right if noise.random() < 0.05 else right

        found = found_of(base, make_run(tmp_path / str(seed), flickers, seeds=(0, 1)), STATISTICAL)
        assert any(row.difference is not None and row.difference.flips for row in found.rows)
        assert failed(found) == []


def test_a_gain_is_told_and_no_alarm(base: Path, tmp_path: Path) -> None:
    found = found_of(base, make_run(tmp_path / "better", lambda *_: 1.0, seeds=(0, 1)))
    assert {row.verdict for row in found.rows} == {"better"}


def _with(**fields: Any) -> Callable[[Sample], Sample]:
    """Fields of one question of token-write."""

    def change(sample: Sample) -> Sample:
        hit = sample.query == "accurate-retrieval/1/3/q1" and "token-write" in sample.answer
        return sample.model_copy(update=fields) if hit else sample

    return change


def _more_memory(sample: Sample) -> Sample:
    return sample.model_copy(update={"memory_bytes": {"state": 1011}})


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"added": 26}, "added_parameters 25 → 26"),
        ({"change": _more_memory}, "memory_bytes 1000 B → 1011 B, more than 1 % worse"),
        ({"change": _with(prompt_hash="x")}, "prompts changed on 1 of 24 contexts"),
        ({"change": _with(prompt_tokens=40)}, "prompt_tokens 21 → 21.3, more than 1 % worse"),
        ({"change": _with(status="oom")}, "not_ok 0 → 1, more than 0 worse"),
    ],
)
def test_cost_prompts_and_failures_are_gated(
    base: Path, tmp_path: Path, other: dict[str, Any], told: str
) -> None:
    found = found_of(base, make_run(tmp_path / "dearer", halves, seeds=(0, 1), **other))
    assert told in row_of(found, "token-write", "accurate-retrieval").breaches


def test_less_memory_is_no_alarm(base: Path, tmp_path: Path) -> None:
    less = make_run(
        tmp_path / "less",
        halves,
        seeds=(0, 1),
        change=lambda sample: sample.model_copy(update={"memory_bytes": {"state": 10}}),
    )
    assert failed(found_of(base, less)) == []


def test_seconds_are_held_to_the_table_where_a_rule_asks(base: Path, tmp_path: Path) -> None:
    slow = make_run(
        tmp_path / "slow",
        halves,
        seeds=(0, 1),
        change=lambda sample: sample.model_copy(update={"answer_seconds": 0.2}),
    )
    assert failed(found_of(base, slow)) == []
    rules = Rules(rule=[Rule(metric="answer_seconds", kind="relative", limit=0.5)])
    assert len(failed(found_of(base, slow, rules))) == 4


def test_vanished_rows_fail_and_new_ones_are_shown(base: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", halves, seeds=(0, 1), methods=("vanilla", "bm25-rag"))
    found = found_of(base, other)
    assert [row.verdict for row in found.rows] == ["vanished", "vanished", "holds", "holds", "new", "new"]
    assert failed(found) == [
        ("token-write", "64", "accurate-retrieval"),
        ("token-write", "64", "selective-forgetting"),
    ]
    part = found_of(base, other, subset=True)
    assert failed(part) == []
    assert "Not checked (--subset), the run lacks them: token-write, window 64." in part.notes


def test_a_run_of_one_seed_is_gated_by_that_seed_s_samples(base: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", forgets, seeds=(1,))
    with pytest.raises(UserError, match=r"seed \(0, 1 in the baseline, 1 in the run\): --subset"):
        found_of(base, folder)
    found = found_of(base, folder, subset=True)
    assert failed(found) == [("token-write", "64", "selective-forgetting")]
    assert row_of(found, "token-write", "selective-forgetting").difference.n == (36, 36)  # type: ignore[union-attr]
    assert "Not checked (--subset): seed 0." in found.notes


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"data": {"generator": 2}}, r"data.generator \(1 in the baseline, 2 in the run\)"),
        ({"prompts": 2}, r"prompts \(1 in the baseline, 2 in the run\)"),
        ({"task": "rows"}, r"task \(embedded in the baseline, rows in the run\)"),
        ({"seeds": (0, 7)}, r"seed \(0, 1 in the baseline, 0, 7 in the run\)$"),
        ({"contexts": 11}, r"questions \(6 of 72 only in the baseline\)"),
        ({"change": _with(target_hash="x")}, r"target_hash \(1 of 72 questions\)"),
        ({"windows": (0,)}, "no row in common"),
        ({"finish": False}, "Partial: other lacks 1 cell.*--subset"),
    ],
)
def test_a_baseline_of_other_questions_is_refused(
    base: Path, tmp_path: Path, other: dict[str, Any], told: str
) -> None:
    folder = make_run(tmp_path / "other", halves, **{"seeds": (0, 1), **other})
    with pytest.raises(UserError, match=told):
        found_of(base, folder)


def test_a_run_in_progress_is_gated_in_part_and_named(base: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "part", halves, methods=("vanilla", "token-write"), finish=False)
    found = found_of(base, folder, subset=True)
    assert failed(found) == []
    assert any("Partial: part lacks 1 cell: token-write" in note for note in found.notes)


def test_other_settings_are_told(base: Path, tmp_path: Path) -> None:
    found = found_of(base, make_run(tmp_path / "new", halves, seeds=(0, 1), adapter="abc"))
    assert failed(found) == []
    assert "token-write, vanilla: other adapter (None in the baseline, abc in the run)." in found.notes


def test_controls_are_shown_and_only_some_gated(tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", halves, methods=("token-write",), control="wrong-memory")
    worse = make_run(tmp_path / "worse", forgets, methods=("token-write",), control="wrong-memory")
    assert {row.verdict for row in found_of(base, worse, subset=True).rows} == {"not gated"}
    rules = DEFAULTS.model_copy(update={"controls": ["wrong-memory"]})
    assert failed(found_of(base, worse, rules, subset=True)) == [
        ("token-write [wrong-memory]", "64", "selective-forgetting")
    ]


def test_without_samples_the_intervals_are_compared_and_it_is_said(base: Path, tmp_path: Path) -> None:
    samples_file(base).unlink()
    same, worse = (
        make_run(tmp_path / name, score, seeds=(0, 1)) for name, score in (("a", halves), ("b", forgets))
    )
    for seed in range(10):
        assert failed(found_of(base, same, seed=seed)) == []
    found = found_of(base, worse, STATISTICAL)
    assert failed(found) == [("token-write", "64", "selective-forgetting")]
    assert "by z from intervals" in found.failed[0].breaches[0]
    assert any("unpaired" in note and "which flipped is not known" in note for note in found.notes)
    one = make_run(tmp_path / "one", forgets, seeds=(1,))
    with pytest.raises(UserError, match=r"has 72 questions in .* and 36 in the run"):
        found_of(base, one)
    # Maybe other questions, as many or not: a fall of three points may be theirs.
    rules = Rules(rule=[Rule(metric="accuracy", kind="absolute", limit=0.03)])
    assert failed(found_of(base, one, rules, subset=True)) == []
    assert failed(found_of(base, worse, rules)) == []
    assert any("only the statistical rule" in note for note in found.notes)


def test_a_run_s_folder_is_a_baseline_too(tmp_path: Path) -> None:
    before, after = make_run(tmp_path / "before", halves), make_run(tmp_path / "after", forgets)
    found = judge(read_baseline(before, ("source",)), [after], DEFAULTS)
    assert failed(found) == [("token-write", "64", "source of selective-forgetting")]
    with pytest.raises(UserError, match="is a folder"):
        update(before, [after])


def test_the_baseline_is_the_report_s_table_and_the_same_bytes_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", halves, seeds=(0, 1))
    table, samples = update(tmp_path / "first.csv", [folder])
    assert table.read_text() == to_csv(summary_table([folder]))
    again = make_run(tmp_path / "again", halves, seeds=(0, 1), arrange=shuffled)
    _, twice = update(tmp_path / "second.csv", [again])
    head, *body = samples.read_text().splitlines()
    assert body == twice.read_text().splitlines()[1:]
    assert json.loads(head)["runs"][0]["request"]["seeds"] == [0, 1]


def test_a_breakdown_by_what_samples_carry_survives_the_file(tmp_path: Path) -> None:
    def sized(sample: Sample) -> Sample:
        return sample.model_copy(update={"extras": {"context_tokens": 32 if "/q0" in sample.query else 256}})

    folder = make_run(tmp_path / "run", halves, change=sized)
    table, _ = update(tmp_path / "t.csv", [folder], ("window_share",))
    found = found_of(table, folder)
    assert {row.key[2] for row in found.rows} == {"2", "0.25"}
    assert failed(found) == []
    with pytest.raises(UserError, match="broken down by window_share, not by source"):
        read_baseline(table, ("source",))


def test_update_loses_no_row_and_takes_no_part_of_a_run(base: Path, tmp_path: Path) -> None:
    before = base.read_bytes(), samples_file(base).read_bytes()
    with pytest.raises(UserError, match=r"2 rows of .* would be lost"):
        update(base, [make_run(tmp_path / "fewer", halves, methods=("vanilla",))])
    with pytest.raises(UserError, match="made of whole runs"):
        update(base, [make_run(tmp_path / "part", halves, finish=False)])
    with pytest.raises(UserError, match="lacks 6 questions of seed 0"):
        update(
            base,
            [
                make_run(tmp_path / "v", halves, methods=("vanilla",)),
                make_run(tmp_path / "t", halves, methods=("token-write",), contexts=11),
            ],
        )
    assert (base.read_bytes(), samples_file(base).read_bytes()) == before


def _swap(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda base: base.unlink(), "no such baseline"),
        (lambda base: base.write_text("a,b\n1,2\n"), "no table of `report --format csv`"),
        (lambda base: base.write_text(""), "no table of `report --format csv`"),
        (lambda base: base.write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda base: _swap(base, ",0.5,", ",nan,"), "line 2: accuracy is no number: 'nan'"),
        (lambda base: _swap(base, ",0.5,", ",0.25,"), "not of the same runs"),
        (
            lambda base: base.write_text(base.read_text() + base.read_text().splitlines()[1] + "\n"),
            "a second line",
        ),
        (lambda base: base.write_text(base.read_text().rpartition(",")[0]), "line 5: not as many cells"),
        (lambda base: samples_file(base).write_text(""), "is empty"),
        (lambda base: samples_file(base).write_text("{}\n"), "is damaged: by Field required"),
        (
            lambda base: _swap(samples_file(base), '"schema_version":1}\n', '"schema_version":9}\n'),
            "version 9, newer",
        ),
        (lambda base: _swap(samples_file(base), '"scores":[[', '"scores":[[1,'), "do not fit"),
    ],
)
def test_spoilt_baselines_are_one_line_and_exit_code_2(
    base: Path, tmp_path: Path, run: Callable[..., tuple[int, str]], spoil: Callable[[Path], Any], told: str
) -> None:
    spoil(base)
    code, text = run("regress", base, tmp_path / "base")
    assert (code, text.count("\n")) == (2, 1), text
    assert told in text


def test_rules_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(
        'controls = []\n[[rule]]\nmetric = "accuracy"\nkind = "statistical"\nalpha = 0.05\n'
        '[[rule]]\nmetric = "memory_bytes"\nkind = "relative"\nlimit = 0.2\n'
    )
    found = read_rules(file)
    assert [(rule.metric, rule.kind) for rule in found.rule] == [
        ("accuracy", "statistical"),
        ("memory_bytes", "relative"),
    ]
    assert (found.rule[0].alpha, found.rule[1].limit, found.controls) == (0.05, 0.2, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rule = 3", "rule: Input should be a valid list"),
        ("[[rule]", "is not TOML"),
        ("", "rule: Field required"),
        ("rule = []", "rule: List should have at least 1 item"),
        ('[[rule]]\nmetric = "speed"\nkind = "exact"', "rule.0.metric: Input should be 'accuracy'"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "exact"\nfoo = 1', "rule.0.foo: Extra inputs"),
        ('[[rule]]\nmetric = "memory_bytes"\nkind = "statistical"', "for accuracy alone"),
        ('[[rule]]\nmetric = "prompts"\nkind = "absolute"\nlimit = 1', "an exact one"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "absolute"', "have a limit"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "absolute"\nlimit = -1', "greater than or equal to 0"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "absolute"\nlimit = nan', "finite number"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "absolute"\nlimit = 1\nalpha = 0.1', "belong to statistical"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "absolute"\nlimit = 3', "shares, not points"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "statistical"\nleast = 1', "shares, not points"),
        ('[[rule]]\nmetric = "accuracy"\nkind = "relative"\nlimit = 1', "shares, not points"),
        ('controls = ["none"]\n[[rule]]\nmetric = "accuracy"\nkind = "exact"', "controls.0: Input should be"),
    ],
)
def test_rules_that_cannot_be_are_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=told) as refused:
        read_rules(file)
    assert "\n" not in str(refused.value)


def test_rules_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_rules(tmp_path / "none.toml")


def test_the_tracked_table_is_that_of_its_samples() -> None:
    # read_baseline recomputes every row's accuracy from the samples and refuses a table of other runs.
    found = read_baseline(ROOT / "results" / "embedded.csv")
    assert found.by == ("category",)
    assert set(found.rows) == set(found.lines)
    assert {identity["seed"] for identity in found.identities} == {0, 1, 2}
