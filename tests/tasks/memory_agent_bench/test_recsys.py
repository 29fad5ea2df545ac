"""Movie recommendations: titles, items of a reply and recall, by hand; the real catalogue where it is."""

import json
from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench import recsys
from deltamem_eval.tasks.memory_agent_bench.metrics import score
from deltamem_eval.tasks.memory_agent_bench.recsys import Catalogue, items_of, load_catalogue, title_of
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
    found = score("recsys_redial_full", reply, ["4", "0"], catalogue)
    assert found == {"recsys_recall@1": 0.5, "recsys_recall@5": 0.5, "recsys_recall@10": 1.0}
    with pytest.raises(UserError, match="entity 77"):
        catalogue.recall(reply, ["77"])


def test_a_missing_or_broken_catalogue_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(recsys, "VARIABLE", "NOWHERE")
    with pytest.raises(UserError, match=r"entity2id.json \(sha256 63353aca481bc955…\): put it at"):
        load_catalogue()
    (tmp_path / "cache" / "deltamem-eval").mkdir(parents=True)
    (tmp_path / "cache" / "deltamem-eval" / "entity2id.json").write_text(json.dumps(ENTITIES))
    assert load_catalogue().title("2") == "12 Monkeys"
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(UserError, match="must map"):
        load_catalogue(tmp_path / "bad.json")


def test_nearest_is_the_least_distance_over_the_whole_catalogue() -> None:
    file = shared("data", "redial", "entity2id.json")
    catalogue = load_catalogue(file)
    titles = sorted({title_of(uri) for uri in json.loads(file.read_text())})
    for text in ("Supr Troopers", "police academy", "xq zz 9", ""):
        least = min(Levenshtein.distance(text.lower(), title.lower()) for title in titles)
        wanted = next(title for title in titles if Levenshtein.distance(text.lower(), title.lower()) == least)
        assert catalogue.nearest(text) == wanted
