"""Entry points: a broken plug-in is listed as broken and stops nobody; names are suggested."""

from importlib.metadata import EntryPoint

import pytest
from deltamem_eval import registry
from deltamem_eval.errors import UserError
from deltamem_eval.registry import METHODS, TASKS


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry._points_of("deltamem_eval.methods")
    group = "deltamem_eval.methods"
    broken = {
        "absent": EntryPoint("absent", "no_such_package:Method", group),
        "wrong": EntryPoint("wrong", "json:JSONDecoder", group),
    }
    monkeypatch.setattr(registry, "_points_of", lambda name: {**real, **(broken if name == group else {})})


@pytest.mark.usefixtures("plugins")
def test_broken_plug_ins_are_listed_with_their_error() -> None:
    rows = {row.name: row for row in METHODS.listing()}
    assert "No module named 'no_such_package'" in (rows["absent"].error or "")
    assert "is no MemoryMethod" in (rows["wrong"].error or "")
    assert rows["vanilla"].error is None
    with pytest.raises(UserError, match="method 'absent' is broken"):
        METHODS.load("absent")


def test_every_method_and_task_of_ours_loads_and_says_what_it_is() -> None:
    for listed in (METHODS, TASKS):
        for row in listed.listing():
            assert row.error is None
            assert row.package == "deltamem-eval"
            assert len(row.summary) > 10


def test_a_name_close_to_a_known_one_is_suggested() -> None:
    with pytest.raises(UserError, match="did you mean multi-write"):
        METHODS.load("mutli-write")


def test_a_name_that_is_ours_stays_ours_and_the_other_is_listed_as_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = "deltamem_eval.methods"
    others = [EntryPoint("vanilla", "evil:X", group), EntryPoint("odd", "evil:Y", group)]
    real = list(registry.entry_points(group=group))
    registry._points_of.cache_clear()
    monkeypatch.setattr(registry, "entry_points", lambda group: [*others, *real, *others])
    try:
        assert METHODS.load("vanilla").__module__.startswith("deltamem_eval.")
        errors = [row.error for row in METHODS.listing() if row.name == "vanilla"]
        assert errors[0] is None
        assert errors[1] == "method 'vanilla' of evil:X is not used: the name is deltamem-eval's"
        assert "odd" in METHODS.names()
        assert registry.packages_of(["vanilla"], "embedded") == []
    finally:
        registry._points_of.cache_clear()
