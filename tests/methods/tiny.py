"""A tiny random backbone with a byte-level tokenizer, made in a moment."""

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from deltamem_eval.backbone import Backbone
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<pad>": 0, "<eos>": 1, **{letter: index + 2 for index, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def tiny_config(family: str, **more: Any) -> Any:
    """The config of a small decoder of a family, with what else is given."""
    return AutoConfig.for_model(
        family,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        intermediate_size=64,
        vocab_size=258,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        **more,
    )


@cache
def _model(positions: int) -> AutoModelForCausalLM:
    torch.manual_seed(0)
    config = tiny_config("qwen3", max_position_embeddings=positions, tie_word_embeddings=False)
    return AutoModelForCausalLM.from_config(config)


def tiny_backbone(positions: int = 512, batch_size: int = 8) -> Backbone:
    """A random Qwen3-shaped backbone of its own; the weights are the same at every call."""
    return Backbone(deepcopy(_model(positions)), byte_tokenizer(), "tiny", "tiny", batch_size)
