"""One declarative table: what each source of MemoryAgentBench, or of the embedded tasks, is."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from deltamem_eval.errors import UserError

CATEGORIES = (
    "accurate-retrieval",
    "test-time-learning",
    "long-range-understanding",
    "selective-forgetting",
)
_RETRIEVAL, _LEARNING, _RANGE, _FORGETTING = CATEGORIES


@dataclass(frozen=True)
class Source:
    """A family of sources, by the prefix of their names.

    primary: the metric the benchmark reports. parsed_only: whether the parsed reply alone is scored, or the
    better of raw and parsed. new_tokens: the official generation budget. judged: the benchmark scores it
    with a language model. short: whether an answer is one line.
    """

    prefix: str
    category: str
    primary: str
    new_tokens: int
    parsed_only: bool = False
    judged: bool = False
    short: bool = True

    @property
    def family(self) -> str:
        """The family's bare name."""
        return self.prefix.removesuffix("_")


SOURCES = (
    Source("ruler_qa", _RETRIEVAL, "substring_exact_match", 50),
    Source("longmemeval_", _RETRIEVAL, "substring_exact_match", 50, judged=True),
    Source("eventqa_", _RETRIEVAL, "substring_exact_match", 40, parsed_only=True),
    Source("icl_", _LEARNING, "exact_match", 20, parsed_only=True),
    Source("recsys_", _LEARNING, "recsys_recall@5", 300, short=False),
    Source("infbench_sum", _RANGE, "f1", 1200, judged=True, short=False),
    Source("detective_", _RANGE, "exact_match", 2000, short=False),
    Source("factconsolidation_", _FORGETTING, "substring_exact_match", 10),
    Source("live_", _LEARNING, "substring_exact_match", 12),
    Source("qasper", _RETRIEVAL, "f1", 128, short=False),
    Source("embedded_codes", _RETRIEVAL, "exact_match", 6, parsed_only=True),
    Source("embedded_labels", _LEARNING, "exact_match", 6, parsed_only=True),
    Source("embedded_rules", _LEARNING, "exact_match", 6, parsed_only=True),
    Source("embedded_preferences", _LEARNING, "exact_match", 6, parsed_only=True),
    Source("embedded_topics", _RANGE, "exact_match", 6, parsed_only=True),
    Source("embedded_updates", _FORGETTING, "exact_match", 6, parsed_only=True),
)


def source_of(name: str) -> Source:
    """The family of a source's name, which may be the family's own, as `icl`.

    Raises UserError for a name no family claims; of ∞Bench only the summaries are the benchmark's.
    """
    for source in SOURCES:
        if name.startswith(source.prefix) or name == source.family:
            return source
    known = ", ".join(source.prefix for source in SOURCES)
    raise UserError(f"unknown source '{name}': its name must begin with one of {known}")


# Tokens of a context that the official long-context agents are given at most.
_LONGEST = {
    "ruler_qa1*": 220_000,
    "ruler_qa2*": 524_288,
    "longmemeval_s_-1_500": 150_000,
    "longmemeval_*": 400_000,
    "eventqa_65536": 65_536,
    "eventqa_131072": 131_072,
    "eventqa_full": 800_000,
    "icl_*": 131_072,
    "recsys_*": 1_480_000,
    "infbench_*": 1_200_000,
    "detective_*": 200_000,
    "factconsolidation_*_6k": 6_000,
    "factconsolidation_*_32k": 32_768,
    "factconsolidation_*_64k": 65_536,
    "factconsolidation_*_262k": 300_000,
}


def longest_of(name: str) -> int | None:
    """The official limit of a source's contexts in tokens; None where it has none."""
    return next((limit for pattern, limit in _LONGEST.items() if fnmatchcase(name, pattern)), None)
