"""Models, configs and tokenizers that cannot be loaded: one line, with the pip command of what is missing."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.backbone import embedded_folder, load_backbone
from deltamem_eval.errors import UserError
from deltamem_eval.estimate import Meter
from deltamem_eval.tokens import Counter, why
from transformers import AutoModelForCausalLM
from transformers.utils import requires_backends
from transformers.utils.quantization_config import QuantizationMethod


@pytest.mark.parametrize(("method", "package"), [("awq", "gptqmodel"), ("gptq", "optimum")])
def test_a_quantized_model_names_the_package_it_lacks(method: str, package: str, tmp_path: Path) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    shutil.copytree(embedded_folder() / "backbone", tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    quantized = {"quantization_config": {"quant_method": method, "bits": 4}}
    file.write_text(json.dumps(json.loads(file.read_text()) | quantized))
    with pytest.raises(UserError, match=rf"^cannot load model '.*requires {package}.*pip install {package}"):
        load_backbone(str(tmp_path / "model"), "cpu", "float32")


def test_quantized_weights_that_cannot_be_moved_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    load = AutoModelForCausalLM.from_pretrained

    def eight_bit(*where: Any, **how: Any) -> Any:
        model = load(*where, **how)
        model.quantization_method, model.is_loaded_in_8bit = QuantizationMethod.BITS_AND_BYTES, True
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", eight_bit)
    with pytest.raises(UserError, match=r"^cannot put model 'embedded' on cpu: .*pip install bits") as told:
        load_backbone("embedded", "cpu", "float32")
    assert "smaller model" not in str(told.value)


def lacking(*_: Any, **__: Any) -> None:
    """What transformers does where a tokenizer's package is not installed."""
    requires_backends(type("SlowTokenizer", (), {}), ["sentencepiece"])


@pytest.mark.parametrize(
    ("part", "load", "told"),
    [
        ("AutoTokenizer", lambda: Counter("embedded", 512).tokenizer, "load the tokenizer of"),
        ("AutoTokenizer", lambda: load_backbone("embedded", "cpu", "float32"), "load model"),
        ("AutoConfig", lambda: Meter("embedded"), "load the tokenizer and config of"),
    ],
)
def test_a_tokenizer_names_the_package_it_lacks(
    part: str, load: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("sentencepiece") is not None:
        pytest.skip("sentencepiece is installed")
    monkeypatch.setattr(f"transformers.{part}.from_pretrained", lacking)
    with pytest.raises(UserError) as refused:
        load()
    assert str(refused.value) == (
        f"cannot {told} 'embedded': SlowTokenizer requires the SentencePiece library but it was not found in "
        "your environment (pip install sentencepiece)"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("no such repository\nlog in first"), "no such repository"),
        (ValueError(""), "ValueError"),
        (ImportError("It requires a. Install it with `pip install a`"), "It requires a (pip install a)"),
        (ImportError("It requires b (`pip install b`)"), "It requires b (`pip install b`)"),
        (
            ImportError("\nIt requires c. Run:\n```\npip install c>=1\n```\n"),
            "It requires c (pip install c>=1)",
        ),
        (ImportError("It needs d. Run pip install d. Then go on"), "It needs d (pip install d)"),
        (ModuleNotFoundError("No tiktoken"), "No tiktoken (pip install tiktoken)"),
        (ImportError("cannot import name 'a' from 'b'"), "cannot import name 'a' from 'b'"),
    ],
)
def test_why_is_one_line(error: Exception, line: str) -> None:
    assert why(error) == line
