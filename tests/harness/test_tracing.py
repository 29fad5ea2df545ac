"""Traces against a token loop of their own, and of a run on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_text
from deltamem_eval.interface import Chunk, Episode, MethodSettings
from deltamem_eval.methods.delta_mem import (
    DeltaMemConfig,
    attach,
    detach,
    get_state,
    save_adapter,
    trainable_parameters,
)
from deltamem_eval.methods.delta_mem.method import POLICIES
from deltamem_eval.methods.delta_mem.scan import scan
from deltamem_eval.session import Request, execute
from deltamem_eval.store import read_cells
from deltamem_eval.tracing import Writes, read_trace, record_trace, watch_writes
from tiny import tiny_backbone
from torch import Tensor
from torch.nn.functional import linear, normalize

from shared import changed
from stored import assert_published, sample, write_run

LINES = ("Ann keeps 7.\n", "Bo keeps 41.\n", "Cy, who is late, keeps 3.\n", "Di keeps 9.\n")


RANK = 4


@pytest.fixture
def backbone() -> Iterator[Backbone]:
    made = tiny_backbone()
    yield made
    detach(made.model)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter for each write policy, with gates that move."""
    root = tmp_path_factory.mktemp("adapters")
    for kind in POLICIES.values():
        model = tiny_backbone().model
        config = DeltaMemConfig(
            rank=RANK, num_state_heads=kind.state_heads, memory_write_granularity=kind.granularity
        )
        attach(model, config)
        generator = torch.Generator().manual_seed(5)
        for parameter in trainable_parameters(model):
            parameter.data.normal_(0, 0.3, generator=generator)
        save_adapter(model, root / kind.name)
        detach(model)
    return root


def written(
    policy: str, backbone: Backbone, adapters: Path, watch: bool = True, **options: Any
) -> tuple[Writes | None, dict[str, Tensor]]:
    """What was noted of writing LINES, and the states that this left."""
    method = POLICIES[policy](backbone, MethodSettings(0, 0, str(adapters / policy), options))
    episode = Episode("e/0", "s", "c", tuple(Chunk(text, index) for index, text in enumerate(LINES)), ())
    try:
        found = watch_writes(method, backbone, episode) if watch else None
        if not watch:
            for chunk in episode.chunks:
                method.write(chunk)
            method.footprint()
        return found, get_state(backbone.model)
    finally:
        method.close()


@pytest.mark.parametrize("policy", POLICIES)
@torch.no_grad()
def test_gates_and_norms_are_those_of_the_plain_recurrence(
    policy: str, backbone: Backbone, adapters: Path
) -> None:
    """In the first layer, whose input depends on no memory."""
    writes, _ = written(policy, backbone, adapters)
    messages = [backbone.encode(line) for line in LINES]
    decoder, heads = backbone.model.model, POLICIES[policy].state_heads
    tokens = torch.tensor(list(chain.from_iterable(messages)))
    x = decoder.layers[0].input_layernorm(decoder.embed_tokens(tokens))
    if policy == "sequence-write":
        x = torch.stack([part.mean(0) for part in x.split([len(ids) for ids in messages])])
    weights = torch.load(adapters / policy / "delta_mem_adapter.pt", weights_only=True)

    def projected(name: str) -> Tensor:
        return linear(x, weights[f"model.layers.0.self_attn.{name}"])

    def split(flat: Tensor) -> Tensor:
        return flat.reshape(len(x), heads, RANK).transpose(0, 1)[None]

    query, key = (normalize(split(projected(f"memory_{name}_proj")).tanh(), dim=-1) for name in "qk")
    gate = (projected("beta_proj") + weights["model.layers.0.self_attn.beta_bias"]).sigmoid()
    inputs = query, key, split(projected("memory_v_proj")), split(gate)
    assert writes.beta[0] == pytest.approx(gate.mean(-1).tolist(), abs=2e-6)
    assert gate.std() > 0.05
    assert len(writes.norm[0]) == len(x) == len(writes.texts)
    for count in (1, 2, 3, len(x) // 2, len(x) - 1, len(x)):
        begun = [tensor[:, :, :count] for tensor in inputs]
        _, state = scan(*begun, None, torch.zeros(1, heads, RANK, RANK), form="naive")
        assert writes.norm[0][count - 1] == pytest.approx(float(state.norm()), rel=1e-4)


@pytest.mark.parametrize("write_length", [0, 7, 17])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_memory_is_left_as_writing_alone_leaves_it(
    policy: str, write_length: int, backbone: Backbone, adapters: Path
) -> None:
    writes, states = written(policy, backbone, adapters, write_length=write_length)
    _, alone = written(policy, backbone, adapters, watch=False, write_length=write_length)
    assert states.keys() == alone.keys() == set(writes.layers)
    for path, norms in zip(writes.layers, writes.norm, strict=True):
        assert torch.equal(states[path], alone[path])
        assert norms[-1] == pytest.approx(float(states[path].norm()), rel=1e-4)
    assert not any(module._forward_pre_hooks for module in backbone.model.modules())
    assert "".join(writes.texts) == "".join(LINES)
    assert (writes.unit, writes.rank, writes.state_heads) == (
        "message" if policy == "sequence-write" else "token",
        RANK,
        POLICIES[policy].state_heads,
    )
    if policy == "sequence-write" and write_length == 0:
        assert writes.texts == list(LINES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the embedded model: two policies and a method that is none."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    methods = ("vanilla", "token-write", "sequence-write")
    request = Request(methods, windows=(0, 16), limit=1, controls=False, device="cpu")
    with Display(6, quiet=True) as display:
        execute(request, folder, display)
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_an_episode_of_a_run_is_traced_through_each_of_its_policies(copied: Path) -> None:
    files = record_trace(copied, "embedded-0/0")
    assert files == [
        copied / "traces" / "token-write-embedded-0-0.json",
        copied / "traces" / "sequence-write-embedded-0-0.json",
    ]
    assert_published(copied, "trace", "run", "cell")
    token, sequence = map(read_trace, files)
    (cluster,) = {
        item.cluster
        for _, samples in read_cells(copied)
        for item in samples
        if item.episode == "embedded-0/0"
    }
    assert hash_text("".join(token.texts)) == hash_text("".join(sequence.texts)) == cluster
    assert sequence.texts == "".join(token.texts).splitlines(keepends=True)
    assert (token.model, token.rank, token.state_heads) == ("embedded", 8, 1)
    assert 0 < max(map(max, token.beta)) <= 1
    assert all(round(value, 6) == value for row in (*token.beta, *token.norm) for value in row)


def test_a_trace_that_is_there_is_kept_and_a_damaged_one_made_again(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = record_trace(copied, "embedded-0/1")
    before = [file.read_bytes() for file in files]
    files[0].write_text("{")
    assert record_trace(copied, "embedded-0/1") == files
    assert [file.read_bytes() for file in files] == before

    def refuse(*_: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("deltamem_eval.backbone.load_backbone", refuse)
    assert record_trace(copied, "embedded-0/1") == files


def test_what_cannot_be_traced_is_refused_and_nothing_written(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown episode 'embedded-0/99': did you mean embedded-0/"):
        record_trace(copied, "embedded-0/99")
    with pytest.raises(UserError, match="known: embedded-0/0, embedded-0/1"):
        record_trace(copied, "x")
    other = write_run(tmp_path / "other", [({}, [sample(0, True)])], {"methods": ["vanilla", "gone"]})
    with pytest.raises(UserError, match="no δ-mem method to trace: it ran vanilla, gone"):
        record_trace(other, "e0")
    begun = write_run(tmp_path / "begun", [({}, [sample(0, True)])], {"methods": ["token-write"]})
    with pytest.raises(UserError, match="no finished cell of token-write"):
        record_trace(begun, "e0")
    with pytest.raises(UserError, match=r"cannot be read: is .* a run"):
        record_trace(tmp_path, "e0")
    assert not list(tmp_path.rglob("traces"))


@pytest.mark.parametrize(
    ("field", "message"),
    [("adapter", "ran token-write with other adapter"), ("weights", "ran token-write with other weights")],
)
def test_a_model_or_adapter_that_is_no_longer_the_run_s_is_refused(
    field: str, message: str, copied: Path
) -> None:
    for file in copied.glob("cells/*/cell.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps(changed(record, "identity", field, to="0" * 16)))
    with pytest.raises(UserError, match=message):
        record_trace(copied, "embedded-0/0")
    assert not (copied / "traces").exists()


def test_a_context_that_has_changed_since_is_refused(copied: Path) -> None:
    for file in copied.glob("cells/*/samples.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({**line, "cluster": "0" * 16}) + "\n" for line in lines))
    with pytest.raises(UserError, match="its data have changed since"):
        record_trace(copied, "embedded-0/0")
    assert not (copied / "traces").exists()
