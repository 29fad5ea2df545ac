"""The paper's suite: every benchmark of its Table 1, counted before it runs, refused whole if data lack."""

import csv
import json
import random
from pathlib import Path

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UnavailableError, UserError
from deltamem_eval.store import read_cells
from deltamem_eval.suites import SUITES, check_options, options_of
from typer.testing import CliRunner, Result

from shared import ROOT

pytest.importorskip("lm_eval")

from deltamem_eval.tasks.lm_eval_tasks import task as module
from deltamem_eval.tasks.lm_eval_tasks.task import LmEvalTask

DOCS = """
import random
from datasets import Dataset

AWAY = False


def _rows(rows):
    return {"test": Dataset.from_list(rows)}


def ifeval(**_):
    return _rows([{"prompt": f"Write on theme {number}.\\n\\nUse no commas."} for number in range(3)])


def gpqa(**_):
    rows = []
    for number in range(2):
        choices = list("abcdefgh")
        random.shuffle(choices)
        rows.append({"text": f"Question {number}:\\n\\n{' '.join(choices)}", "answer": "(B)"})
    return _rows(rows)


def away(**_):
    raise ConnectionError("the hub is far.\\nVery far.")


def bare(**_):
    import no_such_module_here


def commas(doc, results):
    return {"strict": "," not in results[0], "each": [True]}
"""
TASK = """
task: {name}
custom_dataset: !function docs.{loads}
test_split: test
output_type: generate_until
num_fewshot: 0
generation_kwargs: {{until: ["</s>"], max_gen_toks: 4}}
metadata: {{version: 1}}
"""
IFEVAL = """
doc_to_text: prompt
doc_to_target: 0
process_results: !function docs.commas
metric_list: [{metric: strict, aggregation: mean, higher_is_better: true}]
"""
GPQA = """
doc_to_text: text
doc_to_target: answer
filter_list:
  - name: strict-match
    filter: [{function: regex, regex_pattern: "The answer is (.*)"}, {function: take_first}]
  - name: flexible-extract
    filter: [{function: regex, group_select: -1, regex_pattern: "(\\\\([A-Z]\\\\))"}, {function: take_first}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
IFEVAL_NAME, GPQA_NAME = "ifeval", "gpqa_diamond_cot_zeroshot"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where lm-eval's two tasks are ours, and the other benchmarks' files hold one question each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_RESOURCES", {})
    write_tasks(tmp_path / "tasks", "ifeval", "gpqa")
    (tmp_path / "mab").mkdir()
    for split, source in (
        ("Accurate_Retrieval", "eventqa_full"),
        ("Test_Time_Learning", "icl_x"),
        ("Long_Range_Understanding", "factconsolidation_sh_6k"),  # any source may stand in a split's file
        ("Conflict_Resolution", "factconsolidation_sh_6k"),
    ):
        row = {
            "context": f"0. {split} is x.",
            "questions": ["?"],
            "answers": [["x"]],
            "metadata": {"source": source},
        }
        (tmp_path / "mab" / f"{split}.json").write_text(json.dumps([row]))
    hotpot = {
        "_id": "h",
        "question": "?",
        "answer": "x",
        "context": [["T", ["x."]]],
        "supporting_facts": [["T", 0]],
    }
    (tmp_path / "hotpot.json").write_text(json.dumps([hotpot]))
    turn = {"speaker": "A", "dia_id": "D1:1", "text": "x."}
    talk = {
        "speaker_a": "A",
        "speaker_b": "B",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [turn],
    }
    asked = {"question": "?", "answer": "x", "evidence": ["D1:1"], "category": 4}
    (tmp_path / "locomo.json").write_text(
        json.dumps([{"sample_id": "t", "conversation": talk, "qa": [asked]}])
    )
    return tmp_path


def write_tasks(folder: Path, ifeval: str, gpqa: str) -> Path:
    """lm-eval tasks whose documents the named functions load."""
    folder.mkdir(exist_ok=True)
    (folder / "docs.py").write_text(DOCS)
    (folder / "a.yaml").write_text(TASK.format(name=IFEVAL_NAME, loads=ifeval) + IFEVAL)
    (folder / "b.yaml").write_text(TASK.format(name=GPQA_NAME, loads=gpqa) + GPQA)
    return folder


def suite(*more: object, tasks: str = "tasks") -> Result:
    """`run --suite paper` on the files of `place`, but for those that `more` gives."""
    options = {
        "locomo.path": "locomo.json",
        "hotpotqa.path": "hotpot.json",
        "memory-agent-bench.path": "mab",
        "lm-eval.include_path": tasks,
    }
    other = {str(part).partition("=")[0] for part in more}
    pairs = [f"{name}={value}" for name, value in options.items() if name not in other]
    given = [part for pair in pairs for part in ("--task-option", pair)]
    done = CliRunner().invoke(
        app, ["run", "--method", "vanilla", "--suite", "paper", *given, *map(str, more)]
    )
    assert done.exception is None or isinstance(done.exception, UserError), done.exception
    return done


def test_it_covers_table_1() -> None:
    with (ROOT / "results" / "paper.csv").open() as stream:
        measures = {row["measure"].split("_")[0] for row in csv.DictReader(stream)} - {"avg"}
    wanted = {"ifeval", "hotpotqa", "gpqa", "mab", "locomo"}
    assert wanted <= measures
    names = {"memory-agent-bench": "mab", f"lm-eval:{IFEVAL_NAME}": "ifeval", f"lm-eval:{GPQA_NAME}": "gpqa"}
    assert {names.get(part.task, part.task) for part in SUITES["paper"].parts} == wanted


def test_a_whole_suite_runs_and_each_task_has_its_folder(place: Path) -> None:
    short = ("--task-option", "lm-eval.max_new_tokens=4")  # the tiny backbone has no room for the suite's
    done = suite(*short, "--no-controls", "--quiet", "--json", "--out", "out")
    assert done.exit_code == 0, done.output
    folders = {path.name for path in (place / "out").iterdir()}
    assert folders == {"lm-eval-ifeval", f"lm-eval-{GPQA_NAME}", "hotpotqa", "memory-agent-bench", "locomo"}
    ((record, samples),) = read_cells(place / "out" / "lm-eval-ifeval")
    assert (record.identity["data"]["split"], "filter" in record.identity["data"]) == ("none", False)
    assert len({sample.cluster for sample in samples}) == len(samples) == 3  # no context is shared
    assert {sample.context_tokens for sample in samples} == {0}
    ((record, _),) = read_cells(place / "out" / f"lm-eval-{GPQA_NAME}")
    data = record.identity["data"]
    assert (data["filter"], data["max_new_tokens"]) == ("flexible-extract", 4)
    ((record, _),) = read_cells(place / "out" / "memory-agent-bench")
    assert record.identity["data"]["protocol"] == "delta-mem-release"
    records = [record for folder in (place / "out").iterdir() for record, _ in read_cells(folder)]
    assert {record.identity["window"] for record in records} == {120_000}


def test_answers_may_be_as_long_as_in_the_release(place: Path) -> None:
    for part in SUITES["paper"].parts:
        if part.kind == "lm-eval":
            task = LmEvalTask(part.task.partition(":")[2], "tasks", **part.options)
            queries = [query for episode in task.episodes(0, None) for query in episode.queries]
            wanted = {IFEVAL_NAME: 1500, GPQA_NAME: 8192}[queries[0].metadata["source"]]
            assert {query.max_new_tokens for query in queries} == {wanted}
            assert task.identity()["max_new_tokens"] == wanted


def tables(done: Result) -> list[dict]:
    """The tables of a dry run, one a task."""
    found, decoder, text = [], json.JSONDecoder(), done.stdout
    while text.strip():
        table, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        found.append(table)
    return found


def counts(done: Result) -> dict[str, list[object]]:
    """Cells, contexts and questions of each task's last row, and its footnotes."""
    found = {}
    for table in tables(done):
        row = table["rows"][-1]
        found[row["task"]["value"]] = [
            *(row[key]["value"] for key in ("cells", "contexts", "questions", "read", "hours")),
            table["footnotes"],
        ]
    return found


def test_the_paper_s_settings_hold_unless_others_are_given(place: Path) -> None:
    made = tables(suite("--dry-run", "--json"))
    assert {row["window"]["value"] for table in made for row in table["rows"]} == {
        "120000",
        "0",  # closed-book
        "all that fits",  # full-context
        "",  # the sum
    }
    told = {table["rows"][0]["task"]["value"]: table["footnotes"][-1] for table in made}
    assert "protocol=delta-mem-release" in told["memory-agent-bench"]
    assert "max_new_tokens=8192" in told[f"lm-eval:{GPQA_NAME}"]
    assert told["locomo"] == "Task options: categories=1,2,3,4, context=whole, path=locomo.json."
    options = ("locomo.categories=4", "memory-agent-bench.protocol=isolated")
    given = [part for option in options for part in ("--task-option", option)]
    own = tables(suite("--dry-run", "--json", "--window", 64, *given))
    windows = {row["window"]["value"] for table in own for row in table["rows"]}
    assert "64" in windows
    assert "120000" not in windows
    told = {table["rows"][0]["task"]["value"]: table["footnotes"][-1] for table in own}
    assert "protocol=isolated" in told["memory-agent-bench"]
    assert "categories=4," in told["locomo"]


def test_a_window_in_a_file_goes_before_the_suite_s(place: Path) -> None:
    (place / "run.toml").write_text("window = 32\n")
    made = tables(suite("--dry-run", "--json", "--config", "run.toml"))
    windows = {row["window"]["value"] for table in made for row in table["rows"]}
    assert "32" in windows
    assert "120000" not in windows


def test_a_dry_run_lists_everything_and_invents_nothing(place: Path) -> None:
    known = counts(suite("--dry-run", "--json"))
    assert [known[f"lm-eval:{name}"][:3] for name in (IFEVAL_NAME, GPQA_NAME)] == [[4, 4, 12], [4, 4, 8]]
    write_tasks(place / "far", "away", "bare")
    done = suite("--dry-run", "--json", tasks="far")
    assert done.exit_code == 0
    found = counts(done)
    assert set(found) == set(known)
    cells, *others, notes = found[f"lm-eval:{IFEVAL_NAME}"]
    assert (cells, others) == (4, ["unknown"] * 4)
    assert notes[0].startswith(
        "Unknown: lm-eval task ifeval cannot be loaded: ConnectionError: the hub is far; its"
    )
    cells, *others, notes = found[f"lm-eval:{GPQA_NAME}"]
    assert (cells, others) == (4, ["unknown"] * 4)
    assert "needs the module no_such_module_here: pip install no_such_module_here." in notes[0]
    assert found["locomo"] == known["locomo"]
    assert sorted(path.name for path in place.iterdir()) == [
        "far",
        "hotpot.json",
        "locomo.json",
        "mab",
        "tasks",
    ]
    unnamed = counts(suite("--dry-run", "--json", "--task-option", "hotpotqa.path="))
    assert unnamed["hotpotqa"][:5] == [4, "unknown", "unknown", "unknown", "unknown"]
    assert "give --task-option path=hotpot_dev_distractor_v1.json" in unnamed["hotpotqa"][5][0]


def test_rows_that_are_only_online_are_unknown_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def absent(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", absent)
    found = counts(suite("--dry-run", "--json", "--task-option", "memory-agent-bench.path="))
    cells, *others, notes = found["memory-agent-bench"]
    assert (cells, others) == (4, ["unknown"] * 4)
    assert "go online once" in notes[0]
    done = suite("--task-option", "memory-agent-bench.path=", "--out", "out")
    assert isinstance(done.exception, UnavailableError)
    assert not (place / "out").exists()


def test_a_run_is_refused_whole_before_its_first_task(place: Path) -> None:
    write_tasks(place / "far", "ifeval", "away")
    done = suite("--out", "out", tasks="far")
    assert isinstance(done.exception, UnavailableError)
    assert f"lm-eval task {GPQA_NAME} cannot be loaded" in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (place / "out").exists()
    assert isinstance(suite("--dry-run", "--task-option", "hotpotqa.path=none.json").exception, UserError)


def test_a_filter_and_the_uncut_request_are_options(place: Path) -> None:
    plain = LmEvalTask(GPQA_NAME, "tasks")
    chosen = LmEvalTask(GPQA_NAME, "tasks", split="none", filter="flexible-extract")
    (asked,) = chosen.episodes(0, None)
    assert (asked.context, len(asked.chunks), len(asked.queries)) == ("", 0, 2)
    assert asked.queries[0].prompt.startswith("Question 0:\n\n")
    cut = next(plain.episodes(0, None))
    assert cut.context == "Question 0:\n\n"
    reply = "It is (A), no: (B)"
    assert plain.score(cut.queries[0], reply)["accuracy"] == 0.0
    assert chosen.score(asked.queries[0], reply)["accuracy"] == 1.0
    assert {"split", "filter"}.isdisjoint(plain.identity())
    assert chosen.identity() == {**plain.identity(), "split": "none", "filter": "flexible-extract"}
    with pytest.raises(
        UserError, match=r"unknown filter of lm-eval task gpqa.*did you mean flexible-extract"
    ):
        LmEvalTask(GPQA_NAME, "tasks", filter="flexible")
    with pytest.raises(UserError, match="no split rule 'nothing'"):
        LmEvalTask(GPQA_NAME, "tasks", split="nothing")


def test_shuffled_choices_are_the_same_in_every_process(place: Path) -> None:
    prompts = []
    for seed in (1, 2):
        random.seed(seed)
        (asked,) = LmEvalTask(GPQA_NAME, "tasks", split="none").episodes(0, None)
        prompts.append([query.prompt for query in asked.queries])
        state = random.getstate()
        random.seed(seed)
        assert random.getstate() == state  # the task took nothing of the caller's random numbers
    assert prompts[0] == prompts[1]


def test_what_scoring_reads_is_checked_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise LookupError(name)

    monkeypatch.setattr(module, "_RESOURCES", {IFEVAL_NAME: "tokenizers/punkt_tab"})
    monkeypatch.setattr("nltk.data.find", absent)
    with pytest.raises(
        UnavailableError, match=r"needs nltk's punkt_tab: python -m nltk\.downloader punkt_tab"
    ):
        LmEvalTask(IFEVAL_NAME, "tasks")


def test_options_reach_the_parts_they_name() -> None:
    parts = SUITES["paper"].parts
    known = {part.task: {"path": ""} for part in parts} | {
        part.task: {"include_path": "", "filter": ""} for part in parts if part.kind == "lm-eval"
    }
    given = {"lm-eval.include_path": "a", f"lm-eval:{GPQA_NAME}.filter": "strict-match", "locomo.path": "b"}
    check_options(parts, given, known)
    made = {part.task: options_of(part, given, known[part.task]) for part in parts}
    assert made[f"lm-eval:{IFEVAL_NAME}"] == {"split": "none", "max_new_tokens": 1500, "include_path": "a"}
    assert made[f"lm-eval:{GPQA_NAME}"] == {
        "split": "none",
        "filter": "strict-match",
        "max_new_tokens": 8192,
        "include_path": "a",
    }
    assert made["locomo"] == {"categories": "1,2,3,4", "context": "whole", "path": "b"}
    assert made["hotpotqa"] == {}
    with pytest.raises(UserError, match=r"unknown task option 'lm-eval\.filtre'"):
        check_options(parts, {"lm-eval.filtre": "x"}, known)
