"""The command line on a tiny random model: the whole job, bad input, and a run killed in the middle."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval.methods.delta_mem import DeltaMemConfig, attach, detach, save_adapter
from deltamem_eval.trainers import TRAINERS
from tiny import tiny_backbone, tiny_config
from transformers import AutoModelForCausalLM

from stored import stored_samples

ENTRY = [sys.executable, "-m", "deltamem_eval.cli.main"]
ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def cli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*ENTRY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENV, cwd=cwd, check=False)


def rows(count: int = 3, questions: int = 4) -> list[dict]:
    return [
        {
            "context": "".join(f"{n}. fact {n} of {index} is {n * 7 + index}.\n" for n in range(12)),
            "questions": [f"What is fact {n}?" for n in range(questions)],
            "answers": [[str(n * 7 + index)] for n in range(questions)],
            "metadata": {
                "source": "factconsolidation_sh_6k",
                "qa_pair_ids": [f"x{n}" for n in range(questions)],
            },
        }
        for index in range(count)
    ]


def narrow_model() -> Any:
    """The tiny model, but of width 32."""
    config = tiny_config("qwen3", max_position_embeddings=64)
    config.hidden_size = 32
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its adapter, one of a narrower model, and a file of rows."""
    root = tmp_path_factory.mktemp("cli")
    backbone = tiny_backbone(positions=1024)
    backbone.model.save_pretrained(root / "model")
    backbone.tokenizer.save_pretrained(root / "model")
    for name, model in (("adapter", backbone.model), ("narrow", narrow_model())):
        torch.manual_seed(0)
        attach(model, DeltaMemConfig())
        save_adapter(model, root / name)
        detach(model)
    (root / "rows.json").write_text(json.dumps(rows()))
    return root


def job(place: Path, *more: object) -> list[object]:
    base = ["run", "--model", place / "model", "--rows", place / "rows.json", "--adapter", place / "adapter"]
    return [*base, "--window", 40, "--quiet", "--json", *more]


def test_the_whole_job(place: Path, tmp_path: Path) -> None:
    done = cli(
        *job(place, "--method", "vanilla,bm25-rag,token-write", "--out", tmp_path / "run"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    found = {(row["method"]["value"], row["window"]["value"]): row for row in table["rows"]}
    names = ("vanilla", "bm25-rag", "token-write")
    assert set(found) == {
        ("vanilla [closed-book]", "0"),
        ("vanilla [full-context]", "all that fits"),
        *((name, "40") for name in names),
        *((f"{name} [wrong-memory]", "40") for name in names),
    }
    assert all(row["accuracy"]["n"] == 12 and row["not_ok"]["value"] == "0" for row in found.values())
    assert found["vanilla [full-context]", "all that fits"]["evidence_recall"]["value"] == 1.0
    assert found["token-write", "40"]["added_parameters"]["value"] == 3 * (3 * 8 * 48 + 8 * 48 * 2 + 8 * 49)
    assert "12 questions on 3 contexts" in table["caption"]
    averages = {(row["method"]["value"], row["window"]["value"]): row for row in table["averages"]["rows"]}
    assert set(averages) == set(found)
    for name, row in averages.items():  # of one category and one source both are its accuracy
        assert row["macro"]["value"] == row["weighted"]["value"] == found[name]["accuracy"]["value"]
    assert "cut" not in table
    again = cli(
        *job(place, "--method", "vanilla,bm25-rag,token-write", "--out", tmp_path / "run"), cwd=tmp_path
    )
    assert again.stdout == done.stdout


def test_a_killed_run_goes_on_to_the_same_end(place: Path, tmp_path: Path) -> None:
    (tmp_path / "many.json").write_text(json.dumps(rows(count=8, questions=6)))
    arguments = job(
        place, "--method", "vanilla,token-write", "--batch-size", 2, "--rows", tmp_path / "many.json"
    )
    whole = cli(*arguments, "--out", tmp_path / "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    wanted = stored_samples(tmp_path / "whole")
    killed = tmp_path / "killed"
    for share in (0.1, 0.45, 0.8):
        process = subprocess.Popen(
            [*ENTRY, *map(str, arguments), "--out", str(killed)], env=ENV, cwd=tmp_path
        )
        _wait_for(killed, int(share * len(wanted)), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with next(killed.glob("cells/*/samples.jsonl")).open("a") as file:
            file.write('{"episode": "torn')
    done = cli(*arguments, "--out", killed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert stored_samples(killed) == wanted


def _wait_for(run: Path, lines: int, process: subprocess.Popen) -> None:
    for _ in range(3000):
        written = sum(file.read_bytes().count(b"\n") for file in run.glob("cells/*/samples.jsonl"))
        if written >= lines or process.poll() is not None:
            return
        time.sleep(0.01)
    raise AssertionError("the run made no progress")


BAD = {
    "unknown method": (["--method", "token-wrte"], "did you mean token-write"),
    "unknown task": (["--method", "vanilla", "--task", "embeded"], "did you mean embedded"),
    "negative window": (["--method", "vanilla", "--window", "-1"], "--window"),
    "window that is no number": (["--method", "vanilla", "--window", "many"], "whole numbers"),
    "cuda absent": (["--method", "vanilla", "--device", "cuda"], "no CUDA device"),
    "unknown dtype": (["--method", "vanilla", "--dtype", "int3"], "unknown dtype"),
    "misspelt model": (["--method", "vanilla", "--model", "embeded"], "did you mean embedded"),
    "misspelt hub name": (
        ["--method", "vanilla", "--model", "Qwen/Qwen3-4B-Instuct-2507"],
        "(did you mean Qwen/Qwen3-4B-Instruct-2507?)",
    ),
    "hub name without its owner": (
        ["--method", "vanilla", "--model", "SmolLM3-3B"],
        "(did you mean HuggingFaceTB/SmolLM3-3B?)",
    ),
    "misspelt hub name in a dry run": (
        ["--method", "vanilla", "--dry-run", "--model", "qwen3-8b"],
        "(did you mean Qwen/Qwen3-8B?)",
    ),
    "unknown model": (["--method", "vanilla", "--model", "no/such-model"], "(known here: embedded,"),
    "another size": (["--method", "vanilla", "--model", "Qwen/Qwen3-1.7B"], "(known here: embedded,"),
    "adapter for another shape": (
        ["--method", "token-write", "--adapter", "misfit"],
        "model.layers.0.self_attn.memory_q_proj is [8, 32] there, [8, 48] in this model",
    ),
    "adapter with an archived option": (
        ["--method", "token-write", "--adapter", "archived"],
        "archived option",
    ),
    "adapter without weights": (["--method", "token-write", "--adapter", "bare"], "no weights"),
    "corrupt weights": (["--method", "token-write", "--adapter", "corrupt"], "damaged"),
    "missing rows": (["--method", "vanilla", "--rows", "none.json"], "no such file"),
    "row without a column": (["--method", "vanilla", "--rows", "lacking.json"], "row 1: lacks answers"),
    "lists of unequal length": (
        ["--method", "vanilla", "--rows", "unequal.json"],
        "row 0: answers must be as long",
    ),
    "empty context": (["--method", "vanilla", "--rows", "empty.json"], "row 2: context"),
    "question too long": (["--method", "vanilla", "--rows", "long.json"], "positions"),
    "unknown option": (["--method", "bm25-rag", "--option", "topk"], "NAME=VALUE"),
    "option of no method": (["--method", "vanilla", "--option", "top_k=1"], "unknown option of vanilla"),
    "no seed": (["--method", "vanilla", "--seeds", ","], "--seeds names no seed"),
    "batch sizes": (["--method", "vanilla", "--batch-size", "1,2"], "--batch-size takes a whole number"),
    "endless rate": (["--method", "vanilla", "--dry-run", "--tflops", "nan"], "--tflops"),
    "device of another kind": (["--method", "vanilla", "--device", "meta"], "unknown device 'meta'"),
    "model folder that is not there": (["--method", "vanilla", "--model", "/no/model"], "no such folder"),
    "unwritable folder": (["--method", "vanilla", "--out", "file/run"], "cannot write"),
    "folder that is no run": (["--method", "vanilla", "--out", "other"], "is no run"),
}


@pytest.fixture(scope="module")
def bad(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is wrong, each thing in its own file."""
    root = tmp_path_factory.mktemp("bad")
    for name in ("archived", "bare", "corrupt"):
        shutil.copytree(place / "adapter", root / name)
    shutil.copytree(place / "narrow", root / "misfit")
    config = json.loads((place / "adapter" / "delta_mem_config.json").read_text())
    (root / "archived" / "delta_mem_config.json").write_text(json.dumps({**config, "slot_read_top_k": 2}))
    (root / "bare" / "delta_mem_adapter.pt").unlink()
    weights = root / "corrupt" / "delta_mem_adapter.pt"
    weights.write_bytes(weights.read_bytes()[:2000])
    broken = {"lacking": rows(), "unequal": rows(), "empty": rows(), "long": rows()}
    del broken["lacking"][1]["answers"]
    broken["unequal"][0]["answers"].pop()
    broken["empty"][2]["context"] = "  "
    broken["long"][0]["questions"][0] = "why " * 400
    for name, content in broken.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    (root / "file").write_text("")
    (root / "other").mkdir()
    (root / "other" / "note.txt").write_text("mine")
    return root


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(name: str, place: Path, bad: Path) -> None:
    arguments, words = BAD[name]
    before = sorted(str(path) for path in bad.rglob("*"))
    base = job(place)
    if name == "negative window":
        base = [item for item in base if item not in ("--window", 40)]
    if "--adapter" not in arguments:
        base = [item for item in base if item not in ("--adapter", place / "adapter")]
    done = cli(*base, *arguments, cwd=bad)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    assert sorted(str(path) for path in bad.rglob("*")) == before


def test_a_folder_made_by_other_settings_is_refused(place: Path, tmp_path: Path) -> None:
    base = [
        "run",
        "--model",
        place / "model",
        "--rows",
        place / "rows.json",
        "--method",
        "vanilla",
        "--quiet",
    ]
    assert cli(*base, "--window", 8, "--no-controls", "--out", tmp_path / "run", cwd=tmp_path).returncode == 0
    before = contents(tmp_path / "run")
    done = cli(*base, "--window", 9, "--no-controls", "--out", tmp_path / "run", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "(windows differ: windows was [8], is [9]): choose another --out" in done.stderr
    assert contents(tmp_path / "run") == before


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file's bytes."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_without_a_terminal_progress_is_a_plain_line_a_cell(place: Path, tmp_path: Path) -> None:
    arguments = [item for item in job(place, "--method", "vanilla,token-write") if item != "--quiet"]
    done = cli(*arguments, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(letter == "\n" or letter.isprintable() for letter in done.stderr)
    names = ("vanilla", "vanilla [wrong-memory]", "token-write", "token-write [wrong-memory]")
    cells = ["vanilla [closed-book], window 0", "vanilla [full-context], window all"]
    cells += [f"{name}, window 40" for name in names]
    lines = done.stderr.splitlines()
    assert len(lines) == len(cells), done.stderr
    for number, (line, cell) in enumerate(zip(lines, cells, strict=True), 1):
        start = re.escape(f"{number}/6 {cell}, seed 0: 12 questions, ")
        assert re.fullmatch(start + r"\d+\.\d s, written at [\d,]+ tokens/s", line), line


def test_doctor_tells_versions_devices_and_the_embedded_models(tmp_path: Path) -> None:
    done = cli("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert told["python"] == platform.python_version()
    for package in ("deltamem-eval", "torch", "transformers"):
        assert told[package] == version(package)
    assert told["cpu"].startswith("CPU ")
    assert told["cpu"].endswith(f"torch {torch.__version__}")
    assert ("cuda:0" in told) == torch.cuda.is_available()
    assert (told.get("cuda") == "none") != torch.cuda.is_available()
    assert {"backbone", "llmlingua2", *TRAINERS} <= set(told["embedded"].split(", "))
    assert "broken" not in told


@pytest.mark.parametrize("arguments", [["--help"], ["list", "methods"], ["list", "tasks", "--json"]])
def test_help_and_list_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom deltamem_eval.cli.main import app\n"
        f"try: app({arguments!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'scipy', 'numpy'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "BROKEN" not in done.stdout


def test_report_prints_a_run_again_and_refuses_what_is_none(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = cli(*job(place, "--method", "token-write"), "--out", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = cli("report", run, "--by", "source", "--format", "csv", cwd=tmp_path)
    head, *lines = asked.stdout.splitlines()
    assert head.startswith("method,window,source,accuracy")
    assert len(lines) == len({*lines})
    for arguments, words in (
        ((tmp_path / "none",), "no such folder"),
        ((run, "--by", "kind"), "no breakdown"),
        ((run, "--format", "pdf"), "no format"),
    ):
        refused = cli("report", *arguments, cwd=tmp_path)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert words in refused.stderr


@pytest.mark.parametrize(
    ("name", "words"), [("embeded", "did you mean embedded"), ("vanila", "did you mean")]
)
def test_show_guesses_what_was_meant(name: str, words: str, tmp_path: Path) -> None:
    done = cli("show", name, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom deltamem_eval.cli import main\n"
        "@main.app.command()\ndef stop(): raise KeyboardInterrupt\n"
        "sys.argv = ['deltamem-eval', 'stop']\nmain.entry()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "stopped; run, train, profile and judge go on from here when started again"
