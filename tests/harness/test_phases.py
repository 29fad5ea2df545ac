"""What a phase took: decoding timed after the first token, GPU peaks read and forgotten phase by phase."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval import phases
from deltamem_eval.answering import Answered, CellWork
from deltamem_eval.cells import Cell
from deltamem_eval.decoding import Request
from deltamem_eval.interface import Answer, Chunk, Episode, MethodSettings, Query
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.phases import DecodeClock, DeviceLostError, Gpus
from tiny import tiny_backbone


def test_decoding_counts_from_the_first_token_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(phases, "perf_counter", lambda: float(next(ticks)))
    clock = DecodeClock()
    for tokens in (3, 1):
        with clock.generation():
            for _ in range(tokens):
                clock.token()
    assert (clock.steps, clock.seconds) == (2, 2.0)  # each from its first token to the block's end
    assert clock.read() == 2.0
    assert clock.read() is None


def test_a_generation_that_fails_is_not_counted_and_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(phases, "perf_counter", lambda: float(next(ticks)))
    clock = DecodeClock()
    for tokens, error in ((3, None), (4, KeyboardInterrupt), (2, None), (5, RuntimeError)):
        with pytest.raises(error) if error else nullcontext(), clock.generation():
            for _ in range(tokens):
                clock.token()
            if error:
                raise error
    assert (clock.steps, clock.seconds) == (2 + 1, 2.0)


def test_a_single_token_is_no_decoding() -> None:
    clock = DecodeClock()
    with clock.generation():
        clock.token()
    assert clock.read() is None


def test_a_backbone_counts_its_steps() -> None:
    backbone = tiny_backbone()
    requests = [Request(tuple(backbone.encode("fact")), tokens) for tokens in (2, 5)]
    made = backbone.generate(requests, backbone.prefill(backbone.encode("some text")))
    assert backbone.clock.steps == max(item.new_tokens for item in made) - 1
    assert (backbone.clock.read() or 0.0) > 0


def test_groups_answered_before_memory_ran_out_are_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone(batch_size=2)
    requests = [Request(tuple(backbone.encode("fact" * length)), length + 3) for length in range(1, 5)]
    real, calls = backbone._decode_rows, count()

    def full_at_the_end(*arguments: Any) -> Any:
        made = real(*arguments)
        if next(calls) == 1:  # of the second group
            raise torch.OutOfMemoryError("out of memory")
        return made

    monkeypatch.setattr(backbone, "_decode_rows", full_at_the_end)
    lengths = [item.new_tokens for item in backbone.generate(requests)]
    assert backbone.notices == ["out of memory at 2 rows: batch size is now 1"]
    assert backbone.clock.steps == max(lengths[:2]) - 1 + lengths[2] - 1 + lengths[3] - 1


def test_a_batch_that_fails_after_decoding_leaves_nothing_on_the_clock() -> None:
    class Choking(Vanilla):
        def answer(self, queries: Sequence[Query]) -> list[Answer]:
            answers = super().answer(queries)
            if any(query.id in ("q0", "q2") for query in queries):
                raise ValueError("choked")
            return answers

    backbone = tiny_backbone()
    queries = tuple(Query(f"q{number}", "Where?", ("Oslo",), 5, stop=()) for number in range(3))
    episode = Episode("e", "towns", "accurate-retrieval", (Chunk("In Oslo.", 0),), queries)
    work = CellWork(Cell("vanilla", "towns", 0, 20), backbone)
    work._method = Choking(backbone, MethodSettings(20))
    heard = []
    read = backbone.clock.read
    backbone.clock.read = lambda: heard.append(backbone.clock.steps) or read()
    (answered,) = [event for event in work.ask(episode, queries) if isinstance(event, Answered)]
    assert [answer.status for answer in answered.answers] == ["failed", "ok", "failed"]
    assert heard[-1] == answered.answers[1].new_tokens - 1


def test_peaks_of_all_gpus_are_added_and_begin_anew_with_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"cuda:0": 5, "cuda:1": 7}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[str(device)])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update({str(device): 1}))
    devices = [torch.device(name) for name in ("cuda:0", "cuda:1", "cuda:0", "cpu")]
    meter = Gpus(devices)
    assert meter.read("write") == {"write": 12}
    assert meter.read("answer") == {"answer": 2}
    assert Gpus([torch.device("cpu")]).read("write") == {}


@pytest.mark.parametrize(
    ("told", "lost"),
    [("CUDA error: an illegal memory access was encountered", True), ("CUDA error: out of memory", False)],
)
def test_a_gpu_that_answers_no_more_is_told_from_a_full_one(
    told: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{told}\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch, "ones", broken)
    assert phases.is_out_of_memory(RuntimeError(told)) is not lost
    gpus = Gpus([torch.device("cuda:0")])
    with pytest.raises(DeviceLostError, match=f"cuda:0 answers no more .{told}") if lost else nullcontext():
        gpus.check()


def test_samples_hold_what_decoding_took(tmp_path: Path) -> None:
    from deltamem_eval.display import Display
    from deltamem_eval.session import Request as Asked
    from deltamem_eval.session import check, execute

    request = check(Asked(("vanilla", "memgen"), limit=1, controls=False, device="cpu"))
    with Display(2, quiet=True) as display:
        execute(request, tmp_path / "run", display)
    lines = [json.loads(line) for file in tmp_path.rglob("samples.jsonl") for line in file.open()]
    assert lines
    for line in lines:
        assert line["peak_bytes"] == {}  # no GPU
        if line["decode_seconds"] is not None:
            assert 0 < line["decode_seconds"] < line["answer_seconds"]
    assert any(line["decode_seconds"] for line in lines)
