"""The llmlingua package's compressor over any local token classifier: no network, no remote code."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from deltamem_eval.errors import UserError
from safetensors import SafetensorError, safe_open

# The package tells word beginnings by the model's name: the family's own stands for any folder.
_FAMILIES = {"bert": "bert-base-multilingual-cased", "xlm-roberta": "xlm-roberta-large"}
_HEAD = "classifier.weight"
_SEQUENCE = 512  # the package pads every chunk to this many positions


class Compressor(Protocol):
    """Text to compressed text."""

    def __call__(self, text: str, target_tokens: int, forced: str) -> str:
        """Keep the words most worth keeping, about `target_tokens` backbone tokens of them.

        forced: characters that are always kept.
        """


class _Counter:
    """Stands where the package expects OpenAI's tokenizer: budgets are then in backbone tokens."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self.encode = encode


def load_compressor(classifier: str, encode: Callable[[str], list[int]], device: str) -> Compressor:
    """A compressor from a hub name or a folder; random states are left as they were.

    encode: the backbone's tokenizer. Raises UserError for a model that is not to be had or is damaged, is no
    classifier of two labels, has no trained head, or is of a family the package cannot read.
    """
    try:
        from llmlingua import PromptCompressor
    except ImportError:
        raise UserError(
            "llmlingua2 needs the llmlingua package: pip install 'deltamem-eval[llmlingua2]'"
        ) from None
    family = _check(classifier)

    class LocalCompressor(PromptCompressor):  # type: ignore[misc]
        """The package's class without its constructor, which asks the network for a tokenizer."""

        def __init__(self) -> None:
            self.use_llmlingua2, self.use_slingua = True, False
            self.retrieval_model = self.retrieval_model_name = None
            self.open_api_config: dict[str, Any] = {}
            self.cache_bos_num, self.prefix_bos_num = 10, 100
            with random_states_kept():
                self.load_model(classifier, device, {"trust_remote_code": False})
                self.model_name = family
                self.oai_tokenizer = _Counter(encode)
                self.model.eval()
                self.init_llmlingua2()

    try:
        made = LocalCompressor()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"cannot load the classifier '{classifier}': {_first_line(error)}") from None
    _check_head(classifier, made.model)

    def compress(text: str, target_tokens: int, forced: str) -> str:
        if not text.strip():
            return text
        with random_states_kept():  # its data loader draws a seed for every text
            found = made.compress_prompt_llmlingua2(
                [text],
                target_token=target_tokens,
                force_tokens=list(forced),
                drop_consecutive=True,
            )
        return tidy(found["compressed_prompt"], text)

    return compress


def tidy(compressed: str, original: str) -> str:
    """Undo the package's joining of words by spaces where the original had none: before a line's end, and
    before its first word.
    """
    text = compressed.replace(" \n", "\n").strip(" ")
    return f" {text}" if original.startswith(" ") and not text.startswith("\n") else text


def _check(classifier: str) -> str:
    """The package's name for the classifier's family. Raises UserError where it cannot serve."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(classifier, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the classifier '{classifier}': {_first_line(error)}") from None
    if config.model_type not in _FAMILIES:
        raise UserError(
            f"the classifier '{classifier}' is a {config.model_type}; LLMLingua-2 reads "
            f"{' and '.join(_FAMILIES)} classifiers"
        )
    if not any("ForTokenClassification" in name for name in config.architectures or []):
        raise UserError(f"'{classifier}' is no token classifier: its config names {config.architectures}")
    if config.num_labels != 2:
        raise UserError(
            f"the classifier '{classifier}' has {config.num_labels} labels; LLMLingua-2 needs two: drop, keep"
        )
    least = _SEQUENCE + (2 if config.model_type == "xlm-roberta" else 0)
    if config.max_position_embeddings < least:
        raise UserError(
            f"the classifier '{classifier}' has {config.max_position_embeddings} positions; "
            f"LLMLingua-2 needs at least {least}"
        )
    return _FAMILIES[config.model_type]


def _check_head(classifier: str, model: Any) -> None:
    """Raises UserError where the checkpoint has no head of the model's shape: the package would load it with
    a random one. Checkpoints in parts or of other kinds than safetensors are taken as they are.
    """
    from transformers.utils.hub import cached_file

    file = cached_file(classifier, "model.safetensors", _raise_exceptions_for_missing_entries=False)
    if file is None:
        return
    with safe_open(file, "pt") as weights:
        found = weights.get_slice(_HEAD).get_shape() if _HEAD in weights.keys() else None  # noqa: SIM118
    wanted = list(model.classifier.weight.shape)
    if found != wanted:
        raise UserError(
            f"the classifier '{classifier}' has no trained head: {_HEAD} is {found or 'missing'}, not "
            f"{wanted}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put Python's, numpy's and torch's random states and cuDNN's flags back afterwards."""
    python, arrays, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(tensors)
        if devices:
            torch.cuda.set_rng_state_all(devices)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags
