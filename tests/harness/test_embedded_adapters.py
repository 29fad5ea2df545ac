"""The adapters' ladder: what each rung draws, that it can be asked again, and that it trains."""

import json
from dataclasses import replace
from pathlib import Path

from deltamem_eval import embedded_adapters
from deltamem_eval.embedded_adapters import BOUND, WARM, FreshEpisodes, Rung, train_adapter
from deltamem_eval.tasks.embedded.episodes import Drawing
from deltamem_eval.tasks.embedded.pretrain import new_model
from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
RUNGS = embedded_adapters.RUNGS


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text))


def test_rungs_follow_one_another_and_the_last_goes_on() -> None:
    rungs = tuple(Rung(updates, updates, Drawing(BOUND, (2,)), (0,)) for updates in (2, 3))
    source = FreshEpisodes(encode, 0, rungs)
    assert [len(source.batch(step)) for step in (0, 1, 2, 4, 5, 9)] == [2, 2, 3, 3, 3, 3]


def test_every_question_names_the_lines_that_answer_it() -> None:
    for example in FreshEpisodes(encode, 0, (WARM,)).batch(0):
        assert len(example.evidence) == len(example.questions)
        for (_, answer), lines in zip(example.questions, example.evidence, strict=True):
            assert lines
            assert all(set(answer[:-1]) <= set(example.messages[line]) for line in lines)


def test_the_same_step_gives_the_same_episodes_and_another_seed_others() -> None:
    assert FreshEpisodes(encode, 3, RUNGS).batch(1500) == FreshEpisodes(encode, 3, RUNGS).batch(1500)
    assert FreshEpisodes(encode, 3, RUNGS).batch(1500) != FreshEpisodes(encode, 4, RUNGS).batch(1500)
    assert FreshEpisodes(encode, 3, RUNGS).identity() != FreshEpisodes(encode, 4, RUNGS).identity()


def test_windowed_questions_follow_the_end_of_their_context() -> None:
    rungs = (Rung(1, 4, Drawing(BOUND, (2,)), (120,), windowed=1.0, windowed_questions=3),)
    for example in FreshEpisodes(encode, 0, rungs).batch(0):
        tokens = [token for message in example.messages for token in message]
        assert 0 < len(example.questions) <= 3
        for prompt, _ in example.questions:
            start = prompt.index(encode("question")[0])
            window = list(prompt[:start])
            assert 0 < len(window) <= len(tokens) // 2
            assert tokens[-len(window) :] == window


def test_an_adapter_is_trained_and_logged(tmp_path: Path) -> None:
    model = new_model(TOKENIZER)
    model.save_pretrained(tmp_path / "backbone")
    TOKENIZER.save_pretrained(tmp_path / "backbone")
    rungs = (Rung(2, 2, Drawing(BOUND, (2,), 2, 2), (0,)), Rung(1, 2, Drawing(), (80,)))
    train_adapter(
        "token-write",
        tmp_path / "backbone",
        tmp_path / "out",
        "cpu",
        0,
        rungs,
        replace(WARM, updates=2, batch=2),
    )
    lines = (tmp_path / "out" / "train_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert len((tmp_path / "out" / "warm_start_log.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "out" / "delta_mem_adapter.safetensors").is_file()
    assert not (tmp_path / "out" / "checkpoint.pt").exists()
