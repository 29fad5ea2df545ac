"""The official protocol in a run: the end of a context that a long-context agent keeps, and its accounts."""

import json
import re
from bisect import bisect_left
from pathlib import Path
from statistics import fmean

import pytest
import tiktoken
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Episode
from deltamem_eval.tasks.memory_agent_bench import task as module
from deltamem_eval.tasks.memory_agent_bench.counting import O200k, official_sentences
from deltamem_eval.tasks.memory_agent_bench.protocols import Limits, hand_over, official_tail
from deltamem_eval.tasks.memory_agent_bench.rows import load_rows
from deltamem_eval.tasks.memory_agent_bench.task import MemoryAgentBenchTask, RowsTask
from deltamem_eval.tasks.memory_agent_bench.templates import store_prompts
from deltamem_eval.tokens import last_tokens
from hypothesis import given
from hypothesis import strategies as st
from tiny import byte_tokenizer

from miniature import write_checkout
from shared import shared

NAME = "factconsolidation_sh_6k"  # 10 tokens an answer


class Words:
    """Counts words, for a backbone of `positions` of them."""

    name = "words"

    def __init__(self, positions: int) -> None:
        self.positions = positions

    def length(self, text: str) -> int:
        return len(text.split())

    def last(self, text: str, tokens: int) -> str:
        starts = [match.start() for match in re.finditer(r"\S+", text)]
        return text if len(starts) <= tokens else text[starts[-tokens] :]


@pytest.fixture(autouse=True)
def _counted_by_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "official_counter", lambda: None)
    monkeypatch.setattr(module, "official_sentences", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def row(context: str, name: str = NAME) -> dict:
    return {
        "context": context,
        "questions": ["Where does Ann live?", "Where does Zoe live?"],
        "answers": [["Oslo"], ["Rome"]],
        "metadata": {"source": name},
    }


def made(
    tmp_path: Path, rows: list[dict], positions: int, **options: object
) -> tuple[RowsTask, list[Episode]]:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    task = RowsTask(file, protocol="official", **options)
    task.prepare(Words(positions))
    return task, list(task.episodes(0, None))


def test_the_end_is_kept_to_the_token(tmp_path: Path) -> None:
    context = "Ann lives in Oslo.\nBob lives in Bern.\nZoe lives in Rome."
    task, (whole,) = made(tmp_path, [row(context)], 1000)
    assert whole.context.startswith("Dialogue of user")
    assert [query.metadata["context_cut"] for query in whole.queries] == [0.0, 0.0]
    assert [query.metadata["tokens_cut"] for query in whole.queries] == [0.0, 0.0]
    assert [query.metadata["gold_survives"] for query in whole.queries] == [1.0, 1.0]
    after = 11  # words of what closes a turn
    task, (cut,) = made(tmp_path, [row(context)], 10 + after + 6, buffer=0)
    assert cut.context.startswith("in Bern. Zoe lives in Rome.\nAssistant: ")
    assert cut.context.endswith("about them.\n")
    kept = len("in Bern. Zoe lives in Rome.") / len(context)
    assert [query.metadata["context_cut"] for query in cut.queries] == [pytest.approx(1 - kept)] * 2
    assert [query.metadata["tokens_cut"] for query in cut.queries] == [pytest.approx(1 - 6 / 12)] * 2
    assert [query.metadata["gold_survives"] for query in cut.queries] == [0.0, 1.0]
    limits = {"input_limit": 10 + after + 6, "buffer": 0, "counted_by": "words's tokenizer"}
    limits |= {"sentences_by": "punkt's defaults"}
    assert limits.items() <= task.identity().items()


@given(st.integers(1, 400), st.integers(1, 6))
def test_pieces_are_the_end_of_the_whole_memory(words: int, sentences: int) -> None:
    context = " ".join(f"Fact {number} is true." for number in range(sentences * 9))
    counter = Words(0)
    whole = hand_over("official", NAME, context, lambda text: 1000 * counter.length(text))
    cut = hand_over(
        "official",
        NAME,
        context,
        lambda text: 1000 * counter.length(text),
        Limits(words + 10, 0, counter.last),
    )
    assert len(whole.pieces) > 1
    assert "".join(whole.pieces).endswith("".join(cut.pieces))
    assert counter.length("".join(cut.pieces)) == min(words, counter.length("".join(whole.pieces)))
    assert whole.text.endswith(cut.text)
    letters = len(context.replace(" ", ""))
    assert 1 - cut.cut >= len(cut.text.replace(" ", "")) / letters - 0.1
    assert (cut.cut == 0.0) == (cut.text == whole.text)


def test_a_limit_far_above_the_source_s_own_cuts_nothing(tmp_path: Path) -> None:
    context = "Ann lives in Oslo. " * 2000  # 8,000 words, above the 6,000 of the source
    _, (whole,) = made(tmp_path, [row(context)], 60_000)
    assert whole.queries[0].metadata["context_cut"] == 0.0
    _, (cut,) = made(tmp_path, [row(context)], 56_010 + 1750)
    assert official_tail(NAME, 56_010 + 1750, 1750) == 6000
    assert len(cut.context.split()) == 6000
    _, (ours,) = made(tmp_path, [row(context, "embedded_updates")], 100)
    assert ours.queries[0].metadata["context_cut"] == 0.0  # the benchmark has no limit for it


def test_what_is_kept_free_by_default(tmp_path: Path) -> None:
    for positions, buffer in ((128_000, 4000), (1_000_000, 4000), (2048, 64), (20, 0)):
        task, _ = made(tmp_path, [row("Ann lives in Oslo.")], positions)
        assert (task.identity()["input_limit"], task.identity()["buffer"]) == (positions, buffer)
    task, _ = made(tmp_path, [row("Ann lives in Oslo.")], 512, input_limit=300)
    assert (task.identity()["input_limit"], task.identity()["buffer"]) == (300, 9)
    with pytest.raises(
        UserError, match=r"10 tokens, less a buffer of 0 and 10 for the answer, leave none.*buffer=N"
    ):
        made(tmp_path, [row("Ann lives in Oslo.")], 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"protocol": "isolated", "buffer": 5},
            "option buffer belongs to --protocol official, not to isolated",
        ),
        ({"protocol": "official", "buffer": -1}, "buffer must be a whole number of tokens from 0 on, not -1"),
        (
            {"protocol": "official", "input_limit": 0},
            "input_limit must be a whole number of tokens from 1 on",
        ),
        ({"protocol": "official", "input_limit": "many"}, "not 'many'"),
        ({"protocol": "official", "input_limit": True}, "not True"),
        ({"protocol": "official", "chunk_size": 0}, "chunk_size must be a whole number of tokens from 1 on"),
        ({"protocol": "isolated", "chunk_size": 512}, "option chunk_size belongs to --protocol official"),
        ({"prompts": "theirs"}, "unknown prompts 'theirs': known: official, "),
        ({"prompts": "official"}, "data import-prompts CHECKOUT"),
    ],
)
def test_options_that_cannot_be(options: dict, words: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([row("Ann lives in Oslo.")]))
    with pytest.raises(UserError, match=words):
        RowsTask(tmp_path / "rows.json", **options)
    with pytest.raises(UserError, match=words):
        MemoryAgentBenchTask(str(tmp_path), "Conflict_Resolution", **options)


def test_the_size_of_chunks_is_an_option_and_part_of_the_identity(tmp_path: Path) -> None:
    rows = [row("Ann lives in Oslo. Bob lives in Bern. Zoe lives in Rome.")]
    usual, (whole,) = made(tmp_path, rows, 1000)
    small, (parts,) = made(tmp_path, rows, 1000, chunk_size=8)
    assert (len(whole.chunks), len(parts.chunks)) == (1, 2)
    assert "Ann lives in Oslo. Bob lives in Bern.\n" in parts.chunks[0].text
    assert (usual.identity()["chunk_size"], small.identity()["chunk_size"]) == (4096, 8)
    assert {name for name, value in usual.identity().items() if small.identity()[name] != value} == {
        "chunk_size"
    }


def test_imported_prompts_are_in_the_episodes_and_the_identity(tmp_path: Path) -> None:
    from deltamem_eval.tasks.memory_agent_bench.checkout import read_checkout

    prompts = read_checkout(write_checkout(tmp_path / "checkout"))
    store_prompts(prompts)
    rows = [row("Ann lives in Oslo.\nZoe lives in Rome.")]
    task, (episode,) = made(tmp_path, rows, 500, prompts="official")
    assert task.system == "You keep notes."
    assert [chunk.text for chunk in episode.chunks] == [
        "Noted 2026-01-01 00:00:00\\n[me] these are factconsolidation: \n"
        "Ann lives in Oslo. Zoe lives in Rome.\n [you] kept.\n"
    ]
    assert (
        episode.queries[0].prompt == "Reply to factconsolidation, as short as can be. Where does Ann live? =>"
    )
    assert task.identity()["prompts"] == {"name": "official", "templates": prompts.hash}
    rag, (asked,) = made(tmp_path, rows, 500, prompts="official-rag")
    assert asked.queries[0].prompt == "Look it up in factconsolidation: Where does Ann live? =>"
    assert rag.identity() != task.identity()
    _, (cut,) = made(tmp_path, rows, 19, prompts="official", buffer=0)
    assert cut.chunks[0].text == "lives in Oslo. Zoe lives in Rome.\n [you] kept.\n"
    assert [query.metadata["gold_survives"] for query in cut.queries] == [0.0, 1.0]
    with pytest.raises(UserError, match="no templates for embedded_updates sources"):
        made(tmp_path, [row("Ann lives in Oslo.", "embedded_updates")], 500, prompts="official")


def english_model(folder: Path) -> None:
    """Punkt's English model as nltk keeps it, with one abbreviation."""
    place = folder / "tokenizers" / "punkt_tab" / "english"
    place.mkdir(parents=True)
    (place / "abbrev_types.txt").write_text("dr\n")
    for name in ("collocations.tab", "sent_starters.txt", "ortho_context.tab"):
        (place / name).write_text("")


def test_sentences_are_found_by_the_english_model_where_nltk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "official_sentences", official_sentences)
    monkeypatch.setattr("nltk.data.path", [str(tmp_path / "nltk")])
    rows = [row("We met Dr. Ann. She lives in Oslo.")]
    plain, (cut,) = made(tmp_path, rows, 500, chunk_size=3)
    assert plain.identity()["sentences_by"] == "punkt's defaults"
    assert ["Dr.\n" in chunk.text for chunk in cut.chunks] == [True, False, False]
    english_model(tmp_path / "nltk")
    task, (whole,) = made(tmp_path, rows, 500, chunk_size=4)
    assert task.identity()["sentences_by"] == "punkt_tab/english"
    assert "We met Dr. Ann.\n" in whole.chunks[0].text
    (tmp_path / "nltk" / "tokenizers" / "punkt_tab" / "english" / "abbrev_types.txt").unlink()
    assert official_sentences() is None  # a part of it is missing


def test_own_prompts_without_a_cut_are_the_cells_they_were(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row("Ann lives in Oslo.")]))
    task = RowsTask(file)
    task.prepare(Words(100))
    assert set(task.identity()) == {"file", "sha256", "protocol", "prompts"}
    assert (task.identity()["prompts"], task.system) == (1, "")


@given(st.text(), st.integers(0, 40))
def test_last_tokens_are_the_tokenizer_s_own(text: str, tokens: int) -> None:
    tokenizer = byte_tokenizer()
    found = last_tokens(tokenizer, text, tokens, "tiny")
    assert text.endswith(found)
    if len(text.encode()) <= tokens:
        assert found == text
    else:
        assert tokens <= len(found.encode()) < tokens + 4  # a character that is cut in two stays whole
        assert len(found.encode()) == tokens or len(found[0].encode()) > 1


def test_a_tokenizer_without_places_is_refused() -> None:
    with pytest.raises(UserError, match="old's tokenizer does not tell where its tokens stand"):
        last_tokens(object(), "text", 3, "old")


def test_the_official_tokenizer_s_end(tmp_path: Path) -> None:
    ranks = {bytes([number]): number for number in range(256)}
    special = {"<|endoftext|>": 256, "<|endofprompt|>": 257}
    bytewise = tiktoken.Encoding("bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens=special)
    counter = O200k(bytewise)
    text = "Zoë ate<|endoftext|>fish"
    assert counter.length(text) == len("Zoë ate".encode()) + 1 + 4
    assert [counter.last(text, most) for most in (4, 5, 99)] == ["fish", "<|endoftext|>fish", text]
    assert counter.length("<|endofprompt|>") == len("<|endofprompt|>")  # it is plain text
    assert counter.last("Zoë", 1) == ""  # half a character is none
    assert counter.last("Zoë", 0) == ""


def test_the_real_rows_lose_their_oldest_facts(tmp_path: Path) -> None:
    rows = load_rows(shared("data", "memoryagentbench", "Conflict_Resolution.json"))
    long = next(item for item in rows if item["metadata"]["source"] == "factconsolidation_sh_262k")
    some = {name: long[name][:25] for name in ("questions", "answers")}
    long = {**long, **some, "metadata": {"source": long["metadata"]["source"]}}
    _, (episode,) = made(tmp_path, [long], 64_000, buffer=0)
    assert len(episode.context.split()) == 63_990
    facts = long["context"].splitlines()[1:]
    first = bisect_left(facts, True, key=lambda fact: fact in episode.context)
    assert facts[first - 1] not in episode.context
    newest = [
        max(int(text.split(".")[0]) for text in query.metadata["evidence"]) for query in episode.queries
    ]
    survives = [query.metadata["gold_survives"] for query in episode.queries]
    assert survives == [float(serial >= first) for serial in newest]
    assert 0.1 < fmean(survives) < 0.9
    cut = len("\n".join(facts[:first])) / len(long["context"])
    assert episode.queries[0].metadata["context_cut"] == pytest.approx(cut, abs=0.001)
