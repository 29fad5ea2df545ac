"""MLP Memory: arithmetic, targets against a plain loop, the mixture, and generation."""

import json
import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from deltamem_eval.backbone import Backbone
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.mlp_memory.config import MlpConfig, layer_at, parameter_count
from deltamem_eval.methods.mlp_memory.lessons import Lesson
from deltamem_eval.methods.mlp_memory.method import MlpMemoryMethod
from deltamem_eval.methods.mlp_memory.model import MlpMemory, load_mlp, mix
from deltamem_eval.methods.mlp_memory.tap import MlpProcessor, Tap
from deltamem_eval.methods.mlp_memory.targets import (
    Datastore,
    build_datastore,
    knn_targets,
    neighbours,
)
from deltamem_eval.methods.mlp_memory.train import distillation_loss, train_mlp, tune_weight
from deltamem_eval.methods.mlp_memory.tune import WEIGHTS, answer_costs, best_weight
from deltamem_eval.methods.training import Example, TrainSettings
from tiny import byte_tokenizer, tiny_backbone, tiny_config
from transformers import AutoModelForCausalLM

CONFIG = MlpConfig(hidden=48, intermediate=32, blocks=2, vocab=258, layer=1)


def random_memory(seed: int = 0) -> MlpMemory:
    torch.manual_seed(seed)
    memory = MlpMemory(CONFIG)
    for parameter in memory.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    return memory.eval().requires_grad_(False)


def test_counts_of_the_paper_s_table() -> None:
    assert parameter_count(2560, 9728, 36, 151936) == 3_078_648_320
    assert parameter_count(2560, 9728, 8, 151936) == 986_667_520
    assert sum(tensor.numel() for tensor in random_memory().parameters()) == parameter_count(48, 32, 2, 258)
    assert (layer_at(36), layer_at(4), layer_at(1)) == (24, 2, 0)


def store(tokens: int = 60) -> Datastore:
    generator = torch.Generator().manual_seed(3)
    return Datastore(
        torch.randn(tokens, 6, generator=generator), torch.randint(0, 5, (tokens,), generator=generator)
    )


def test_targets_equal_a_plain_loop() -> None:
    made, rows, count, temperature = store(), [0, 7, 59], 9, 2.0
    for row, (ids, mass) in zip(rows, knn_targets(made, rows, count, temperature), strict=True):
        listed = sorted(
            (float((made.keys[row] - key).square().sum()), index)
            for index, key in enumerate(made.keys)
            if index != row
        )[:count]
        total = sum(math.exp(-distance / temperature) for distance, _ in listed)
        wanted: defaultdict[int, float] = defaultdict(float)
        for distance, index in listed:
            wanted[int(made.values[index])] += math.exp(-distance / temperature) / total
        assert dict(zip(ids.tolist(), mass.tolist(), strict=True)) == pytest.approx(dict(wanted), abs=1e-4)


def test_a_duplicate_of_the_query_counts_but_the_query_does_not() -> None:
    keys = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]])
    _, places = neighbours(Datastore(keys, torch.tensor([1, 2, 3])), [0, 1], 1)
    assert places.tolist() == [[1], [0]]
    assert neighbours(Datastore(keys, torch.tensor([1, 2, 3])), [0], 99)[1].shape == (1, 2)


def test_loss_equals_the_dense_divergence_but_for_a_constant() -> None:
    made, rows, memory = store(), [1, 2, 3, 30], MlpMemory(MlpConfig(6, 4, 1, 5, 0))
    logs = torch.log_softmax(memory(made.keys[rows]), -1)
    dense = torch.zeros(len(rows), 5)
    for index, (ids, mass) in enumerate(knn_targets(made, rows, 8, 2.0)):
        dense[index, ids] = mass
    divergence = (dense * (dense.clamp(min=1e-12).log() - logs)).sum(-1).mean()
    entropy = -(dense * dense.clamp(min=1e-12).log()).sum(-1).mean()
    language = torch.nn.functional.cross_entropy(memory(made.keys[rows]), made.values[rows])
    wanted = 0.4 * (divergence + entropy) + 0.6 * language
    found = knn_targets(made, rows, 8, 2.0)
    lesson = Lesson(
        made.keys[rows],
        made.values[rows],
        torch.repeat_interleave(torch.tensor([len(ids) for ids, _ in found])),
        torch.cat([ids for ids, _ in found]),
        torch.cat([mass for _, mass in found]),
    )
    torch.testing.assert_close(distillation_loss(memory, lesson, 0.4), wanted)


def test_datastore_holds_feed_forward_inputs_and_next_tokens() -> None:
    model = tiny_backbone().model
    ids = [5, 9, 30, 31, 7]
    made = build_datastore(model, [ids, ids], 1, 6)
    assert made.values.tolist() == [9, 30, 31, 7, 9, 30]
    states = model.model(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    layer = model.model.layers[1]
    block = {}
    handle = layer.post_attention_layernorm.register_forward_hook(lambda *parts: block.update(out=parts[2]))
    model(torch.tensor([ids]))
    handle.remove()
    torch.testing.assert_close(made.keys[:4], block["out"][0, :-1].float())
    assert made.starts == {tuple(ids): 4}, "the later of two equal texts is the one that is known"
    assert len(states) == 4
    with pytest.raises(UserError, match="fewer than two"):
        build_datastore(model, [[1]], 1, 6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_mixture_of_probabilities(weight: float) -> None:
    a, b = torch.randn(3, 7), torch.randn(3, 7)
    wanted = (1 - weight) * a.softmax(-1) + weight * b.softmax(-1)
    torch.testing.assert_close(mix(a, b, weight).exp(), wanted)


def by_hand(backbone, memory: MlpMemory, weight: float, text: str, count: int) -> list[int]:
    """Greedy decoding without any cache, from the definition."""
    ids = backbone.encode(text)
    start, captured = len(ids), {}
    layer = backbone.model.model.layers[CONFIG.layer]
    handle = layer.mlp.register_forward_pre_hook(lambda module, given: captured.update(h=given[0]))
    for _ in range(count):
        logits = backbone.model(torch.tensor([ids])).logits[0, -1]
        own = memory(captured["h"][0, -1])
        chosen = ((1 - weight) * logits.softmax(-1) + weight * own.softmax(-1)).argmax()
        ids.append(int(chosen))
    handle.remove()
    return ids[start:]


def test_generation_equals_the_definition(tmp_path: Path) -> None:
    backbone, memory = tiny_backbone(), random_memory()
    memory.save(tmp_path)
    query = Query("q", "what is it?", ("x",), 6, ())
    for weight in (0.0, 0.5, 0.9):
        method = MlpMemoryMethod(
            backbone, MethodSettings(30, adapter=str(tmp_path), options={"weight": weight})
        )
        method.write(Chunk("a line of context in the window\n", 0))
        window = backbone.decode(backbone.encode("a line of context in the window\n")[-30:])
        answer = method.answer([query, Query("r", "and a longer second question?", ("x",), 6, ())])[0]
        ids = by_hand(backbone, memory, weight, window + "what is it?", 6)
        assert answer.text.strip() == backbone.decode(ids).strip()
        method.close()
    assert backbone.processors == []


def test_it_serves_transformers_own_generate() -> None:
    backbone, memory = tiny_backbone(), random_memory()
    tap = Tap(backbone.model, CONFIG.layer, last_only=True)
    ids = torch.tensor([backbone.encode("some text")])
    made = backbone.model.generate(
        ids,
        max_new_tokens=5,
        do_sample=False,
        eos_token_id=None,
        logits_processor=[MlpProcessor(tap, memory, 0.6)],
    )
    tap.remove()
    assert made[0, ids.shape[1] :].tolist() == by_hand(backbone, memory, 0.6, "some text", 5)


def test_training_learns_to_imitate_and_stores_its_weight(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    texts = [backbone.encode("the cat sat on the mat and the dog sat on the log. " * 3)]
    settings = TrainSettings(steps=60, batch=32, lr=1e-2)
    rows = []
    train_mlp(backbone.model, texts, CONFIG, settings, tmp_path, rows.append, neighbours=8)
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    record = tune_weight(
        backbone.model, tmp_path, [Example((), ((tuple(texts[0][:9]), tuple(texts[0][9:20])),))]
    )
    assert load_mlp(tmp_path).config.weight == record["chosen"]
    assert json.loads((tmp_path / "weight.json").read_text()) == record


@pytest.mark.parametrize("span", [None, 4], ids=["whole", "sliding"])
def test_answers_are_weighed_as_decoding_would_mix_them(span: int | None) -> None:
    backbone, memory = tiny_backbone(), random_memory()
    if span is not None:  # every question then has a row of its own
        torch.manual_seed(0)
        config = tiny_config("mistral", max_position_embeddings=512, sliding_window=span)
        model = AutoModelForCausalLM.from_config(config)
        backbone = Backbone(model, byte_tokenizer(), "tiny", "tiny", 8)
    examples = [Example(((5, 6), (7,)), (((8, 9), (10, 11)), ((3,), (4,)))), Example((), (((20,), (21,)),))]
    costs = answer_costs(backbone.model, memory, examples)
    assert set(costs) == {0.0, *WEIGHTS}
    tap = Tap(backbone.model, CONFIG.layer, last_only=True)
    for weight in (0.0, 0.4):
        total, count = 0.0, 0
        for example in examples:
            for prompt, answer in example.questions:
                ids = [token for message in example.messages for token in message] + list(prompt)
                for token in answer:
                    with torch.no_grad():
                        logits = backbone.model(torch.tensor([ids])).logits[:, -1]
                        scores = MlpProcessor(tap, memory, weight)(None, logits)
                    total -= float(scores[0, token])
                    ids.append(token)
                    count += 1
        assert costs[weight] == pytest.approx(total / count, abs=1e-4)
    tap.remove()
    assert best_weight({0.0: 0.1, 0.1: 0.4, 0.25: 0.3}) == 0.25  # 0 is vanilla, not a choice


def test_misfits_are_refused(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    MlpMemory(MlpConfig(40, 8, 1, 258, 1)).save(tmp_path / "narrow")
    MlpMemory(MlpConfig(48, 8, 1, 258, 9)).save(tmp_path / "deep")
    MlpMemory(CONFIG).save(tmp_path / "torn")
    (tmp_path / "torn" / "mlp_memory.safetensors").write_bytes(b"no")
    for name, words in (
        ("narrow", "hidden size 40"),
        ("deep", "layer 9"),
        ("torn", "damaged"),
        ("none", "no MLP memory"),
    ):
        with pytest.raises(UserError, match=words):
            MlpMemoryMethod(backbone, MethodSettings(30, adapter=str(tmp_path / name)))
    MlpMemory(CONFIG).save(tmp_path / "fine")
    with pytest.raises(UserError, match="between 0 and 1"):
        MlpMemoryMethod(backbone, MethodSettings(30, adapter=str(tmp_path / "fine"), options={"weight": 1.5}))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16),
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
    ],
)
def test_it_answers_in_a_half_precision_backbone_s_type(
    kind: torch.dtype, wanted: torch.dtype, tmp_path: Path
) -> None:
    stored = random_memory()
    stored.save(tmp_path)
    plain = tiny_backbone()
    backbone = Backbone(plain.model.to(kind), plain.tokenizer, "tiny", "tiny")
    method = MlpMemoryMethod(backbone, MethodSettings(30, adapter=str(tmp_path), options={"weight": 0.9}))
    tensors = list(method.trained_tensors())
    assert {tensor.dtype for tensor in tensors} == {wanted}
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert held == parameter_count(48, 32, 2, 258) * (4 if wanted == torch.float32 else 2)
    method._tap.input = torch.ones(1, 1, 48, dtype=kind)
    scores = method._processor(None, torch.zeros(1, 258, dtype=kind))
    assert scores.dtype == torch.float32
    exact = mix(torch.zeros(1, 258), stored(torch.ones(1, 48)), 0.9)
    torch.testing.assert_close(scores.exp(), exact.exp(), atol=0.02, rtol=0.1)
    assert method.answer([Query("q", "what?", ("x",), 3)])[0].status == "ok"
    method.close()


def test_loading_draws_no_weights_and_trains_in_single_precision(tmp_path: Path) -> None:
    stored = random_memory()
    stored.bfloat16().save(tmp_path)
    before = torch.random.get_rng_state()
    loaded = load_mlp(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    assert all(tensor.requires_grad for tensor in loaded.parameters())
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, stored.state_dict()[name].float())
