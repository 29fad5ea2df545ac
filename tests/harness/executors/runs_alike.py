"""Runs to compare: one in this process, whatever another executor made, and one that was cut off."""

import json
from pathlib import Path
from typing import Any

import torch
from deltamem_eval.display import Display
from deltamem_eval.executors.local import LocalExecutor
from deltamem_eval.session import Request, check

METHODS = ("vanilla", "token-write")


def small(**more: Any) -> Request:
    """Every control and two methods on a context a category."""
    return check(Request(**{"methods": METHODS, "limit": 1, "device": "cpu", "batch_size": 3, **more}))


def run_here(request: Request, out: Path) -> Path:
    """The run as one process makes it, with one thread, as ray's workers have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with LocalExecutor() as executor, Display(6, quiet=True) as display:
            executor.execute(request, out, display)
    finally:
        torch.set_num_threads(threads)
    return out


def ends(run: Path) -> dict[str, dict[str, Any]]:
    """Every cell's end, without its time."""
    files = {file.parent.name: json.loads(file.read_text()) for file in run.glob("cells/*/cell.json")}
    return {name: value | {"finished": ""} for name, value in files.items()}


def prompts(run: Path) -> dict[str, list[tuple[str, str]]]:
    """What every cell keeps of its prompts: queries and hashes of the texts shown, whatever their order."""
    found = {}
    for file in run.glob("cells/*/prompts.jsonl"):
        told = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.parent.name] = sorted((line["query"], str(line["shown"])) for line in told)
    return found


def cut_off(run: Path) -> None:
    """Leave of a run what a kill might: some cells whole, the others without their end, lines torn."""
    for number, cell in enumerate(sorted((run / "cells").iterdir())):
        if number % 3 == 0:
            continue
        (cell / "cell.json").unlink()
        for name in ("samples.jsonl", "prompts.jsonl"):
            lines = (cell / name).read_text().splitlines(keepends=True)
            kept = len(lines) if number == 1 else number * 3
            (cell / name).write_text("".join(lines[:kept]) + '{"query": "to')


def run_out_of_time(run: Path, seconds: float) -> int:
    """Make every third sample of a run one that ran out of so many seconds; how many there are."""
    made = 0
    for file in run.glob("cells/*/samples.jsonl"):
        samples = [json.loads(line) for line in file.read_text().splitlines()]
        for sample in samples[::3]:
            error = f"a batch of 3 was not answered within {seconds:g} s"
            sample |= {"status": "timeout", "error": error, "answer": "", "metrics": {}}
            made += 1
        file.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return made


def asked_again(run: Path) -> int:
    """How many questions the notices of a run's cells say were asked again."""
    told = [text for end in ends(run).values() for text in end["effective"]["notices"]]
    counts = [text.split(": ")[-1].removesuffix(" questions") for text in told if "asked again" in text]
    return sum(map(int, counts))
