"""LLMLingua-2 through its package over a local classifier: budgets, random states, refusals, promises."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from deltamem_eval.backbone import embedded_folder
from deltamem_eval.conformance import Subject
from deltamem_eval.conformance.checks import CHECKS
from deltamem_eval.embedded_compressor import train_classifier
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.llmlingua2.method import LlmLingua2
from deltamem_eval.methods.training import TrainSettings
from deltamem_eval.tasks.embedded.classifier import (
    DROP,
    KEEP,
    build_classifier_tokenizer,
    labelled_words,
    new_classifier,
)
from safetensors.torch import load_file, save_file
from tiny import tiny_backbone

pytest.importorskip("llmlingua")
LINES = tuple(f"note : Ada Walsh lives in Oslo as agreed {index}\n" for index in range(20))


def test_the_embedded_classifier_is_named_so_by_its_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(embedded_folder())
    for name in ("embedded", str(embedded_folder() / "llmlingua2"), "llmlingua2", "./llmlingua2/"):
        assert LlmLingua2.label({"classifier": name}) == "llmlingua2 (embedded classifier)"
    assert LlmLingua2.label({"classifier": "some/llmlingua2"}) == "llmlingua2 (classifier llmlingua2)"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    settings = TrainSettings(steps=3, lr=1e-3, seed=1)
    train_classifier(lambda step: ["by the way Ada Walsh lives in Oslo\n"] * 2, "", settings, folder)
    return folder


def method(window: int, classifier: Path) -> LlmLingua2:
    settings = MethodSettings(window, options={"classifier": str(classifier)})
    made = LlmLingua2(tiny_backbone(positions=2048), settings)
    for index, line in enumerate(LINES):
        made.write(Chunk(line, index))
    return made


def test_what_a_line_says_is_kept_and_what_surrounds_it_is_not() -> None:
    found = labelled_words("by the way Ada Walsh lives in Oslo as agreed\n")
    assert [word for word, label in found if label == KEEP] == ["Ada", "Walsh", "lives", "in", "Oslo"]
    assert {label for _, label in labelled_words("today it was quiet so we went home early\n")} == {DROP}


def test_the_classifier_is_small_and_logs_its_training(classifier: Path) -> None:
    assert (
        sum(item.numel() for item in new_classifier(build_classifier_tokenizer()).parameters()) <= 1_500_000
    )
    rows = [json.loads(line) for line in (classifier / "train_log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 3


@pytest.mark.parametrize("window", [0, 16, 40, 300, 2000])
def test_the_compressed_text_fits_the_window_and_comes_from_the_context(
    window: int, classifier: Path
) -> None:
    query = Query("q", "where ?", ("Oslo",), 2)
    (answer,) = method(window, classifier).answer([query])
    assert answer.context_tokens <= window
    if window == 0:
        assert answer.visible is None
        return
    whole = "".join(LINES)
    if window == 2000:  # it fits as it is
        assert answer.visible == whole
        return
    assert answer.visible is not None
    assert len(answer.visible) <= window
    if window == 300:
        assert set(answer.visible.split()) <= set(whole.split())
        assert len(answer.visible) > 100


def test_forced_characters_never_crowd_out_the_words(classifier: Path) -> None:
    """The package ranks them first: where they take the whole budget it keeps nothing else."""
    made = method(20, classifier)
    assert made._forced("".join(LINES)) == "", (
        "twenty line ends are more than three quarters of twenty tokens"
    )
    made.snapshot()
    assert made._backbone.decode(made._window.ids).strip(" \n")
    assert method(40, classifier)._forced("".join(LINES)) == "\n?!."
    assert method(40, classifier)._forced("one. two. three.\n" * 10) == "\n"
    assert method(40, classifier)._forced("one\n" * 30) == "\n?!."
    assert method(40, classifier)._forced("one\n" * 31) == ""


def test_much_stronger_compression_goes_in_steps(classifier: Path) -> None:
    made = method(16, classifier)
    for index in range(40):
        for line in LINES:
            made.write(Chunk(line, index))
    goes: list[float] = []
    compress = made._compress

    def counted(text: str, target_tokens: int, forced: str) -> str:
        goes.append(made._backbone.length(text) / target_tokens)
        return compress(text, target_tokens, forced)

    made._compress = counted
    made.snapshot()
    assert made._backbone.length("".join(made._texts)) > 1000 * 16
    assert len(goes) > 2
    assert all(go <= 21 for go in goes[:2])
    assert made._backbone.decode(made._window.ids).strip(" \n")


def test_random_states_are_left_as_they_were(classifier: Path) -> None:
    def state() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seeds = random.getstate(), np.random.get_state(), torch.get_rng_state()
    wanted = state()
    random.setstate(seeds[0])
    np.random.set_state(seeds[1])
    torch.set_rng_state(seeds[2])
    method(40, classifier).answer([Query("q", "where ?", ("Oslo",), 2)])
    assert state() == wanted


def test_classifiers_that_will_not_do_are_refused(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="embedded classifier knows"):
        LlmLingua2(tiny_backbone(), MethodSettings(40))
    with pytest.raises(UserError):
        method(40, tmp_path / "none")
    config = json.loads((classifier / "config.json").read_text())
    labels = {"0": "a", "1": "b", "2": "c"}
    config.update(id2label=labels, label2id={name: int(index) for index, name in labels.items()})
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="label"):
        method(40, tmp_path)


def test_it_keeps_every_promise(classifier: Path, tmp_path: Path) -> None:
    backbone = tiny_backbone(positions=1024)
    backbone.model.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    subject = Subject("llmlingua2", str(tmp_path), options={"classifier": str(classifier)})
    for run in CHECKS.values():
        run(subject)


def test_the_longest_text_that_fits_is_searched_for(classifier: Path) -> None:
    """A compressor whose texts are shorter than asked for, in steps of a hundredth of the text."""
    whole = "x" * 900 + "\n"
    for window in (50, 64, 333, 600):
        made = method(window, classifier)
        targets: list[int] = []

        def shorter(text: str, target_tokens: int, forced: str, targets: list[int] = targets) -> str:
            targets.append(target_tokens)
            return "y" * (int(0.7 * target_tokens) // 9 * 9)

        made._compress = shorter
        found = made._longest_that_fits(whole, len(whole), "")
        assert window - 2 * 9 < len(found) <= window
        assert len(targets) <= 8


def test_a_text_that_never_fits_is_the_shortest_that_was_found(classifier: Path) -> None:
    made = method(20, classifier)
    made._compress = lambda text, target_tokens, forced: "y" * (30 + target_tokens)
    found = made._longest_that_fits("x" * 300, 300, "")
    assert 30 < len(found) <= 34


def test_damaged_classifiers_and_those_without_a_head_are_told_in_a_line(
    classifier: Path, tmp_path: Path
) -> None:
    for name in ("damaged", "headless", "bare"):
        shutil.copytree(classifier, tmp_path / name)
    weights = load_file(classifier / "model.safetensors")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"none")
    save_file(
        {**weights, "classifier.weight": torch.zeros(3, 5)}, tmp_path / "headless" / "model.safetensors"
    )
    (tmp_path / "bare" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot load the classifier '.*damaged'"):
        method(40, tmp_path / "damaged")
    with pytest.raises(UserError, match=r"has no trained head: classifier.weight is \[3, 5\], not \[2, "):
        method(40, tmp_path / "headless")
    with pytest.raises(UserError, match=r"cannot load the classifier '.*bare'"):
        method(40, tmp_path / "bare")
