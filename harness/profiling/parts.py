"""Trained parts with random weights: folders of the right names and shapes, where nothing was trained.

A part is made on the backbone it is for. On device `meta` its file is hollow: a header and a hole, which
takes no room and reads as zeros.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError
from deltamem_eval.profiling.random_models import SEED

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from torch import Tensor

    Maker = Callable[[Backbone, Path], None]

_KINDS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64"}
# XLM-RoBERTa large, the size of Microsoft's LLMLingua-2 classifier: 559 million parameters.
_CLASSIFIER = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "vocab_size": 250_002,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}


def make_part(method: str, backbone: Backbone, folder: Path) -> None:
    """Write random trained weights of a method's default sizes for this backbone to `folder`, whole or not
    at all.

    Raises UserError for a method whose weights are not known here.
    """
    import torch

    maker = _MAKERS.get(method)
    if maker is None:
        raise UserError(f"no random weights are known for {method}: give --adapter FOLDER")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        made.mkdir()
        with torch.random.fork_rng(), backbone.device:
            torch.manual_seed(SEED)
            maker(backbone, made)
        made.rename(folder)


def _delta_mem(method: str, backbone: Backbone, folder: Path) -> None:
    from deltamem_eval.methods.delta_mem.adapter import CONFIG_FILE, SAFETENSORS_FILE
    from deltamem_eval.methods.delta_mem.hooks import attach, attachment_of, detach
    from deltamem_eval.methods.delta_mem.method import POLICIES

    config = POLICIES[method].adapter_config()
    attach(backbone.model, config)
    state = {
        f"{path}.{name}": tensor
        for path, memory in attachment_of(backbone.model).memories.items()
        for name, tensor in memory.named_parameters()
    }
    detach(backbone.model)
    _write(folder / CONFIG_FILE, config.to_json())
    save_tensors(state, folder / SAFETENSORS_FILE)


def _context2lora(backbone: Backbone, folder: Path) -> None:
    from deltamem_eval.methods.context2lora.lora import WEIGHTS, Lora, strip_place
    from deltamem_eval.methods.context2lora.method import Context2Lora

    defaults = Context2Lora.defaults
    lora = Lora.fresh(backbone.model, defaults["rank"], tuple(defaults["targets"].split(",")))
    backbone.model.peft_config["default"].save_pretrained(str(folder))
    strip_place(folder)
    # peft's files name no adapter; its modules do.
    save_tensors(
        {name.replace(".default.", "."): tensor for name, tensor in lora.state().items()}, folder / WEIGHTS
    )
    lora.remove()


def _memgen(backbone: Backbone, folder: Path) -> None:
    from deltamem_eval.methods.memgen.config import MemGenConfig
    from deltamem_eval.methods.memgen.model import CONFIG_FILE, WEIGHTS_FILE, MemGenModel

    config = MemGenConfig(hidden=backbone.shape().hidden)
    parts = MemGenModel(backbone.model, config)
    _write(folder / CONFIG_FILE, asdict(config))
    save_tensors(parts.state(), folder / WEIGHTS_FILE)
    parts.remove()


def _mlp_memory(backbone: Backbone, folder: Path) -> None:
    from deltamem_eval.methods.mlp_memory.config import MlpConfig, layer_at
    from deltamem_eval.methods.mlp_memory.model import CONFIG_FILE, WEIGHTS_FILE, MlpMemory

    shape = backbone.shape()
    config = MlpConfig(shape.hidden, shape.intermediate, shape.layers, shape.vocab, layer_at(shape.layers))
    _write(folder / CONFIG_FILE, asdict(config))
    save_tensors(MlpMemory(config).state_dict(), folder / WEIGHTS_FILE)


def _classifier(backbone: Backbone, folder: Path) -> None:
    """A token classifier for llmlingua2, which reads with the embedded classifier's tokenizer."""
    from deltamem_eval.methods.llmlingua2.method import EMBEDDED, classifier_path
    from transformers import AutoConfig, AutoModelForTokenClassification

    source = classifier_path(EMBEDDED)
    config = AutoConfig.from_pretrained(source)
    config.update(_CLASSIFIER)
    model = AutoModelForTokenClassification.from_config(config)  # type: ignore[no-untyped-call]
    config.save_pretrained(folder)
    shutil.copy(Path(source) / "tokenizer_config.json", folder)
    _fill_vocabulary(Path(source) / "tokenizer.json", folder / "tokenizer.json", config.vocab_size)
    save_tensors(model.state_dict(), folder / "model.safetensors")


def _fill_vocabulary(source: Path, target: Path, size: int) -> None:
    """A tokenizer with so many tokens: the package cuts the classifier's embeddings to its tokenizer's."""
    value = json.loads(source.read_text(encoding="utf-8"))
    vocab = value["model"]["vocab"]
    vocab.update({f"[unused{number}]": number for number in range(len(vocab), size)})
    target.write_text(json.dumps(value), encoding="utf-8")


_MAKERS: Mapping[str, Maker] = {
    "token-write": lambda backbone, folder: _delta_mem("token-write", backbone, folder),
    "sequence-write": lambda backbone, folder: _delta_mem("sequence-write", backbone, folder),
    "multi-write": lambda backbone, folder: _delta_mem("multi-write", backbone, folder),
    "context2lora": _context2lora,
    "memgen": _memgen,
    "mlp-memory": _mlp_memory,
    "llmlingua2": _classifier,
}


def save_tensors(state: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file; tensors of device `meta` become holes of their size."""
    from safetensors.torch import save_file

    if any(tensor.device.type == "meta" for tensor in state.values()):
        _save_hollow(state, file)
    else:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, file)


def _save_hollow(state: Mapping[str, Tensor], file: Path) -> None:
    """The format's header (its length in 8 bytes, then JSON) and nothing written behind it."""
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in state.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        kind = _KINDS[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)


def _write(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
