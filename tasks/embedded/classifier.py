"""The embedded compressor: a tiny BERT, trained on the generator, tells which words of a context to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deltamem_eval.tasks.embedded import words
from deltamem_eval.tasks.embedded.episodes import all_words
from torch import Tensor, nn

DROP, KEEP, IGNORED = 0, 1, -100
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def labelled_words(line: str) -> list[tuple[str, int]]:
    """A context line's words, each with KEEP or DROP: filler, openings and closings are dropped."""
    text = line.strip()
    opening = next(
        (item for item in sorted(words.OPENINGS, key=len, reverse=True) if text.startswith(item)), ""
    )
    rest = text[len(opening) :].strip()
    closing = next((item for item in words.CLOSINGS if item and rest.endswith(item)), "")
    core = rest[: len(rest) - len(closing)].strip()
    label = DROP if core in words.FILLER else KEEP
    return [
        *((word, DROP) for word in opening.split()),
        *((word, label) for word in core.split()),
        *((word, DROP) for word in closing.split()),
    ]


def build_classifier_tokenizer() -> Any:
    """WordPiece over the world's words, whole, and all printable characters for any other."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    listed = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *all_words()]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(listed))}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=tokenizer, **dict(zip(names, _SPECIAL, strict=True)))


def new_classifier(tokenizer: Any) -> Any:
    """A random BERT of two layers, width 128, with two labels; 512 positions, as the package needs."""
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=512,
        id2label={DROP: "drop", KEEP: "keep"},
        label2id={"drop": DROP, "keep": KEEP},
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForTokenClassification(config)


def token_loss(model: Any, tokenizer: Any, contexts: Sequence[str]) -> Tensor:
    """Mean cross-entropy of keep and drop over all pieces of the contexts' words."""
    ids, labels = _batch(tokenizer, contexts)
    logits = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def _batch(tokenizer: Any, contexts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids and labels [contexts, tokens]; every piece of a word bears the word's label."""
    rows = [_pieces(tokenizer, context) for context in contexts]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor([piece for piece, _ in row])
        labels[index, : len(row)] = torch.tensor([label for _, label in row])
    return ids, labels


def _pieces(tokenizer: Any, context: str) -> list[tuple[int, int]]:
    found = [(tokenizer.cls_token_id, IGNORED)]
    for line in context.splitlines():
        for word, label in labelled_words(line):
            found += [(piece, label) for piece in tokenizer.encode(word, add_special_tokens=False)]
    return [*found[:511], (tokenizer.sep_token_id, IGNORED)]
