"""The checks pass what keeps its promises and name what does not."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from deltamem_eval.conformance import MethodChecks, Subject
from deltamem_eval.conformance.checks import CHECKS, BrokenError
from deltamem_eval.interface import MemoryMethod
from deltamem_eval.registry import METHODS
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from deltamem_eval.trainers import TRAINERS
from tiny import tiny_backbone
from torch import nn

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from toys import BREAKS, Crashes, Good  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    backbone = tiny_backbone(positions=1024)
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def toys_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)


def toy(kind: type[MemoryMethod], model: str) -> Subject:
    return Subject(f"toys:{kind.__name__}", model)


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_toy_passes(name: str, model: str) -> None:
    CHECKS[name](toy(Good, model))


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_toy_fails_the_check_of_its_promise(name: str, model: str) -> None:
    subject = toy(BREAKS[name], model)
    head = subject.backbone().model.lm_head
    try:
        with pytest.raises(BrokenError):
            CHECKS[name](subject)
    finally:
        head._forward_hooks.clear()


def test_every_check_has_a_toy_that_breaks_it() -> None:
    assert set(BREAKS) == set(CHECKS)


def test_the_command_names_what_is_broken(model: str, tmp_path: Path) -> None:
    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deltamem_eval.cli.main", "check", name, "--model", model]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    crashed = run(f"toys:{Crashes.__name__}")
    assert crashed.returncode == 1, crashed.stderr
    lines = dict(line.split(maxsplit=1) for line in crashed.stdout.splitlines())
    assert lines["empty-equals-base"] == "ok"
    assert lines["reset-forgets"] == "BROKEN: ZeroDivisionError: no room"
    unknown = run("token-wrte")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    bare = run("token-write")
    assert (bare.returncode, bare.stderr.count("\n")) == (2, 1)
    assert "--adapter" in bare.stderr


UNTRAINED = ("vanilla", "bm25-rag", "memorybank")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each trained method's part with random weights, so that it matters."""
    from deltamem_eval.methods.training import TrainSettings

    root = tmp_path_factory.mktemp("trained")
    row = {
        "context": "note : Ada lives in Oslo\nnote : Omar lives in Lima\n",
        "questions": ["where is Ada ?", "where is Omar ?"],
        "answers": [["Oslo"], ["Lima"]],
        "metadata": {"source": "embedded_updates", "qa_pair_ids": ["a", "b"]},
    }
    for name in TRAINERS:
        backbone = tiny_backbone(positions=1024)
        episodes = [episode_from_row(row, split="t", index=0)]
        settings = TrainSettings(steps=3, batch=1, lr=0.3, warmup=0.0, clip=1e9, write_length=256)
        TRAINERS[name](backbone, episodes, settings, root / name, lambda _: None)
        from deltamem_eval.methods.delta_mem import detach

        detach(backbone.model)
    return root


@pytest.mark.parametrize("name", [*UNTRAINED, *TRAINERS])
def test_our_methods_keep_every_promise(name: str, model: str, trained: Path) -> None:
    subject = Subject(name, model, None if name in UNTRAINED else str(trained / name))
    for check, run in CHECKS.items():
        try:
            run(subject)
        except Exception as error:
            if type(error).__name__ != "NotApplicableError":
                raise AssertionError(f"{name}: {check}: {error}") from error
            assert METHODS.load(name).always_on


def _enlarge(method: Any) -> None:
    """Give the module that a method loaded parameters more than its config says."""
    if method.name == "mlp-memory":
        method._memory.head.bias = nn.Parameter(torch.zeros(258))
    elif method.name == "memgen":
        method._parts.weaving.more = nn.Parameter(torch.zeros(7))
    else:
        model = method._backbone.model
        (*_, last) = (module for path, module in model.named_modules() if path.endswith("lora_A.default"))
        last.weight = nn.Parameter(torch.zeros(9, last.weight.shape[1]))


@pytest.mark.parametrize("name", ["mlp-memory", "memgen", "context2lora"])
def test_a_module_of_other_sizes_than_its_config_s_is_not_what_is_declared(
    name: str, model: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, real = Subject(name, model, str(trained / name)), Subject.make
    CHECKS["overhead-is-true"](subject)

    def make(self: Subject, window: int | None = None, seed: int = 0) -> MemoryMethod:
        method = real(self, window, seed)
        _enlarge(method)
        return method

    monkeypatch.setattr(Subject, "make", make)
    with pytest.raises(BrokenError, match=r"it declares .* stored parameters and loaded"):
        CHECKS["overhead-is-true"](subject)


class TestGoodToyByMixIn(MethodChecks):
    @pytest.fixture(autouse=True)
    def _subject(self, model: str) -> None:
        self.subject = toy(Good, model)


def test_the_mix_in_has_every_check() -> None:
    names = {name for name in vars(TestGoodToyByMixIn) if name.startswith("test_")}
    assert names == {f"test_{name.replace('-', '_')}" for name in CHECKS}


def test_snapshots_that_are_not_json_are_named(model: str, tmp_path: Path) -> None:
    from deltamem_eval.conformance.checks import pack
    from deltamem_eval.interface import Snapshot

    with pytest.raises(BrokenError, match="not tensors and JSON"):
        pack(toy(Good, model), Snapshot({}, {"ids": {1, 2}}), tmp_path)
