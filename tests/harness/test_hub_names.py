"""Every method on tiny random models in the hub's own layout, by name, without a network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deltamem_eval.interface import Episode
from deltamem_eval.methods.training import TrainSettings
from deltamem_eval.registry import METHODS
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from deltamem_eval.trainers import TRAINERS
from tiny import byte_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLASSIFIER = "microsoft/llmlingua-2-xlm-roberta-large-meetingbank"
EMBEDDER = "sentence-transformers/tiny-random"
BACKBONES = {"tiny/qwen3": "qwen3", "tiny/smollm3": "smollm3"}
WINDOW = 60


def rows() -> list[dict]:
    return [
        {
            "context": "".join(
                f"{n}. The city of person {n} is number {n * 7 + index}.\n" for n in range(12)
            ),
            "questions": [f"What is the city of person {n}?" for n in range(2)],
            "answers": [[str(n * 7 + index)] for n in range(2)],
            "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b"]},
        }
        for index in range(2)
    ]


def put(cache: Path, name: str, folder: Path) -> None:
    """Move a saved model into a hub cache."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    shutil.move(folder, place / "snapshots" / COMMIT)


def save_backbone(kind: str, folder: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        hidden_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        intermediate_size=64,
        vocab_size=258,
        max_position_embeddings=1024,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def word_pieces() -> PreTrainedTokenizerFast:
    """A Unigram tokenizer of single characters with XLM-R's special tokens and word-beginning marks."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = ["▁", *map(chr, range(33, 127))]
    pieces = [(token, 0.0) for token in special] + [(letter, -1.0) for letter in letters]
    pieces += [(f"▁{letter}", -1.5) for letter in letters[1:]]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Replace("\n", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    marks = dict(zip(names, special, strict=True), cls_token="<s>", sep_token="</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)


def save_classifier(folder: Path) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaForTokenClassification

    torch.manual_seed(0)
    tokenizer = word_pieces()
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=514,
        type_vocab_size=1,
        num_labels=2,
    )
    XLMRobertaForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_embedder(folder: Path) -> None:
    sentence = pytest.importorskip("sentence_transformers")
    from transformers import BertConfig, BertModel

    plain = folder.with_name("plain")
    torch.manual_seed(0)
    tokenizer = word_pieces()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=48,
    )  # fmt: skip
    BertModel(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    sentence.SentenceTransformer(str(plain), device="cpu").save(str(folder))


def episodes() -> list[Episode]:
    return [episode_from_row(row, split="t", index=index) for index, row in enumerate(rows())]


def run(cache: Path, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deltamem_eval.cli.main", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache of backbones, Microsoft's classifier and an embedder, all tiny and random."""
    root = tmp_path_factory.mktemp("hub")
    for name, kind in BACKBONES.items():
        save_backbone(kind, root / "made")
        put(root / "cache", name, root / "made")
    for name, save in ((CLASSIFIER, save_classifier), (EMBEDDER, save_embedder)):
        save(root / "made")
        put(root / "cache", name, root / "made")
    (root / "rows.json").write_text(json.dumps(rows()))
    return root / "cache"


def job(cache: Path, name: str, out: Path) -> list[object]:
    base = ["--model", name, "--rows", cache.parent / "rows.json", "--window", WINDOW, "--out", out]
    return [*base, "--no-controls", "--quiet", "--json"]


def check(done: subprocess.CompletedProcess[str], names: set[str]) -> None:
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert {row["method"]["value"] for row in table["rows"]} == names
    assert all(row["not_ok"]["value"] == "0" and row["accuracy"]["n"] == 4 for row in table["rows"])


@pytest.mark.parametrize("name", BACKBONES)
def test_methods_without_an_adapter(name: str, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("llmlingua")
    options = ("classifier=" + CLASSIFIER, "embedder=" + EMBEDDER, "summary_tokens=8")
    flags = [part for option in options for part in ("--option", option)]
    methods = "vanilla,bm25-rag,llmlingua2,memorybank"
    done = run(cache, tmp_path, *job(cache, name, tmp_path / "out"), "--method", methods, *flags)
    names = {
        "vanilla",
        "bm25-rag",
        "llmlingua2 (classifier llmlingua-2-xlm-roberta-large-meetingbank)",
        "memorybank (embedder tiny-random)",
    }
    check(done, names)
    cells = [json.loads(file.read_text()) for file in (tmp_path / "out").rglob("cell.json")]
    assert {cell["identity"]["weights"] for cell in cells} == {f"{name}@{COMMIT}"}
    parts = {name: value for cell in cells for name, value in cell["identity"]["parts"].items()}
    assert parts == {"classifier": f"{CLASSIFIER}@{COMMIT}", "embedder": f"{EMBEDDER}@{COMMIT}"}


@pytest.mark.parametrize("method", [*TRAINERS, "context2lora (per-context)"])
def test_methods_with_trained_parts(method: str, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    name, _, mode = method.partition(" ")
    more: list[object] = ["--option", "mode=per-context", "--option", "steps=3"]
    label = method
    if not mode:
        from deltamem_eval.backbone import load_backbone
        from deltamem_eval.methods.delta_mem import detach

        snapshot = cache / "models--tiny--qwen3" / "snapshots" / COMMIT
        backbone = load_backbone(str(snapshot), "cpu", "float32")
        settings = TrainSettings(steps=2, batch=2, lr=1e-3, write_length=256)
        TRAINERS[name](backbone, episodes(), settings, tmp_path / "adapter", lambda _: None)
        detach(backbone.model)
        trained = METHODS.load(name).adapter_hash(str(tmp_path / "adapter"))
        put(cache, f"tiny/{name}", tmp_path / "adapter")
        more = ["--adapter", f"tiny/{name}"]
        label = METHODS.load(name).label({})
    done = run(cache, tmp_path, *job(cache, "tiny/qwen3", tmp_path / "out"), "--method", name, *more)
    check(done, {label})
    if not mode:
        cells = [json.loads(file.read_text()) for file in (tmp_path / "out").rglob("cell.json")]
        assert {cell["identity"]["adapter"] for cell in cells} == {trained}
        assert json.loads((tmp_path / "out" / "run.json").read_text())["request"]["adapter"] == f"tiny/{name}"


@pytest.mark.parametrize(
    ("method", "option", "words"),
    [
        ("memorybank", "embedder=sentence-transformers/absent", "cannot load the embedder"),
        ("llmlingua2", "classifier=microsoft/absent", "cannot load the classifier"),
        ("context2lora", "targets=q_proj,gate_out", "no module named gate_out"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    method: str, option: str, words: str, cache: Path, tmp_path: Path
) -> None:
    more = ["--option", option] + (["--option", "mode=per-context"] if method == "context2lora" else [])
    done = run(cache, tmp_path, *job(cache, "tiny/qwen3", tmp_path / "out"), "--method", method, *more)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("tiny/absent", "is no such folder, the local hub cache lacks it, and the hub cannot be reached"),
        ("absent", "no adapter at absent: there is no such folder"),
        ("runs/made/adapter", "no adapter at runs/made/adapter: there is no such folder"),
        ("rows.json", "it is a file"),
    ],
)
def test_an_adapter_that_is_not_there_is_told_before_the_model_is_loaded(
    adapter: str, words: str, cache: Path, tmp_path: Path
) -> None:
    base = list(job(cache, "tiny/no-such-model", tmp_path / "out"))
    done = run(cache, cache.parent, *base, "--method", "token-write", "--adapter", adapter)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_window_too_small_for_a_method(cache: Path, tmp_path: Path) -> None:
    base = list(job(cache, "tiny/qwen3", tmp_path / "out"))
    base[base.index(WINDOW)] = 7
    for method in ("bm25-rag", "llmlingua2", "memorybank"):
        done = run(cache, tmp_path, *base, "--method", method)
        assert done.returncode == 2
        assert done.stderr.strip().endswith(
            f"{method} needs a window of at least 16 tokens, or 0: 7 is too small"
        )
        assert not (tmp_path / "out").exists()
