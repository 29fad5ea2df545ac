"""The builders by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from deltamem_eval.errors import unknown
from deltamem_eval.tasks.builders import corpora, icl
from deltamem_eval.tasks.builders.common import Builder, Built, Settings
from deltamem_eval.tasks.builders.corpora import Corpus
from deltamem_eval.tasks.builders.live import live
from deltamem_eval.tasks.builders.mquake import factconsolidation


def _labelled(
    stem: str, read: Callable[[Sequence[Path]], Corpus]
) -> Callable[[Sequence[Path], Settings], Built]:
    def make(paths: Sequence[Path], settings: Settings) -> Built:
        return icl.build(stem, read(paths), settings)

    return make


BUILDERS = {
    "banking77": Builder(
        "77 intents of bank customers",
        "train.csv and test.csv (text,category)",
        _labelled("banking77", corpora.banking77),
    ),
    "clinc150": Builder(
        "150 intents and out of scope", "data_full.json", _labelled("clinic150", corpora.clinc150)
    ),
    "nlu": Builder(
        "64 intents of a home assistant",
        "a fold's train and test CSV, or a folder of train/ and test/ with seq.in and label",
        _labelled("nlu", corpora.nlu),
    ),
    "trec-coarse": Builder(
        "6 classes of questions",
        "train_5500.label and TREC_10.label",
        _labelled("trec_coarse", corpora.trec_coarse),
    ),
    "trec-fine": Builder(
        "50 classes of questions",
        "train_5500.label and TREC_10.label",
        _labelled("trec_fine", corpora.trec_fine),
    ),
    "factconsolidation": Builder(
        "numbered facts with updates, single-hop and multi-hop",
        "MQuAKE's .json files of cases",
        factconsolidation,
    ),
    "live": Builder("dated dialogues with rules, preferences and corrections", "", live),
}


def find(name: str) -> Builder:
    """The builder of that name. Raises UserError, with the nearest names, where there is none."""
    if name not in BUILDERS:
        raise unknown("source", name, BUILDERS)
    return BUILDERS[name]
