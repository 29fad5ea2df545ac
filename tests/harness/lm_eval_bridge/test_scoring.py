"""Scores of continuations against one plain forward pass, and of the methods that mix or weave."""

import random
from pathlib import Path

import pytest
import torch
from bridged import plain_logprob
from deltamem_eval import likelihood
from deltamem_eval.backbone import Backbone
from deltamem_eval.decoding import Request
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, MethodSettings, Query
from deltamem_eval.likelihood import Scored, score_continuations
from deltamem_eval.lm_eval_bridge.memories import Asked, Memories
from deltamem_eval.methods.memgen.config import MemGenConfig
from deltamem_eval.methods.memgen.method import MemGen
from deltamem_eval.methods.memgen.model import MemGenModel
from deltamem_eval.methods.mlp_memory.config import MlpConfig
from deltamem_eval.methods.mlp_memory.method import MlpMemoryMethod
from deltamem_eval.methods.mlp_memory.model import MlpMemory, mix
from deltamem_eval.methods.vanilla import Vanilla
from tiny import tiny_backbone

CONTEXT, QUESTION, WANTED = "Ann keeps a red box, or so.\n", "What does Ann keep?", " a box, or two."


def backbone() -> Backbone:
    return tiny_backbone(batch_size=3)


def rows(seed: int = 0) -> tuple[list[Request], list[list[int]]]:
    rng = random.Random(seed)
    requests = [
        Request(tuple(rng.choices(range(2, 258), k=length)), 0) for length in (5, 1, 9, 4, 1, 0, 30, 2)
    ]
    return requests, [rng.choices(range(2, 258), k=rng.randint(1, 6)) for _ in requests]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("stepwise", [True, False])
@pytest.mark.parametrize("beginning", ["", "the context of all\n"])
def test_scores_equal_a_plain_forward(
    shared: bool, stepwise: bool, beginning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "can_share", lambda model: shared)
    made, (requests, continuations) = backbone(), rows()
    made.processors = [lambda ids, scores: scores] if stepwise else []
    before = made.encode(beginning)
    counts: list[int] = []
    scores = score_continuations(made, requests, continuations, made.prefill(before), counts.append)
    assert sum(counts) == len(requests)
    assert max(counts) <= 3
    for request, ids, score in zip(requests, continuations, scores, strict=True):
        given = [*before, *request.ids] or [1]
        assert score.total == pytest.approx(plain_logprob(made.model, given, ids), abs=1e-3)
        assert len(score.logprobs) == len(ids)


def test_what_greedy_decoding_gives_is_greedy() -> None:
    made = backbone()
    ids = tuple(made.encode(QUESTION))
    text = made.generate([Request(ids, 5)])[0]
    tokens = torch.tensor([ids])
    best: list[int] = []
    for _ in range(text.new_tokens):
        best.append(int(made.model(tokens).logits[0, -1].argmax()))
        tokens = torch.cat([tokens, torch.tensor([best[-1:]])], dim=1)
    other = [*best[:-1], best[-1] ^ 1]
    one, two = score_continuations(made, [Request(ids, 5)] * 2, [best, other])
    assert (one.greedy, two.greedy) == (True, False)


def test_what_cannot_be_scored_is_refused() -> None:
    made = backbone()
    with pytest.raises(UserError, match="without tokens"):
        score_continuations(made, [Request((3,), 1)], [[]])
    with pytest.raises(UserError, match="exceed the 512 positions"):
        score_continuations(made, [Request((3,) * 510, 1)], [[4, 5, 6, 7]])


def test_a_batch_is_halved_when_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made, (requests, continuations) = backbone(), rows()
    wanted = score_continuations(made, requests, continuations)
    real = likelihood._score_batch

    def greedy_for_memory(backbone: Backbone, batch: list, prefix: None) -> list[Scored]:
        if len(batch) > 1:
            raise torch.OutOfMemoryError
        return real(backbone, batch, prefix)

    monkeypatch.setattr(likelihood, "_score_batch", greedy_for_memory)
    for one, other in zip(score_continuations(made, requests, continuations), wanted, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert made.batch_size == 1
    assert "batch size is now 1" in made.notices[0]


class Told(Vanilla):
    """Answers without the backbone."""

    def answer(self, queries: list[Query]) -> list[Answer]:  # type: ignore[override]
        return [Answer("", 0, 0) for _ in queries]


def query(length: int = 20) -> Query:
    return Query("q", QUESTION, (), length, ("tag",))


def test_a_method_that_does_not_ask_the_backbone_is_refused() -> None:
    made = backbone()
    memories = Memories(Told(made, MethodSettings(20)), made)
    with pytest.raises(UserError, match="does not answer through the backbone"):
        memories.scores([Asked(CONTEXT, query())], {"tag": [5]})


def test_mlp_memory_is_scored_from_the_mixture(tmp_path: Path) -> None:
    made = backbone()
    torch.manual_seed(0)
    memory = MlpMemory(MlpConfig(hidden=48, intermediate=32, blocks=2, vocab=258, layer=1))
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    memory.save(tmp_path)
    settings = MethodSettings(60, adapter=str(tmp_path), options={"weight": 0.3})
    method = MlpMemoryMethod(made, settings)
    wanted = made.encode(WANTED)
    score = Memories(method, made).scores([Asked(CONTEXT, query())], {"tag": wanted})[0]
    method.close()
    before = made.encode(CONTEXT + QUESTION)
    seen: list[torch.Tensor] = []
    hook = (
        made.model.get_decoder()
        .layers[1]
        .mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    )
    with torch.no_grad():
        logits = made.model(torch.tensor([[*before, *wanted]]), use_cache=False).logits[0]
        mixed = mix(logits, memory(seen[0][0]), 0.3)[len(before) - 1 : -1]
    hook.remove()
    expected = mixed.gather(1, torch.tensor(wanted)[:, None]).sum()
    assert score.total == pytest.approx(float(expected), abs=1e-3)
    assert score.total != pytest.approx(plain_logprob(made.model, before, wanted), abs=1e-2)


@pytest.mark.parametrize("cached", [True, False])
def test_memgen_is_scored_with_the_weaves_of_its_own_decoding(cached: bool, tmp_path: Path) -> None:
    made = backbone()
    parts = MemGenModel(made.model, MemGenConfig(hidden=48, rank=2, latents=3, most=2))
    generator = torch.Generator().manual_seed(5)
    parts.load_state(
        {
            name: 0.3 * torch.randn(item.shape, generator=generator) + (item if "norm" in name else 0)
            for name, item in parts.state().items()
        }
    )
    parts.save(tmp_path)
    parts.remove()
    method = MemGen(made, MethodSettings(60, adapter=str(tmp_path), options={"cached": cached}))
    memories, wanted = Memories(method, made), made.encode(WANTED)
    scores: list[Scored] = [
        memories.scores([Asked(CONTEXT, query(budget))], {"tag": wanted[:budget]})[0] for budget in (8, 15)
    ]
    assert scores[0].logprobs == pytest.approx(scores[1].logprobs[:8], abs=1e-4)
    parts = method._parts
    with torch.no_grad():
        expected = weaved(parts, made, 2, wanted)
        unwoven = weaved(parts, made, 0, wanted)
    assert scores[1].logprobs == pytest.approx(expected, abs=1e-3)
    assert scores[1].logprobs != pytest.approx(unwoven, abs=1e-2)
    plain = plain_logprob(made.model, made.encode(CONTEXT + QUESTION), wanted)
    assert scores[1].total != pytest.approx(plain, abs=1e-2)
    method.close()


def weaved(parts: MemGenModel, made: Backbone, most: int, wanted: list[int]) -> list[float]:
    """Log-probabilities of tokens with weaves after the prompt and at delimiters, everything read anew."""
    from deltamem_eval.methods.memgen.stream import PlainStream

    stream, used, found = PlainStream(parts), 0, []
    stream.feed(parts.embed(made.encode(CONTEXT + QUESTION)))
    stream.weave("prompt")
    for count, token in enumerate(wanted, 1):
        found.append(float(stream.logits[0].log_softmax(-1)[token]))
        stream.feed(parts.embed([token]))
        if made.decode(wanted[:count]).endswith(parts.config.delimiters) and used < most:
            used += stream.weave("inner")
    return found
