"""Protocols: what methods are given of a context, by hand and on the real rows."""

import hashlib
import json
import re
from pathlib import Path
from statistics import fmean

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench import hub
from deltamem_eval.tasks.memory_agent_bench import task as module
from deltamem_eval.tasks.memory_agent_bench.metrics import release_correct, release_f1
from deltamem_eval.tasks.memory_agent_bench.protocols import (
    CLIP,
    MARKER,
    PROTOCOLS,
    clip_middle,
    hand_over,
    official_chunks,
    official_tail,
    own_turn,
)
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row, load_rows
from deltamem_eval.tasks.memory_agent_bench.sources import SOURCES, source_of
from deltamem_eval.tasks.memory_agent_bench.task import MemoryAgentBenchTask, RowsTask
from deltamem_eval.tokens import Counter
from hypothesis import given
from hypothesis import strategies as st

from shared import shared


def words(text: str) -> int:
    return len(text.split())


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 12))
def test_chunks_hold_every_sentence_in_order_and_as_many_as_fit(sizes: list[int], most: int) -> None:
    sentences = [" ".join([f"w{index}"] * size) or "." for index, size in enumerate(sizes)]
    chunks = official_chunks(sentences, words, most)
    assert " ".join(chunk for chunk in chunks if chunk) == " ".join(sentences)
    held = [chunk for chunk in chunks if chunk]
    assert all(words(chunk) <= most or words(chunk) in map(words, sentences) for chunk in held)
    first_is_long = bool(sentences) and words(sentences[0]) > most
    assert (chunks[:1] == [""]) == first_is_long


def test_a_chunk_closes_before_the_sentence_that_would_not_fit() -> None:
    assert official_chunks(["a b", "c d", "e"], words, 4) == ["a b c d", "e"]
    assert official_chunks(["a b", "c d", "e"], words, 3) == ["a b", "c d e"]


def test_the_middle_is_cut_a_third_from_the_start() -> None:
    text = "".join(chr(97 + index % 26) for index in range(100))
    assert clip_middle(text, 100) == text
    assert clip_middle(text, 91) == text[:20] + MARKER + text[-40:]


def test_the_release_s_cut_is_120_000_characters_with_its_mark() -> None:
    assert len(MARKER) == 31
    text = "".join(chr(97 + index % 26) for index in range(CLIP + 1))
    assert clip_middle(text[:-1]) == text[:-1]
    clipped = clip_middle(text)
    assert len(clipped) == CLIP
    assert clipped == text[:39_989] + MARKER + text[-79_980:]


def test_white_space_at_the_seams_of_the_cut_is_left_out() -> None:
    text = " " + "x" * 17 + "  " + "y" * 40 + "\n " + "z" * 37 + " "
    assert clip_middle(text, 91) == " " + "x" * 17 + MARKER + "z" * 37 + " "


@pytest.mark.parametrize(
    ("name", "limit", "buffer", "wanted"),
    [
        ("factconsolidation_sh_6k", 128_000, 4_000, None),
        ("factconsolidation_sh_262k", 128_000, 4_000, 123_990),
        ("icl_banking77_5900shot_balance", 128_000, 4_000, 123_980),
        ("eventqa_full", 1_000_000, 10_000, None),
        ("eventqa_full", 850_000, 10_000, 800_000),
        ("embedded_codes", 10, 0, None),
        ("longmemeval_s_-1_500", 128_000, 4_000, 123_950),
        ("longmemeval_s_-1_500", 200_000, 4_000, 150_000),
        ("longmemeval_s_-1_500", 250_000, 4_000, None),
        ("longmemeval_s*", 430_000, 4_000, 400_000),
    ],
)
def test_the_official_tail(name: str, limit: int, buffer: int, wanted: int | None) -> None:
    assert official_tail(name, limit, buffer) == wanted


def row(context: str) -> dict:
    return {
        "context": context,
        "questions": ["Who?", "Where?"],
        "answers": [["Ada"], ["Paris"]],
        "metadata": {"source": "ruler_qa1_197K", "qa_pair_ids": ["a", "b"]},
    }


def test_what_survives_the_cut_is_on_record() -> None:
    filler = "x" * 60_000 + "\n"
    context = f"Ada was there.\n{filler}It was Paris.\n{filler}{filler}"
    episode = episode_from_row(row(context), split="s", index=0, protocol="delta-mem-release")
    assert [query.metadata["gold_survives"] for query in episode.queries] == [1.0, 0.0]
    cut = episode.queries[0].metadata["context_cut"]
    assert cut == pytest.approx(1 - (CLIP - len(MARKER)) / len(context))
    assert episode.context.startswith("Ada was there.\n")
    assert MARKER in episode.context
    whole = episode_from_row(row(context), split="s", index=0)
    assert [query.metadata["gold_survives"] for query in whole.queries] == [1.0, 1.0]
    assert whole.queries[0].metadata["context_cut"] == whole.queries[0].metadata["tokens_cut"] == 0.0
    assert whole.queries[0].prompt != episode.queries[0].prompt
    assert "tokens_cut" not in episode.queries[0].metadata  # nothing counts tokens


def test_what_the_release_cuts_is_told_in_the_backbone_s_tokens(tmp_path: Path) -> None:
    few, many = "x" * 60_000, " ".join("y" * 30_000)  # one word and 30,000 in as many characters
    texts = [f"{few}\n{many}\n{few}\nend", "short " * 10]
    (tmp_path / "rows.json").write_text(json.dumps([row(text) for text in texts]))
    counted: list[str] = []

    class Words(Counter):
        def length(self, text: str) -> int:
            counted.append(text)
            return len(text.split())

    task = RowsTask(tmp_path / "rows.json", protocol="delta-mem-release")
    task.prepare(Words("words", 1000))
    cut, whole = task.episodes(0, None)
    head, tail = clip_middle(texts[0]).split(MARKER)
    wanted = 1 - (len(head.split()) + len(tail.split())) / len(texts[0].split())
    assert cut.queries[0].metadata["tokens_cut"] == pytest.approx(wanted)
    assert cut.queries[0].metadata["tokens_cut"] > 1.9 * cut.queries[0].metadata["context_cut"]
    assert whole.queries[0].metadata["tokens_cut"] == 0.0
    assert texts[1] not in counted  # where nothing is cut nothing is counted


def test_the_mark_s_own_words_answer_nothing() -> None:
    filler = "x" * 60_000 + "\n"
    made = row(f"{filler}the middle part\n{filler}{filler}") | {"answers": [["the middle part"], ["x"]]}
    episode = episode_from_row(made, split="s", index=0, protocol="delta-mem-release")
    assert "the middle part" in episode.context
    assert [query.metadata["gold_survives"] for query in episode.queries] == [0.0, 1.0]


def test_official_turns_hold_the_chunks() -> None:
    handed = hand_over("official", "ruler_qa1_197K", "One two three. Four five.\n\nSix seven.", words)
    assert len(handed.pieces) == 1
    assert "One two three. Four five. Six seven." in handed.pieces[0]
    assert handed.pieces[0].startswith("Dialogue of user and assistant, 2026-01-01 00:00:00\n")


def test_a_dated_conversation_has_no_time_stamp_of_ours() -> None:
    assert own_turn(source_of("longmemeval_s*")) == (
        "Dialogue of user and assistant\nUser: this is the conversation:\n",
        "\nAssistant: I have memorized it and will answer questions about it.",
    )
    for source in SOURCES:
        before, after = own_turn(source)
        assert ("these are" in before) == ("about them." in after)
        assert (", 2026-01-01 00:00:00\n" in before) == (source.prefix != "longmemeval_")


@pytest.mark.parametrize(
    ("reply", "golds", "wanted"),
    [
        ("label: 43", ["4"], 1.0),  # the release's false positive
        ("The U.S.", ["u s"], 1.0),
        ("c_b", ["b"], 1.0),
        ("c_b", ["c b"], 0.0),  # an underscore is a word's
        ("(a) b-c!", ["b c"], 1.0),
        ("I don't know", ["Paris"], 0.0),
        ("", [""], 0.0),
        ("Paris\nor not", ["paris"], 1.0),
    ],
)
def test_correct_as_the_release_has_it(reply: str, golds: list[str], wanted: float) -> None:
    assert release_correct(reply, golds) == wanted


@pytest.mark.parametrize(
    ("reply", "golds", "wanted"),
    [
        ("the red-fox", ["red fox"], 1.0),
        ("red fox\nand much more besides", ["red fox"], 1.0),  # its first line
        ("yes", ["yes it is"], 2 / 4),  # no rule for yes and no
        ("blue", ["red", "blue sky"], 2 / 3),
        ("", ["red"], 0.0),
    ],
)
def test_token_f1_as_the_release_has_it(reply: str, golds: list[str], wanted: float) -> None:
    assert release_f1(reply, golds) == pytest.approx(wanted)


def test_token_f1_of_the_release_is_the_official_one_to_the_bit() -> None:
    assert release_f1("a1 b1 c1 d1", ["a1 b1 x1"]) == 0.5714285714285715


def test_summaries_count_by_the_release_s_f1_under_its_protocol(tmp_path: Path) -> None:
    made = row("A book.") | {
        "questions": ["Sum up."],
        "answers": [["yes it is"]],
        "metadata": {"source": "infbench_sum_eng_shots2"},
    }
    (tmp_path / "rows.json").write_text(json.dumps([made]))
    found = {}
    for protocol in PROTOCOLS:
        task = RowsTask(tmp_path / "rows.json", protocol)
        (query,) = next(task.episodes(0, None)).queries
        found[protocol] = task.score(query, "yes")["accuracy"]
    assert found == {"isolated": 0.0, "official": 0.0, "delta-mem-release": 0.5}


def test_only_isolated_answers_end_at_a_line_break_and_official_ones_keep_white_space(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([row("Ada was in Paris.")]))
    stops, right, versions = {}, {}, {}
    for protocol in PROTOCOLS:
        task = RowsTask(tmp_path / "rows.json", protocol)
        query, _ = next(task.episodes(0, None)).queries
        stops[protocol] = query.stop
        right[protocol] = task.score(query, "\nAda")["exact_match"]
        versions[protocol] = task.identity().get("protocol_version")
    assert stops == {"isolated": ("\n",), "official": (), "delta-mem-release": ()}
    assert right == {"isolated": 1.0, "official": 1.0, "delta-mem-release": 1.0}  # the raw reply counts too
    assert versions == {"isolated": None, "official": 3, "delta-mem-release": 3}
    icl = row("a\nlabel: 4\n") | {"answers": [["4"], ["3"]], "metadata": {"source": "icl_x"}}
    (tmp_path / "rows.json").write_text(json.dumps([icl]))
    for protocol, wanted in (("isolated", 1.0), ("official", 0.0), ("delta-mem-release", 1.0)):
        task = RowsTask(tmp_path / "rows.json", protocol)
        query, _ = next(task.episodes(0, None)).queries
        assert task.score(query, "\n4")["exact_match"] == wanted  # nothing stands on the first line


def test_the_protocol_decides_accuracy_and_identity(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    icl = row("a?\nlabel: 4\n" * 3) | {"metadata": {"source": "icl_x"}, "answers": [["4"], ["3"]]}
    file.write_text(json.dumps([icl]))
    ours, release = RowsTask(file), RowsTask(file, "delta-mem-release")
    (query, _) = next(ours.episodes(0, None)).queries
    assert ours.score(query, "label: 43")["accuracy"] == 0.0
    assert release.score(query, "label: 43")["accuracy"] == 1.0
    assert ours.identity() != release.identity()
    with pytest.raises(UserError, match="did you mean official"):
        RowsTask(file, "oficial")


def test_splits_come_from_a_folder_and_sources_are_chosen(tmp_path: Path) -> None:
    one, two = row("Ada in Paris."), row("Facts.") | {"metadata": {"source": "factconsolidation_sh_6k"}}
    (tmp_path / "Accurate_Retrieval.json").write_text(json.dumps([one]))
    (tmp_path / "Conflict_Resolution.json").write_text(json.dumps([two]))
    names = "Accurate_Retrieval,Conflict_Resolution"
    task = MemoryAgentBenchTask(str(tmp_path), names)
    assert [episode.id for episode in task.episodes(0, None)] == [
        "Accurate_Retrieval/0",
        "Conflict_Resolution/0",
    ]
    chosen = MemoryAgentBenchTask(str(tmp_path), names, "factconsolidation_sh")
    assert [episode.id for episode in chosen.episodes(0, None)] == ["Conflict_Resolution/0"]
    with pytest.raises(UserError, match="unknown source 'nothing'"):
        MemoryAgentBenchTask(str(tmp_path), names, "nothing")
    assert set(task.identity()["sha256"]) == set(names.split(","))
    assert task.identity()["revision"] is None  # no checksum says that they are the benchmark's
    with pytest.raises(UserError, match="holds no Test_Time_Learning: expected one of"):
        MemoryAgentBenchTask(str(tmp_path))
    for prefix in ("factconsolidation", "fact"):
        (found,) = MemoryAgentBenchTask(str(tmp_path), names, prefix).episodes(0, None)
        assert found.id == "Conflict_Resolution/0"
    for listed in ("icl_", "ruler_qa1,icl_", "ruler,icl_,fact"):
        with pytest.raises(
            UserError, match="is of 'icl_'; there are ruler_qa1_197K, factconsolidation_sh_6k"
        ):
            MemoryAgentBenchTask(str(tmp_path), names, listed)


def written(folder: Path, split: str) -> Path:
    """A parquet file of one row under a split's name."""
    import pyarrow as pa
    from pyarrow import parquet

    file = folder / f"{split}.parquet"
    parquet.write_table(pa.Table.from_pylist([row("x")]), file)
    return file


@pytest.mark.parametrize("split", [split.split for split in hub.SPLITS])
def test_a_parquet_file_of_another_version_is_refused(split: str, tmp_path: Path) -> None:
    written(tmp_path, split)
    with pytest.raises(UserError, match=rf"is not the pinned data/{split}.*sha256"):
        MemoryAgentBenchTask(str(tmp_path), split)


def pinned(monkeypatch: pytest.MonkeyPatch, split: str, file: Path) -> None:
    """Take a file for the benchmark's own of a split."""
    own = hub.SplitFile(split, "", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(module, "SPLITS", tuple(own if one.split == split else one for one in hub.SPLITS))


def test_a_damaged_file_in_the_hub_s_cache_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "Accurate_Retrieval")
    pinned(monkeypatch, "Accurate_Retrieval", file)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(file))
    assert MemoryAgentBenchTask(splits="Accurate_Retrieval").identity()["revision"] == hub.REVISION
    with file.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(UserError, match=r"expected [0-9a-f]{16}…; delete it and download it again"):
        MemoryAgentBenchTask(splits="Accurate_Retrieval")


def test_the_revision_is_named_where_every_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned(monkeypatch, "Accurate_Retrieval", written(tmp_path, "Accurate_Retrieval"))
    (tmp_path / "Conflict_Resolution.json").write_text(json.dumps([row("x")]))
    found = [
        MemoryAgentBenchTask(str(tmp_path), splits).identity()["revision"]
        for splits in ("Accurate_Retrieval", "Conflict_Resolution", "Accurate_Retrieval,Conflict_Resolution")
    ]
    assert found == [hub.REVISION, None, None]


def test_every_split_has_a_checksum() -> None:
    assert len({split.sha256 for split in hub.SPLITS}) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", split.sha256) for split in hub.SPLITS)


def test_offline_and_not_cached_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def absent(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", absent)
    with pytest.raises(UserError, match=rf"sha256 24d5.*at {hub.REVISION[:12]}.*path=FOLDER"):
        MemoryAgentBenchTask(splits="Conflict_Resolution")


def test_the_release_s_cut_on_the_real_rows() -> None:
    found = {}
    for index, item in enumerate(load_rows(shared("data", "memoryagentbench", "Conflict_Resolution.json"))):
        episode = episode_from_row(item, split="cr", index=index, protocol="delta-mem-release")
        lines = episode.context.splitlines()
        facts = set(item["context"].splitlines()[1:]) & set(lines)
        numbered = [line for line in lines if re.match(r"\d+\. ", line)]
        assert len(episode.context) == min(len(item["context"]), CLIP)  # no white space is at its seams
        found[episode.source] = (
            len(facts),
            len(numbered),
            fmean(query.metadata["gold_survives"] for query in episode.queries),
        )
    assert found["factconsolidation_sh_6k"] == (455, 455, 1.0)
    # Fact 668 loses its value to the cut.
    assert found["factconsolidation_sh_262k"] == (1969, 1970, pytest.approx(0.11))
    assert found["factconsolidation_mh_262k"] == (1969, 1970, pytest.approx(0.47, abs=0.02))
