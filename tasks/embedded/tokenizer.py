"""The embedded tokenizer: byte-level BPE that keeps each word of the world whole and encodes any text."""

from __future__ import annotations

import json
from typing import Any

from deltamem_eval.tasks.embedded import words
from deltamem_eval.tasks.embedded.episodes import all_words

PAD, EOS = "<pad>", "<eos>"
_MERGES = 160


def build_tokenizer() -> Any:
    """A tokenizer with the 256 bytes, merges learnt from the world's words, and those words whole.

    A word that is in the vocabulary is taken as it is (`ignore_merges`); any other is merged from its bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = level
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + _MERGES, initial_alphabet=alphabet, show_progress=False
    )
    known = all_words()
    base.train_from_iterator([f" {word}" for word in known], trainer)
    learnt = json.loads(base.to_str())["model"]
    tokens = [PAD, EOS, *sorted(learnt["vocab"], key=learnt["vocab"].get)]
    openings = {opening.split()[0] for opening in words.OPENINGS} | {"question"}
    spaced = {level.pre_tokenize_str(f" {word}")[0][0] for word in known}
    tokens += sorted((spaced | openings) - set(tokens))
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[tuple(pair) for pair in learnt["merges"]],
        ignore_merges=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS)
