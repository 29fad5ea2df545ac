"""What a profile is asked for, and the points it consists of. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.hashing import hash_json
from deltamem_eval.registry import METHODS
from deltamem_eval.spread import SPREAD

REPLAY, STATE_ONLY, WINDOW = "replay", "state-only", "window"
MODES = (REPLAY, STATE_ONLY, WINDOW)
_LEAST_REPEATS = 3


class Point(NamedTuple):
    """One measurement: a method in a mode, so many tokens of context, so many generated."""

    method: str
    mode: str
    prompt_tokens: int
    decode_tokens: int

    def __str__(self) -> str:
        return f"{self.method} {self.mode} {self.prompt_tokens:,}+{self.decode_tokens:,}"


@dataclass(frozen=True)
class ProfileRequest:
    """A profile as the user asked for it.

    prompt_lengths, decode_lengths: tokens of context and tokens generated. window: context tokens in the
    prompt in the modes state-only and window. random_weights: a config in place of the model's weights.
    """

    methods: tuple[str, ...]
    prompt_lengths: tuple[int, ...]
    decode_lengths: tuple[int, ...]
    modes: tuple[str, ...] = (REPLAY, STATE_ONLY)
    window: int = 0
    model: str = "embedded"
    random_weights: str | None = None
    adapter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = _LEAST_REPEATS
    warmup: int = 1
    device: str = "auto"
    dtype: str = "auto"
    estimate: bool = False

    def record(self) -> dict[str, Any]:
        """Everything, as JSON."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProfileRequest:
        """What `record` gave."""
        values: dict[str, Any] = {
            name: tuple(item) if isinstance(item, list) else item for name, item in record.items()
        }
        return cls(**values)

    def default_folder(self) -> Path:
        """The folder a profile goes to when none is named: the same request, the same folder."""
        return Path("runs") / f"profile-{'+'.join(self.methods)}-{hash_json(self.record())[:8]}"

    def points(self) -> list[Point]:
        """Every point, a method's together, short ones first."""
        return [
            Point(method, mode, prompt, decode)
            for method, mode in self.pairs()
            for prompt in self.prompt_lengths
            for decode in self.decode_lengths
        ]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Methods with the modes they have: state-only is for memories that take the prompt's place."""
        for method in self.methods:
            for mode in self.modes:
                if mode != STATE_ONLY or METHODS.load(method).writes_through:
                    yield method, mode

    def window_of(self, mode: str) -> int | None:
        """Context tokens that may stand in the prompt; None for all."""
        return None if mode == REPLAY else self.window

    def options_of(self, method: str) -> dict[str, Any]:
        """The options that this method has."""
        defaults = METHODS.load(method).defaults
        return {name: value for name, value in self.options.items() if name in defaults}


def check(request: ProfileRequest) -> ProfileRequest:
    """The request itself. Raises UserError for names and numbers that cannot be."""
    if not request.methods:
        raise UserError("no method: give --method NAME")
    kinds = {name: METHODS.load(name) for name in request.methods}
    if not request.modes:
        raise UserError(f"no mode: give --modes {', '.join(MODES)}")
    for mode in request.modes:
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
    if not list(request.pairs()):
        raise UserError(
            f"{', '.join(request.methods)} {'has' if len(kinds) == 1 else 'have'} no state-only mode: "
            "the context is not read into a memory in place of the prompt"
        )
    _check_window(request)
    known = {name for kind in kinds.values() for name in kind.defaults}
    for name in request.options:
        if name not in known:
            raise unknown("option", name, known)
    trained = [name for name, kind in kinds.items() if kind.trained]
    if request.adapter is not None and len(trained) != 1:
        raise UserError(
            f"--adapter serves one trained method, but {len(trained)} were asked for: profile them one by one"
        )
    if request.device == SPREAD:
        raise UserError(f"profile measures one device: --device {SPREAD} is for run and train")
    _check_numbers(request)
    return request


def _check_numbers(request: ProfileRequest) -> None:
    if min(request.decode_lengths) < 2:
        raise UserError("--decode must be at least 2: the first token comes with the reading of the prompt")
    if request.repeats < _LEAST_REPEATS:
        raise UserError(f"--repeats must be at least {_LEAST_REPEATS}, for a spread: {request.repeats}")
    if request.warmup < 0:
        raise UserError(f"--warmup cannot be negative: {request.warmup}")


def _check_window(request: ProfileRequest) -> None:
    if request.window < 0:
        raise UserError(f"--window is a number of tokens and cannot be negative: {request.window}")
    if WINDOW in request.modes and request.window == 0:
        raise UserError("mode window needs a window: give --window N")
    for method, mode in request.pairs():
        least = METHODS.load(method).least_window
        if mode != REPLAY and 0 < request.window < least:
            raise UserError(
                f"{method} needs a window of at least {least} tokens, or 0: {request.window} is too small"
            )


def parse_lengths(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers of tokens above 0 separated by commas; `k` stands for 1,024. Each once, in order.

    name: of the command-line option, for the message. Raises UserError for anything else.
    """
    found: list[int] = []
    for part in text.split(","):
        digits = part.strip().lower().removesuffix("k")
        if not digits.isascii() or not digits.isdigit() or int(digits) == 0:
            raise UserError(
                f"{name} takes whole numbers of tokens above 0 such as 512 or 4k, separated by commas, "
                f"not {part.strip()!r}"
            )
        found.append(int(digits) * (1024 if part.strip().lower().endswith("k") else 1))
    return tuple(dict.fromkeys(found))
