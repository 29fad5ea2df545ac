"""Movie recommendations: titles, items of a reply and recall, by hand; the real catalogue where it is."""

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from deltamem_eval.errors import UnavailableError, UserError
from deltamem_eval.tasks.memory_agent_bench import recsys
from deltamem_eval.tasks.memory_agent_bench.hub import ENTITY_SHA256, REPOSITORY, REVISION
from deltamem_eval.tasks.memory_agent_bench.metrics import score
from deltamem_eval.tasks.memory_agent_bench.protocols import PROTOCOLS
from deltamem_eval.tasks.memory_agent_bench.recsys import Catalogue, items_of, load_catalogue, title_of
from deltamem_eval.tasks.memory_agent_bench.task import MemoryAgentBenchTask, RowsTask
from huggingface_hub.errors import LocalEntryNotFoundError
from rapidfuzz.distance import Levenshtein

from shared import shared

ENTITIES = {
    "<http://dbpedia.org/resource/Water_(1985_film)>": 0,
    "<http://dbpedia.org/resource/Face/Off>": 1,
    "<http://dbpedia.org/resource/12_Monkeys>": 2,
    "<http://dbpedia.org/resource/Spider-Man>": 3,
    "<http://dbpedia.org/resource/Heat_(1995_film)>": 4,
}


@pytest.mark.parametrize(
    ("uri", "wanted"),
    zip(ENTITIES, ("Water", "Off", "12 Monkeys", "Spider Man", "Heat"), strict=True),
)
def test_titles(uri: str, wanted: str) -> None:
    assert title_of(uri) == wanted


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("1.Heat (1995)\n2. Water\n3) Off\n4、Spider - Man", ["Heat", "Water", "Off", "Spider - Man"]),
        ("Sure! 1. Heat\n\n2. - Water", ["Heat", "", "Water"]),
        ("Heat, Water\nOff", ["Heat", "Water", "Off"]),
        ("1.12 Monkeys", ["Monkeys"]),  # as the official scorer has it: its number is taken for the item's
        ("", [""]),
    ],
)
def test_items(reply: str, wanted: list[str]) -> None:
    assert items_of(reply) == wanted


def test_recall_counts_the_first_titles_nearest_to_the_items() -> None:
    catalogue = Catalogue(ENTITIES)
    reply = "1. Heats\n2. Spyder Man\n3. x\n4. y\n5. z\n6. Watr"
    found = score("recsys_redial_full", reply, ["4", " 0"], catalogue)
    assert found == {"recsys_recall@1": 0.5, "recsys_recall@5": 0.5, "recsys_recall@10": 1.0}
    with pytest.raises(UserError, match="entity 77"):
        catalogue.recall(reply, ["77"])


def offline(*_: object, **__: object) -> str:
    raise LocalEntryNotFoundError("offline")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where our cache would hold the catalogue, with no other to be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(recsys.VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    (tmp_path / "cache" / "deltamem-eval").mkdir(parents=True)
    return tmp_path / "cache" / "deltamem-eval" / "entity2id.json"


def test_a_missing_or_broken_catalogue_is_said(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UnavailableError,
        match=rf"entity2id.json \(sha256 {ENTITY_SHA256}\) of .* at {REVISION[:12]}: go online once, "
        rf"or put it at {re.escape(str(own))}, or name it in DELTAMEM_EVAL_ENTITIES",
    ):
        load_catalogue()
    own.write_text(json.dumps(ENTITIES))
    with pytest.raises(
        UserError, match=rf"is not the benchmark's entity2id.json: .* expected {ENTITY_SHA256};"
    ):
        load_catalogue()
    monkeypatch.setattr(recsys, "ENTITY_SHA256", sha256(own.read_bytes()).hexdigest())
    assert load_catalogue().title("2") == "12 Monkeys"
    own.write_text("[1]")
    monkeypatch.setenv(recsys.VARIABLE, str(own))
    recsys._read.cache_clear()
    with pytest.raises(UserError, match="must map"):
        load_catalogue()
    own.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"entity2id\.json is nested too deeply"):
        load_catalogue()
    monkeypatch.setenv(recsys.VARIABLE, str(own.parent / "none"))
    with pytest.raises(UserError, match=r"none: no such file \(DELTAMEM_EVAL_ENTITIES names it\)"):
        load_catalogue()


def test_the_hub_s_copy_is_that_of_the_pinned_revision(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = own.parent / "blob"
    blob.write_text(json.dumps(ENTITIES))

    def cached(repository: str, name: str, *, repo_type: str, revision: str = "main") -> str | None:
        return str(blob) if (name, repo_type, revision) == ("entity2id.json", "dataset", REVISION) else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    with pytest.raises(UserError, match=r"blob is not the benchmark's"):
        load_catalogue()
    monkeypatch.setattr(recsys, "ENTITY_SHA256", sha256(blob.read_bytes()).hexdigest())
    assert load_catalogue().title("0") == "Water"


def test_as_a_last_resort_it_is_fetched_at_the_pinned_revision(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetched(*given: str, **more: str) -> str:
        asked.append((given, more))
        return str(blob)

    blob = own.parent / "blob"
    blob.write_text(json.dumps(ENTITIES))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetched)
    with pytest.raises(UserError, match=r"blob is not the benchmark's"):
        load_catalogue()
    assert asked == [((REPOSITORY, "entity2id.json"), {"repo_type": "dataset", "revision": REVISION})]
    monkeypatch.setattr(recsys, "ENTITY_SHA256", sha256(blob.read_bytes()).hexdigest())
    assert load_catalogue().title("0") == "Water"
    own.write_text(blob.read_text())
    load_catalogue()
    assert len(asked) == 2  # what is at hand is not asked for


@pytest.mark.parametrize("place", ["entity2id.json", "processed_data/Recsys_Redial/entity2id.json"])
def test_a_reply_is_scored_by_the_file_beside_the_work(
    place: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("recsys_redial_full", "1. Heat\n2. Water", ["4", "0"])
    with pytest.raises(UnavailableError, match="movie recommendations need a file more"):
        score(*given)
    Path(place).parent.mkdir(parents=True, exist_ok=True)  # the folder at work in is the fixture's
    Path(place).write_text(json.dumps(ENTITIES))
    with pytest.raises(UserError, match=rf"{place} is not the benchmark's"):
        score(*given)
    monkeypatch.setattr(recsys, "ENTITY_SHA256", sha256(Path(place).read_bytes()).hexdigest())
    assert score(*given)["recsys_recall@5"] == 1.0


def test_a_reply_is_scored_by_the_file_that_the_variable_names(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = own.parent.parent / "movies.json"
    file.write_text(json.dumps(ENTITIES))
    monkeypatch.setenv(recsys.VARIABLE, str(file))
    assert score("recsys_redial_full", "1. Heat", ["4", "0"])["recsys_recall@1"] == 0.5


ROW = {
    "context": "Dialogue 1: System: hi User: I like Heat.\n",
    "questions": ["User: what else?"],
    "answers": [["4", "0"]],
    "metadata": {"source": "recsys_redial_full"},
}


def test_tasks_ask_for_the_catalogue_before_they_run(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {**ROW, "answers": [["4"]], "metadata": {"source": "icl_x"}}
    file = Path("Test_Time_Learning.json")
    file.write_text(json.dumps([ROW, plain]))
    with pytest.raises(UserError, match=r"cannot get entity2id\.json .*--task-option sources=icl"):
        MemoryAgentBenchTask(".", "Test_Time_Learning")
    with pytest.raises(UserError, match=r"cannot get entity2id\.json .*take the recsys rows out of Test"):
        RowsTask(file)
    assert "catalogue" not in MemoryAgentBenchTask(".", "Test_Time_Learning", "icl").identity()
    own.write_text(json.dumps(ENTITIES))
    monkeypatch.setenv(recsys.VARIABLE, str(own))
    wanted = sha256(own.read_bytes()).hexdigest()
    for task in (MemoryAgentBenchTask(".", "Test_Time_Learning", "recsys"), RowsTask(file)):
        assert task.identity()["catalogue"] == wanted
    (query,) = next(task.episodes(0, None)).queries
    monkeypatch.delenv(recsys.VARIABLE)  # the task holds what it opened
    assert task.score(query, "\n1. Heat\n2. Water\n")["accuracy"] == 1.0


def test_a_catalogue_beside_the_data_is_taken_before_any_other(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = own.parent.parent / "snapshot"
    (snapshot / "data").mkdir(parents=True)
    beside = snapshot / "entity2id.json"
    beside.write_text(json.dumps(ENTITIES))
    own.write_text("{}")  # what would be found next
    wanted = sha256(beside.read_bytes()).hexdigest()
    monkeypatch.setattr(recsys, "ENTITY_SHA256", wanted)
    rows = snapshot / "data" / "Test_Time_Learning.json"
    rows.write_text(json.dumps([ROW]))
    monkeypatch.chdir(rows.parent)
    made = [
        RowsTask("Test_Time_Learning.json"),  # its folder's parent
        RowsTask(rows),
        MemoryAgentBenchTask(str(rows.parent), "Test_Time_Learning"),
    ]
    (snapshot / "Test_Time_Learning.json").write_text(json.dumps([ROW]))
    made.append(MemoryAgentBenchTask("..", "Test_Time_Learning"))  # the folder itself
    assert [task.identity()["catalogue"] for task in made] == [wanted] * 4
    beside.write_text(json.dumps({}))
    recsys._read.cache_clear()
    with pytest.raises(UserError, match=r"snapshot/entity2id\.json is not the benchmark's .*sources=icl"):
        MemoryAgentBenchTask(str(snapshot), "Test_Time_Learning")
    monkeypatch.setenv(recsys.VARIABLE, str(own))
    own.write_text(json.dumps(ENTITIES))
    assert RowsTask(rows).identity()["catalogue"] == wanted


def test_a_gold_that_stands_twice_counts_once_as_in_the_release(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.write_text(json.dumps(ENTITIES))
    monkeypatch.setenv(recsys.VARIABLE, str(own))
    file = own.parent / "rows.json"
    file.write_text(json.dumps([ROW | {"answers": [["4", "0", "4"]]}]))
    found = {}
    for protocol in PROTOCOLS:
        task = RowsTask(file, protocol)
        (query,) = next(task.episodes(0, None)).queries
        found[protocol] = task.score(query, "1. Heat")["accuracy"]
    assert found == {"isolated": 2 / 3, "official": 2 / 3, "delta-mem-release": 1 / 2}


def test_nearest_is_the_least_distance_over_the_whole_catalogue() -> None:
    file = shared("data", "redial", "entity2id.json")
    catalogue = load_catalogue(file)
    titles = sorted({title_of(uri) for uri in json.loads(file.read_text())})
    for text in ("Supr Troopers", "police academy", "xq zz 9", ""):
        least = min(Levenshtein.distance(text.lower(), title.lower()) for title in titles)
        wanted = next(title for title in titles if Levenshtein.distance(text.lower(), title.lower()) == least)
        assert catalogue.nearest(text) == wanted
