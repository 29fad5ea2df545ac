"""Movie recommendation: titles of the catalogue, the items of a reply, and recall among the first of them.

The official scorer maps every line of a reply to the title of least edit distance in the whole catalogue; so
do we, but with ties going to the first title in sorted order, where the official one goes by hash order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from deltamem_eval.errors import UnavailableError, UserError
from deltamem_eval.tasks.files import read_json
from deltamem_eval.tasks.memory_agent_bench.hub import (
    ENTITY_FILE,
    ENTITY_SHA256,
    REPOSITORY,
    REVISION,
    fetch,
    own_cache,
)

VARIABLE = "DELTAMEM_EVAL_ENTITIES"
CUTS = (1, 5, 10)

_BRACKETS = re.compile(r"\([^()]*\)")
_NUMBER = re.compile(r"^\d+[.)、]?\s*[-–—]?\s*")
_SEPARATORS = str.maketrans("_->", "   ")


class Catalogue:
    """Titles by entity id, and the nearest title of any text.

    sha256: of the file they come from, 64 hex digits; empty where there is none.
    """

    def __init__(self, entities: Mapping[str, int], sha256: str = "") -> None:
        self.sha256 = sha256
        self._titles = {str(number): title_of(uri) for uri, number in entities.items()}

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(set(self._titles.values()))

    @cached_property
    def _lowered(self) -> list[str]:
        return [title.lower() for title in self._sorted]

    def title(self, number: str) -> str:
        """The title of an entity id. Raises UserError for an id that is not in the catalogue."""
        if number not in self._titles:
            raise UserError(f"entity {number} is not in the catalogue: is it the benchmark's {ENTITY_FILE}?")
        return self._titles[number]

    @lru_cache(maxsize=4096)  # noqa: B019 - there is one catalogue a process
    def nearest(self, text: str) -> str:
        """The title of least edit distance to a text, both in lower case; the first in order of equals."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import extractOne

        found = extractOne(text.lower(), self._lowered, scorer=Levenshtein.distance, processor=None)
        return self._sorted[found[2]]

    def recall(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """Share of the gold entities' titles among the first 1, 5 and 10 titles of a reply."""
        golds = [self.title(str(number).strip()) for number in answers]
        said = [self.nearest(item) for item in items_of(prediction)[: max(CUTS)]]
        return {
            f"recsys_recall@{cut}": sum(gold in said[:cut] for gold in golds) / max(len(golds), 1)
            for cut in CUTS
        }


def title_of(uri: str) -> str:
    """A title from an entity's address: its last part, without brackets and their content."""
    return _collapsed(_BRACKETS.sub("", uri.rsplit("/", 1)[-1].translate(_SEPARATORS)))


def items_of(prediction: str) -> list[str]:
    """The items of a reply, a line each, empty ones too; without a "1." commas separate them as well."""
    _, mark, after = prediction.partition("1.")
    text = after if mark else prediction.replace(",", "\n")
    return [
        _collapsed(_NUMBER.sub("", _BRACKETS.sub("", line.strip()), count=1)) for line in text.split("\n")
    ]


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def load_catalogue(file: str | Path | None = None, folders: Sequence[Path] = ()) -> Catalogue:
    """The catalogue of a file, else of the first of the places where it is looked for, once a process.

    A file that is named here or in VARIABLE is taken as it is; any other must be the benchmark's. folders:
    where it is looked for before the usual places; where none has it, it is fetched from the hub. Raises
    UnavailableError where that fails, saying where to put it; UserError for one that cannot be read or is
    another.
    """
    named = file or os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UnavailableError(f"{named}: no such file" + ("" if file else f" ({VARIABLE} names it)"))
        return _read(Path(named))
    places = [*(folder / ENTITY_FILE for folder in folders), *_places()]
    found = next((place for place in places if place.is_file()), None)
    return _read(found or _fetched(), ENTITY_SHA256)


def _places() -> list[Path]:
    """Where the catalogue may be: in the hub's cache, in the working folder and where the benchmark's
    code has it there, in our own cache.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(REPOSITORY, ENTITY_FILE, repo_type="dataset", revision=REVISION)
    found = [Path(cached)] if isinstance(cached, str) else []
    here = Path.cwd()
    return [
        *found,
        here / ENTITY_FILE,
        here / "processed_data" / "Recsys_Redial" / ENTITY_FILE,
        own_cache() / ENTITY_FILE,
    ]


def _fetched() -> Path:
    """The catalogue from the hub. Raises UnavailableError where it is not to be had."""
    instead = f"put it at {own_cache() / ENTITY_FILE}, or name it in {VARIABLE}"
    try:
        return fetch(ENTITY_FILE, ENTITY_SHA256, instead)
    except UnavailableError as error:
        raise UnavailableError(f"movie recommendations need a file more: {error}") from None


@lru_cache(maxsize=2)
def _read(place: Path, expected: str = "") -> Catalogue:
    value, sha256 = read_json(place)
    if expected and sha256 != expected:
        raise UserError(
            f"{place} is not the benchmark's {ENTITY_FILE}: sha256 {sha256}, expected {expected}; replace "
            f"it, or name it in {VARIABLE} if that is meant"
        )
    if not isinstance(value, dict) or not all(isinstance(number, int) for number in value.values()):
        raise UserError(f"{place} must map entity addresses to numbers")
    return Catalogue(value, sha256)
