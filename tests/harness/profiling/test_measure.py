"""What a measured point says: exact lengths, forced decodes, and memory that grows or does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval.interface import MemoryMethod
from deltamem_eval.profiling import worker
from deltamem_eval.profiling.allocations import Allocations
from deltamem_eval.profiling.measure import measure
from deltamem_eval.profiling.meters import NoMeter, TensorMeter, tensor_bytes
from deltamem_eval.profiling.passes import TokenWatch, one_pass
from deltamem_eval.profiling.request import Point
from deltamem_eval.profiling.subject import make_backbone, make_method
from deltamem_eval.profiling.workload import workload
from profiled import config_file, requested

pytestmark = pytest.mark.usefixtures("alone")

KV = 2 * 2 * 2 * 16 * 4  # bytes a token: keys and values, layers, heads, width, float32


def measured(config: str, method: str, mode: str, prompt: int, parts: Path, **changes: Any) -> dict[str, Any]:
    asked = requested(config, method, modes=(mode,), prompt_lengths=(512,), **changes)
    return measure(asked, Point(method, mode, prompt, 8), parts)


def test_a_replay_keeps_the_whole_prompt(tmp_path: Path) -> None:
    config = config_file(tmp_path)
    for method in ("vanilla", "token-write", "memgen"):
        small, large = (measured(config, method, "replay", size, tmp_path) for size in (128, 512))
        assert small["tokens"] == {"context": 128, "shown": 128, "question": 8}
        grown = [
            large["measures"][name][0] - small["measures"][name][0]
            for name in ("resident_allocated", "decode_allocated", "prefill_allocated")
        ]
        if method == "memgen":  # the weaver has a cache of its own
            assert grown[0] >= 2 * 384 * KV
        else:
            assert grown[0] == pytest.approx(384 * KV, rel=0.01)
        assert grown[1] >= grown[0]
        assert grown[2] > grown[0]


def test_a_memory_in_place_of_the_prompt_does_not_grow(tmp_path: Path) -> None:
    config = config_file(tmp_path)
    for method in ("token-write", "sequence-write", "multi-write"):
        small, large = (
            measured(config, method, "state-only", size, tmp_path, options={"write_length": 64})
            for size in (128, 512)
        )
        assert large["tokens"] == {"context": 512, "shown": 0, "question": 8}
        for name in ("resident_allocated", "decode_allocated", "prefill_allocated"):
            held = small["weights"]["allocated"]
            one, other = (found["measures"][name][0] - held for found in (small, large))
            assert other == pytest.approx(one, rel=0.02), (method, name)


def test_one_number_a_repeat_and_times_without_counting(tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path), "vanilla", repeats=2, warmup=1, prompt_lengths=(64,))
    found = measure(asked, Point("vanilla", "replay", 64, 8), tmp_path)
    assert {len(values) for values in found["measures"].values()} == {2}
    assert len(set(found["measures"]["prefill_allocated"])) == 1
    assert all(value > 0 for value in found["measures"]["decode_seconds"])


def test_two_ways_of_counting_agree(tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path), "token-write")
    backbone = make_backbone(asked)
    method = make_method(asked, "token-write", "replay", backbone, tmp_path)
    with Allocations() as allocations:
        meter = TensorMeter(allocations, "cpu")
        work = workload(backbone.encode, 100, 4, 0)
        found, _ = one_pass(method, backbone, work, meter, TokenWatch(meter))
        del work
        assert found["resident_allocated"] == tensor_bytes("cpu")
        meter.start()
        assert meter.peak() == meter.now()


class Chatty(MemoryMethod):
    """Generates a text before its answer, then as many tokens as it likes."""

    name = "chatty"

    def __init__(self, inner: MemoryMethod, tokens: int) -> None:
        self._inner, self._tokens = inner, tokens

    def answer(self, queries: Any) -> Any:
        from dataclasses import replace

        self._inner.answer([replace(queries[0], max_new_tokens=5)])
        return self._inner.answer([replace(queries[0], max_new_tokens=self._tokens)])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    reset = write = snapshot = restore = footprint = overhead = lambda self, *_: None


def test_what_is_generated_before_the_answer_is_prefill(tmp_path: Path) -> None:
    asked = requested(config_file(tmp_path), "vanilla")
    backbone = make_backbone(asked)
    inner = make_method(asked, "vanilla", "replay", backbone, tmp_path)
    work = workload(backbone.encode, 64, 3, 0)
    watch = TokenWatch(NoMeter())
    one_pass(Chatty(inner, 3), backbone, work, NoMeter(), watch)
    assert watch.tokens == 3
    with pytest.raises(RuntimeError, match="asked for 3 tokens, saw 2"):
        one_pass(Chatty(inner, 2), backbone, work, NoMeter(), TokenWatch(NoMeter()))


def test_no_token_ends_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = requested(config_file(tmp_path, eos_token_id=list(range(1200))), "vanilla")
    found = measure(asked, Point("vanilla", "replay", 64, 8), tmp_path)
    assert found["measures"]["decode_seconds"][0] > 0


def test_out_of_memory_is_a_point_and_a_bug_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requested(config_file(tmp_path), "vanilla")
    errors = [torch.OutOfMemoryError("tried 9 TiB"), MemoryError(), ValueError("broken\nmore")]

    def fails(self: Any, queries: Any) -> Any:
        raise errors[0]

    monkeypatch.setattr("deltamem_eval.methods.vanilla.Vanilla.answer", fails)
    found = []
    while errors:
        found += worker.points_of(asked, asked.points(), tmp_path)
        errors.pop(0)
    assert [item["status"] for item in found] == ["oom", "oom", "failed"]
    assert found[0]["error"] == "OutOfMemoryError: tried 9 TiB"
    assert found[2]["error"] == "ValueError: broken"
