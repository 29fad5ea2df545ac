"""Contexts of an exact length, whatever the tokenizer does to words."""

from deltamem_eval.profiling.workload import workload


def by_letters(text: str) -> list[int]:
    """A tokenizer whose words are one to four tokens long."""
    return [token for word in text.split() for token in range(1 + len(word) // 4)] + [0] * text.count("\n")


def by_threes(text: str) -> list[int]:
    """A tokenizer that reaches no length but multiples of three."""
    return [0, 0, 0] * len(text.split())


def test_lengths_are_exact_line_by_line() -> None:
    for tokens in (1, 2, 63, 64, 65, 1000):
        made = workload(by_letters, tokens, 4, seed=1)
        assert sum(len(by_letters(chunk.text)) for chunk in made.chunks) == made.tokens == tokens
        assert made.query.max_new_tokens == 4
        assert made.query.stop == ()
    assert [chunk.index for chunk in made.chunks] == list(range(len(made.chunks)))


def test_seeds_differ_and_repeat() -> None:
    texts = [[chunk.text for chunk in workload(by_letters, 500, 4, seed).chunks] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_a_length_out_of_reach_is_told() -> None:
    assert workload(by_threes, 100, 4, 0).tokens == 99
    assert workload(by_threes, 2, 4, 0).chunks == ()
