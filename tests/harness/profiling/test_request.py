"""Requests: lengths, modes, and everything that is refused before a process starts."""

from dataclasses import replace

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.profiling.request import Point, ProfileRequest, check, parse_lengths

PLAIN = ProfileRequest(("vanilla", "token-write"), (1024, 2048), (64, 256))


def test_lengths() -> None:
    assert parse_lengths("--decode", "512, 1k,4K,512") == (512, 1024, 4096)


@pytest.mark.parametrize("text", ["1k,foo", "0", "0k", "-1", "1.5k", "", "1k,,2k", "k", "²"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="--prompt-lengths takes whole numbers of tokens above 0"):
        parse_lengths("--prompt-lengths", text)


def test_points_of_a_method_stand_together_and_state_only_is_for_states() -> None:
    points = PLAIN.points()
    assert points[:2] == [Point("vanilla", "replay", 1024, 64), Point("vanilla", "replay", 1024, 256)]
    assert [point[:2] for point in points[::4]] == [
        ("vanilla", "replay"),
        ("token-write", "replay"),
        ("token-write", "state-only"),
    ]
    assert len(points) == 12


def test_a_request_survives_json_and_names_its_folder() -> None:
    asked = replace(PLAIN, options={"write_length": 512})
    assert ProfileRequest.from_record(asked.record()) == asked
    assert asked.default_folder() != PLAIN.default_folder()
    assert PLAIN.window_of("replay") is None
    assert PLAIN.window_of("state-only") == 0
    assert asked.options_of("vanilla") == {}
    assert asked.options_of("token-write") == {"write_length": 512}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ()}, "no method"),
        ({"methods": ("vanila",)}, "did you mean vanilla"),
        ({"modes": ("reply",)}, "did you mean replay"),
        ({"methods": ("vanilla",), "modes": ("state-only",)}, "vanilla has no state-only mode"),
        ({"modes": ("window",)}, "give --window N"),
        ({"window": -1}, "cannot be negative"),
        ({"methods": ("bm25-rag",), "modes": ("window",), "window": 3}, "at least 16 tokens"),
        ({"options": {"write_lenght": 4}}, "did you mean write_length"),
        ({"methods": ("token-write", "memgen"), "adapter": "x"}, "one trained method, but 2"),
        ({"methods": ("vanilla",), "adapter": "x"}, "one trained method, but 0"),
        ({"decode_lengths": (1, 64)}, "--decode must be at least 2"),
        ({"repeats": 2}, "--repeats must be at least 3"),
        ({"warmup": -1}, "--warmup cannot be negative"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(replace(PLAIN, **changes))


def test_what_can_be_is_left_as_it_is() -> None:
    assert check(PLAIN) is PLAIN
