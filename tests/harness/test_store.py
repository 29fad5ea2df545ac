"""A run on disk: torn lines, locks, damaged and newer files, the published schemas."""

import json
from pathlib import Path

import jsonschema
import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.files import write_atomic
from deltamem_eval.schema import FOLDER, published
from deltamem_eval.store import (
    SCHEMA_VERSION,
    CellStore,
    RunStore,
    Sample,
    cell_hash,
    read_cells,
    read_run,
    read_samples,
)


def sample(name: str) -> Sample:
    return Sample(
        episode="e",
        query=name,
        source="s",
        category="c",
        cluster="k",
        status="ok",
        targets=["ü\n"],
        target_hash="h",
    )


def test_a_torn_last_line_is_dropped_at_every_byte(tmp_path: Path) -> None:
    place = CellStore(tmp_path, {})
    place.append([sample("a"), sample("b")])
    file = tmp_path / "samples.jsonl"
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        file.write_bytes(whole[:cut])
        assert [item.query for item in read_samples(file)] == ["a"]
        assert [item.query for item in CellStore(tmp_path, {}).samples()] == ["a"]
        CellStore(tmp_path, {}).append([sample("c")])
        assert [item.query for item in read_samples(file)] == ["a", "c"]


def test_a_damaged_line_before_the_last_is_refused(tmp_path: Path) -> None:
    CellStore(tmp_path, {}).append([sample("a")])
    file = tmp_path / "samples.jsonl"
    file.write_text("{nonsense\n" + file.read_text())
    with pytest.raises(UserError, match="damaged"):
        read_samples(file)


def test_a_finished_cell_that_lost_samples_is_refused(tmp_path: Path) -> None:
    cell = CellStore(tmp_path / "cells" / "c", {})
    cell.append([sample("a"), sample("b")])
    cell.finish({})
    assert len(read_cells(tmp_path)[0][1]) == 2
    file = tmp_path / "cells" / "c" / "samples.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    with pytest.raises(UserError, match="holds 1 of its 2 samples"):
        read_cells(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match="holds 0 of its 2 samples"):
        read_cells(tmp_path)


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    first = RunStore.open(tmp_path / "run", {"a": 1}, {})
    with pytest.raises(UserError, match="in use by another process"):
        RunStore.open(tmp_path / "run", {"a": 1}, {})
    first.close()
    RunStore.open(tmp_path / "run", {"a": 1}, {}).close()


def test_other_settings_are_named(tmp_path: Path) -> None:
    RunStore.open(tmp_path / "run", {"window": 1, "seed": 0}, {}).close()
    with pytest.raises(UserError, match="window differ: window was 1, is 2"):
        RunStore.open(tmp_path / "run", {"window": 2, "seed": 0}, {})


def test_a_newer_schema_is_refused_by_number(tmp_path: Path) -> None:
    RunStore.open(tmp_path / "run", {}, {}).close()
    file = tmp_path / "run" / "run.json"
    value = json.loads(file.read_text())
    file.write_text(json.dumps({**value, "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UserError, match=f"schema version {SCHEMA_VERSION + 1}"):
        read_run(tmp_path / "run")
    file.write_text("{")
    with pytest.raises(UserError, match="not one of our records"):
        read_run(tmp_path / "run")


def test_a_first_file_of_this_schema_still_loads(tmp_path: Path) -> None:
    line = {
        "episode": "e",
        "query": "q",
        "source": "s",
        "category": "c",
        "cluster": "k",
        "status": "ok",
        "targets": ["x"],
        "target_hash": "h",
        "a field of a later version": 1,
    }
    (tmp_path / "cells" / "0").mkdir(parents=True)
    (tmp_path / "cells" / "0" / "samples.jsonl").write_text(json.dumps(line) + "\n")
    record = {
        "schema_version": 1,
        "identity": {"method": "m"},
        "effective": {},
        "samples": 1,
        "finished": "now",
    }
    (tmp_path / "cells" / "0" / "cell.json").write_text(json.dumps(record))
    ((found, samples),) = read_cells(tmp_path)
    assert found.identity == {"method": "m"}
    assert samples[0].memory_bytes == {}


def test_hash_covers_every_field_and_no_order() -> None:
    base = {"method": "m", "window": 1}
    assert cell_hash(base) == cell_hash({"window": 1, "method": "m"})
    assert len({cell_hash(base), cell_hash({**base, "window": 2}), cell_hash({**base, "more": None})}) == 3


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    write_atomic(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "new \ud800")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_published_schemas_are_up_to_date_and_hold() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(published())
    for name, text in published().items():
        assert (FOLDER / name).read_text() == text, "run python -m deltamem_eval.schema"
    schema = json.loads(published()["sample.json"])
    jsonschema.validate(json.loads(sample("a").model_dump_json()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"episode": "e"}, schema)


def test_what_the_disk_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore.open(tmp_path / "run", {}, {})
    (tmp_path / "run" / "cells").write_text("")  # nothing can be made under a file
    with pytest.raises(UserError, match=r"^cannot write to .*cells.*: Not a directory$"):
        store.cell({"method": "m"})

    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("deltamem_eval.store.is_empty", refused)
    with pytest.raises(UserError, match=r"^cannot write to .*closed: Permission denied$"):
        RunStore.open(tmp_path / "closed", {}, {})


@pytest.mark.parametrize("name", ["samples.jsonl", "prompts.jsonl", "notices.jsonl"])
def test_a_file_that_cannot_be_read_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"^cannot write to .*{name}: Is a directory$"):
        CellStore(tmp_path, {})
    with pytest.raises(UserError, match=rf"^.*{name} cannot be read: Is a directory$"):
        read_samples(tmp_path / name)
