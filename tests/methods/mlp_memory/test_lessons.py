"""Neighbours found by cells, and lessons from the store and from fresh texts."""

import pytest
import torch
from deltamem_eval.methods.mlp_memory.cells import Cells
from deltamem_eval.methods.mlp_memory.lessons import FreshLessons, StoreLessons
from deltamem_eval.methods.mlp_memory.targets import (
    Datastore,
    Targets,
    build_datastore,
    knn_targets,
    neighbours,
    read_states,
)
from tiny import tiny_backbone

LAYER = 1


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("held", "cells", "count"), [(61, 9, 5), (200, 16, 33), (13, 40, 12), (5, 1, 9)])
def test_with_every_cell_probed_the_search_is_exact(held: int, cells: int, count: int) -> None:
    store = Datastore(keys(held), torch.zeros(held, dtype=torch.long))
    rows = torch.arange(0, held, 2)
    found, places = Cells(store.keys, cells, seed=3).search(store.keys[rows], rows, count, probes=cells)
    wanted, known = neighbours(store, rows.tolist(), count)
    order = found.argsort(-1)[:, : wanted.shape[1]]
    torch.testing.assert_close(found.gather(1, order), wanted, atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(places.gather(1, order).tolist(), known.tolist(), strict=True):
        assert set(mine) == set(theirs)
    assert bool(found.sort(-1).values[:, wanted.shape[1] :].isinf().all()), "no more are made up"


def test_fewer_probes_find_near_ones_and_never_the_query_itself() -> None:
    store = Datastore(keys(3000), torch.zeros(3000, dtype=torch.long))
    rows = torch.arange(300)
    found, places = Cells(store.keys, 30, seed=0).search(store.keys[rows], rows, 20, probes=6)
    torch.testing.assert_close(
        found, (store.keys[rows, None] - store.keys[places]).square().sum(-1), atol=1e-3, rtol=1e-3
    )
    assert not bool((places == rows[:, None]).any())
    _, wanted = neighbours(store, rows.tolist(), 20)
    shared = [len(set(a) & set(b)) for a, b in zip(places.tolist(), wanted.tolist(), strict=True)]
    assert 0.7 < sum(shared) / (20 * len(shared)) < 1


def test_a_query_alone_in_its_cell_has_no_neighbour() -> None:
    held = torch.tensor([[0.0], [0.1], [90.0]])
    cells = Cells(held, 2, seed=0)
    distances, _ = cells.search(held[2:], torch.tensor([2]), 4, probes=1)
    assert bool(distances.isinf().all())
    distances, places = cells.search(held[2:], torch.tensor([-1]), 1, probes=1)
    assert (distances.tolist(), places.tolist()) == ([[0.0]], [[2]])


def test_states_do_not_depend_on_what_is_read_beside_them() -> None:
    backbone = tiny_backbone()
    texts = [backbone.encode(text) for text in ("a longer line of text", "short", "x", "of medium size")]
    states, following = read_states(backbone.model, texts, LAYER)
    start = 0
    for text in texts:
        if len(text) < 2:
            continue
        alone, after = read_states(backbone.model, [text], LAYER)
        torch.testing.assert_close(states[start : start + len(alone)], alone, atol=1e-5, rtol=1e-5)
        assert following[start : start + len(alone)].tolist() == after.tolist() == text[1:]
        start += len(alone)
    assert start == len(states) == len(following)


def fresh(texts: list[list[int]], most: int = 1000) -> tuple[FreshLessons, Datastore]:
    model = tiny_backbone().model
    store = build_datastore(model, texts[:2], LAYER, most)
    cells = Cells(store.keys, 4, seed=0)
    how = {"neighbours": 6, "probes": 4, "temperature": 2.0}
    return FreshLessons(model, LAYER, store, cells, lambda _: texts, **how), store


def test_fresh_lessons_are_the_exact_targets_of_every_position() -> None:
    backbone = tiny_backbone()
    texts = [backbone.encode(text) for text in ("the cat sat", "on the mat again", "a third one")]
    lessons, store = fresh(texts)
    lesson = lessons.at(0)
    stored = len(texts[0]) + len(texts[1]) - 2
    assert len(lesson.states) == len(lesson.values) == stored + len(texts[2]) - 1
    assert lesson.share == 1
    torch.testing.assert_close(lesson.states[:stored], store.keys, atol=1e-5, rtol=1e-5)
    dense = torch.zeros(len(lesson.states), 300)
    dense.index_put_((lesson.places, lesson.tokens), lesson.mass, accumulate=True)
    for row, (tokens, mass) in enumerate(knn_targets(store, range(stored), 6, 2.0)):
        wanted = torch.zeros(300).index_put_((tokens,), mass)
        torch.testing.assert_close(dense[row], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(dense.sum(-1), torch.ones(len(dense)))


def test_of_a_text_that_the_store_holds_in_part_only_that_part_is_left_out() -> None:
    backbone = tiny_backbone()
    texts = [backbone.encode("the cat sat on it")] * 2
    lessons, store = fresh(texts, most=5)
    distances = (lessons.at(0).states[:, None] - store.keys).square().sum(-1)
    assert len(store.keys) == 5
    assert bool((distances[:5].diagonal() < 1e-6).all())
    lesson = lessons.at(0)
    entries = torch.bincount(lesson.places[lesson.mass > 0])
    assert entries[:5].tolist() == [4] * 5
    assert entries[5:16].tolist() == [5] * 11


def test_store_lessons_draw_by_the_update_and_search_once() -> None:
    store = Datastore(keys(40), torch.randint(0, 5, (40,), generator=torch.Generator().manual_seed(1)))
    lessons = StoreLessons(Targets(store, 5, 2.0), batch=64, seed=0)
    lesson, again, other = lessons.at(3), lessons.at(3), lessons.at(4)
    assert sorted(lesson.states[:, 0].tolist()) == sorted(store.keys[:, 0].tolist()), "no more than there are"
    assert lesson.states.equal(again.states)
    assert lesson.mass.equal(again.mass)
    assert not lesson.states.equal(other.states)
