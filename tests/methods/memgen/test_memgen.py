"""MemGen: cached weaving equals reading everything again, training equals decoding, parts come off again."""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deltamem_eval.attention import limited
from deltamem_eval.backbone import Backbone
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.memgen.config import MemGenConfig, parameter_count
from deltamem_eval.methods.memgen.method import MemGen, logistic
from deltamem_eval.methods.memgen.model import MemGenModel, load_memgen
from deltamem_eval.methods.memgen.stream import PlainStream, Stream
from deltamem_eval.methods.memgen.train import places, train_memgen, weaving_loss
from deltamem_eval.methods.training import Example, Fixed, TrainSettings
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.shapes import find_shape
from tiny import byte_tokenizer, tiny_backbone, tiny_config
from transformers import AutoModelForCausalLM

CONFIG = MemGenConfig(hidden=48, rank=2, latents=3, most=2)
CHUNKS = tuple(Chunk(f"{name} keeps {index}, or so.\n", index) for index, name in enumerate("abcdefgh"))
QUERIES = [Query(f"q{index}", text, ("x",), 12) for index, text in enumerate(("a?", "what of b, then?", "c"))]


@pytest.fixture
def backbone() -> Backbone:
    return tiny_backbone()


def shaken(backbone: Backbone, config: MemGenConfig = CONFIG) -> MemGenModel:
    """Parts with random weights everywhere, so that each of them matters."""
    parts = MemGenModel(backbone.model, config)
    generator = torch.Generator().manual_seed(5)
    state = {
        name: 0.3 * torch.randn(item.shape, generator=generator) + (item if "norm" in name else 0)
        for name, item in parts.state().items()
    }
    parts.load_state(state)
    return parts


@pytest.fixture
def folder(backbone: Backbone, tmp_path: Path) -> Path:
    parts = shaken(backbone)
    parts.save(tmp_path / "memgen")
    parts.remove()
    return tmp_path / "memgen"


@pytest.fixture
def method(backbone: Backbone, folder: Path) -> Iterator[MemGen]:
    made = MemGen(backbone, MethodSettings(60, adapter=str(folder)))
    yield made
    made.close()


@pytest.mark.parametrize("trigger", [False, True])
@torch.no_grad()
def test_a_stream_from_caches_equals_reading_everything_again(backbone: Backbone, trigger: bool) -> None:
    parts = shaken(backbone, replace(CONFIG, trigger=trigger))
    base, plain, woven = Stream(parts), PlainStream(parts), []
    for stream in (base, plain):
        stream.feed(parts.embed(range(20, 31)))
        stream.prepare()
    cached = base.fork()
    for ids, place in (([40, 41], "prompt"), ([50], "inner"), ([51, 52, 53], "inner"), ([7], None)):
        for stream in (cached, plain):
            stream.feed(parts.embed(ids))
        if place is not None:
            woven += [cached.weave(place)]
            assert plain.weave(place) == woven[-1]
        torch.testing.assert_close(cached.logits, plain.logits, atol=1e-4, rtol=1e-4)
        assert cached.length == plain.length
    assert base.length == 11  # a fork leaves its origin alone
    assert trigger or all(woven)
    parts.remove()


def sliding_backbone(family: str) -> Backbone:
    """A random backbone whose layers, or some of them, attend to the last 12 tokens only."""
    torch.manual_seed(0)
    config = tiny_config(family, max_position_embeddings=512, sliding_window=12)
    if family != "mistral":
        config.layer_types = ["sliding_attention", "full_attention", "sliding_attention"]
    return Backbone(AutoModelForCausalLM.from_config(config), byte_tokenizer(), "slides", "slides", 8)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("trigger", [False, True])
@torch.no_grad()
def test_streams_longer_than_the_span_of_their_layers(family: str, trigger: bool, tmp_path: Path) -> None:
    backbone = sliding_backbone(family)
    assert limited(backbone.model)
    parts = shaken(backbone, replace(CONFIG, trigger=trigger))
    base, plain = Stream(parts), PlainStream(parts)
    for stream in (base, plain):
        stream.feed(parts.embed(range(20, 50)))
        stream.prepare()
    for _ in range(2):  # two questions share what was read
        cached, again = base.fork(), copy.deepcopy(plain)
        for ids, place in (([40, 41], "prompt"), ([50], "inner"), ([51, 52, 53], "inner"), ([7], None)):
            for stream in (cached, again):
                stream.feed(parts.embed(ids))
            assert place is None or cached.weave(place) == again.weave(place)
            torch.testing.assert_close(cached.logits, again.logits, atol=1e-3, rtol=1e-3)
            assert cached.length == again.length
    parts.save(tmp_path)
    parts.remove()
    found = []
    for option in (True, False):
        method = MemGen(backbone, MethodSettings(60, adapter=str(tmp_path), options={"cached": option}))
        for chunk in CHUNKS:
            method.write(chunk)
        found.append([answer.text for answer in method.answer(QUERIES)])
        method.close()
    assert found[0] == found[1]
    assert any(found[0])


def test_answers_from_caches_are_those_without_and_differ_from_vanilla(
    backbone: Backbone, folder: Path
) -> None:
    found = {}
    for cached in (True, False):
        method = MemGen(backbone, MethodSettings(60, adapter=str(folder), options={"cached": cached}))
        for chunk in CHUNKS:
            method.write(chunk)
        found[cached] = [answer.text for answer in method.answer(QUERIES)]
        method.close()
    vanilla = Vanilla(backbone, MethodSettings(60))
    for chunk in CHUNKS:
        vanilla.write(chunk)
    assert found[True] == found[False]
    assert found[True] != [answer.text for answer in vanilla.answer(QUERIES)]


def test_promises(method: MemGen, backbone: Backbone) -> None:
    for chunk in CHUNKS:
        method.write(chunk)
    snapshot, wanted = method.snapshot(), method.answer(QUERIES)
    assert method.answer(QUERIES[::-1])[::-1] == wanted
    assert [method.answer([query])[0] for query in QUERIES] == wanted
    held = method.footprint()
    layers, caches, width = 3, 2, 2 * 2 * 12
    assert held.kv == layers * caches * width * 60 * 4
    method.reset()
    assert method.answer(QUERIES) != wanted
    method.restore(snapshot)
    assert method.answer(QUERIES) == wanted
    assert all(answer.context_tokens == 60 for answer in wanted)


def test_the_backbone_is_left_as_it_was(backbone: Backbone, folder: Path) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    before = {name: item.clone() for name, item in backbone.model.state_dict().items()}
    logits = backbone.model(ids).logits
    method = MemGen(backbone, MethodSettings(20, adapter=str(folder)))
    torch.testing.assert_close(backbone.model(ids).logits, logits, atol=0, rtol=0)  # the reasoner is frozen
    method.answer(QUERIES)
    method.close()
    after = backbone.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], item) for name, item in before.items())


def test_no_weave_leaves_the_positions(folder: Path) -> None:
    backbone = tiny_backbone(positions=40)
    method = MemGen(backbone, MethodSettings(0, adapter=str(folder)))
    query = Query("q", "x" * 27, ("y",), 12)  # 39 with the answer: no room for three latents
    plain = Vanilla(backbone, MethodSettings(0)).answer([query])[0].text
    assert method.answer([query])[0].text == plain
    method.close()


def test_training_s_loss_is_what_decoding_would_pay(backbone: Backbone) -> None:
    parts = shaken(backbone)
    shown = tuple(backbone.encode("what was said"))
    texts = (("a long prompt?", " yes, no.x\n"), ("b", " ok\n"), ("c, d", ",,,,\n"))
    pairs = tuple((tuple(backbone.encode(asked)), tuple(backbone.encode(told))) for asked, told in texts)
    assert [places(backbone.decode, answer, CONFIG) for _, answer in pairs] == [[0, 5, 9], [0], [0, 1, 2]]
    total, count = 0.0, 0
    with torch.no_grad():
        for before, (prompt, answer) in zip((shown, shown, ()), pairs, strict=True):
            stream, at = PlainStream(parts), places(backbone.decode, answer, CONFIG)
            stream.feed(parts.embed((*before, *prompt)))
            for index, token in enumerate(answer):
                if index in at:
                    stream.weave("inner" if index else "prompt")
                total -= float(stream.logits.log_softmax(-1)[0, token])
                count += 1
                stream.feed(parts.embed([token]))
        loss = weaving_loss(parts, backbone.decode, [Example((shown,), pairs[:2]), Example((), pairs[2:])])
    assert float(loss) == pytest.approx(total / count, abs=1e-4)
    parts.remove()


def test_training_learns_goes_into_the_weaver_alone_and_loads(backbone: Backbone, tmp_path: Path) -> None:
    examples = [Example(((1,),), (((40 + value, 7), (60 + value, 3)),)) for value in range(4)]
    settings = TrainSettings(steps=30, batch=4, lr=2e-2, save_every=30)
    before = {name: item.clone() for name, item in backbone.model.state_dict().items()}
    train_memgen(backbone.model, backbone.decode, CONFIG, Fixed(examples, 4, 0), settings, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    assert all(torch.equal(backbone.model.state_dict()[name], item) for name, item in before.items())
    parts = load_memgen(backbone.model, tmp_path)
    state = parts.state()
    assert all(state[name].abs().sum() > 0 for name in state if ".lora_B.weaver" in name)
    assert all(state[name].abs().sum() == 0 for name in state if ".lora_B.trigger" in name)
    parts.remove()


def test_a_training_that_diverges_leaves_room_for_the_next(backbone: Backbone, tmp_path: Path) -> None:
    source = Fixed([Example(((1,),), (((40, 7), (60, 3)),))], 1, 0)
    with pytest.raises(UserError, match="became"):
        train_memgen(
            backbone.model,
            backbone.decode,
            CONFIG,
            source,
            TrainSettings(steps=20, batch=1, lr=1e30),
            tmp_path / "wild",
        )
    names = set(dict(tiny_backbone().model.named_modules()))
    assert set(dict(backbone.model.named_modules())) == names
    settings = TrainSettings(steps=1, batch=1, lr=1e-3)
    train_memgen(backbone.model, backbone.decode, CONFIG, source, settings, tmp_path / "tame")


def test_parameters_of_the_paper_s_table_and_of_a_real_model(backbone: Backbone) -> None:
    shape = find_shape("Qwen3-4B-Instruct-2507")[1]
    assert MemGen.overhead(shape, {}).trainable == 46_198_788
    own = MemGenConfig(hidden=shape.hidden, rank=16, targets=("q_proj", "v_proj"))
    assert parameter_count(shape, own) == 24_965_124
    parts = shaken(backbone)
    assert sum(item.numel() for item in parts.state().values()) == parameter_count(backbone.shape(), CONFIG)
    parts.remove()


def test_bad_folders_are_refused_and_leave_nothing(backbone: Backbone, folder: Path) -> None:
    names = set(dict(backbone.model.named_modules()))

    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words):
            MemGen(backbone, MethodSettings(20, adapter=str(folder)))
        assert set(dict(backbone.model.named_modules())) == names

    with pytest.raises(UserError, match="--adapter"):
        MemGen(backbone, MethodSettings(20))
    text = (folder / "memgen.json").read_text()
    (folder / "memgen.json").write_text(text.replace('"hidden": 48', '"hidden": 64'))
    refused("hidden size 64")
    (folder / "memgen.json").write_text(text.replace('"rank": 2', '"rank": 4'))
    refused("do not fit")
    (folder / "memgen.json").write_text(text.replace("down_proj", "sideways_proj"))
    refused("no module named sideways_proj")
    (folder / "memgen.json").write_text(text[:20])
    refused("damaged")
    (folder / "memgen.safetensors").unlink()
    (folder / "memgen.json").write_text(text)
    refused("it needs")


def test_the_backbone_s_own_parameters_do_not_count_the_weaver(backbone: Backbone, folder: Path) -> None:
    before = sum(item.numel() for item in backbone.model.parameters())
    made = MemGen(backbone, MethodSettings(60, adapter=str(folder)))
    assert backbone.parameters() == before < sum(item.numel() for item in backbone.model.parameters())
    made.close()


def sampled(backbone: Backbone, folder: Path, seed: int = 0, **options: object) -> MemGen:
    """The method drawing its trigger's words, a context written."""
    given = {"trigger": "sample", **options}
    method = MemGen(backbone, MethodSettings(60, seed, adapter=str(folder), options=given))
    for chunk in CHUNKS:
        method.write(chunk)
    return method


@pytest.fixture
def triggered(backbone: Backbone, tmp_path: Path) -> Path:
    """A folder whose trigger decides after every token, always with the odds of one word in four."""
    parts = shaken(backbone, replace(CONFIG, trigger=True, most=50, delimiters=("",)))
    parts.weaving.head.weight.data.zero_()
    parts.weaving.head.bias.data = torch.tensor([0.0, -math.log(3)])
    parts.save(tmp_path / "triggered")
    parts.remove()
    return tmp_path / "triggered"


def test_a_drawn_trigger_s_word_depends_on_no_other_question(backbone: Backbone, triggered: Path) -> None:
    method = sampled(backbone, triggered)
    wanted = method.answer(QUERIES)
    assert method.answer(QUERIES[::-1])[::-1] == wanted
    assert [method.answer([query])[0] for query in QUERIES] == wanted
    method.close()
    for seed, cached, same in ((0, False, True), (0, True, True), (1, True, False)):
        again = sampled(backbone, triggered, seed, cached=cached)
        assert (again.answer(QUERIES) == wanted) is same
        again.close()


def test_a_trigger_s_words_are_drawn_by_its_probability_and_the_seed(
    backbone: Backbone, triggered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []
    plain = MemGenModel.wants

    def wants(parts: MemGenModel, hidden: torch.Tensor, bound: float = 0.0) -> bool:
        said.append(plain(parts, hidden, bound))
        return said[-1]

    monkeypatch.setattr(MemGenModel, "wants", wants)
    rounds = []
    for seed in (0, 1):
        method = sampled(backbone, triggered, seed, most=40)
        said.clear()
        method.answer([replace(query, max_new_tokens=80, stop=()) for query in QUERIES])
        method.close()
        rounds.append(list(said))
        assert len(said) > 100
        assert 0.15 < sum(said) / len(said) < 0.35
    assert rounds[0] != rounds[1]
    likelier = sampled(backbone, triggered, trigger="argmax")
    said.clear()
    likelier.answer(QUERIES)
    likelier.close()
    assert said
    assert not any(said)


def test_bounds_are_draws_of_the_logistic_distribution() -> None:
    assert logistic(0.0) == -math.inf
    assert logistic(0.5) == 0.0
    for odds in (-2.0, 0.3):
        share = 1 / (1 + math.exp(-odds))
        assert logistic(share - 1e-6) < odds < logistic(share + 1e-6)


def test_a_way_to_decide_that_is_none_or_has_no_trigger_is_refused(backbone: Backbone, folder: Path) -> None:
    names = set(dict(backbone.model.named_modules()))
    for option, words in (("mean", "must be argmax or sample, not 'mean'"), ("sample", "a trained trigger")):
        with pytest.raises(UserError, match=words):
            MemGen(backbone, MethodSettings(20, adapter=str(folder), options={"trigger": option}))
        assert set(dict(backbone.model.named_modules())) == names
