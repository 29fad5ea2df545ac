"""What `--model_args` may say, checked and with defaults filled in."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.hub import adapter_folder
from deltamem_eval.lm_eval_bridge.split import Splitter
from deltamem_eval.registry import METHODS
from deltamem_eval.session import DEFAULT_WINDOW, EMBEDDED_WINDOW

_log = logging.getLogger(__name__)
_BATCH = 8  # rows at once where lm-eval says `auto`; halved when memory runs out


@dataclass(frozen=True)
class Arguments:
    """A checked model. window: context tokens in the prompt, None where the whole request is the prompt."""

    model: str
    method: str
    adapter: str | None
    window: int | None
    device: str
    dtype: str
    batch_size: int
    split: str
    chat: bool
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether requests go to the backbone as they are, as lm-eval's own `hf` model has them."""
        return self.method == "vanilla" and self.split == "none"


def parse(
    model: Any,
    method: Any,
    adapter: Any,
    window: Any,
    device: Any,
    dtype: Any,
    batch_size: Any,
    split: Any,
    chat: Any,
    seed: Any,
    options: Any,
) -> Arguments:
    """Arguments as lm-eval hands them over, whose strings are already numbers and booleans where they can be.

    Raises UserError for names and numbers that cannot be, and for values of another type.
    """
    _check_texts({"model": model, "method": method, "dtype": dtype})
    _check_texts({"adapter": adapter, "device": device, "split": split}, optional=True)
    if type(chat) is not bool:
        raise UserError(f"model argument chat is true or false, not {chat!r}")
    if type(seed) is not int or seed < 0:
        raise UserError(f"model argument seed is a whole number from 0 on, not {seed!r}")
    kind = METHODS.load(method)
    rule = Splitter(split or ("none" if method == "vanilla" else "auto")).rule
    plain = method == "vanilla" and rule == "none"
    if plain and window is not None:
        raise UserError("vanilla without a split has the whole request in its prompt: window needs a split")
    if window is None and not plain:
        window = EMBEDDED_WINDOW if model == "embedded" else DEFAULT_WINDOW
    if window is not None and (type(window) is not int or window < 0 or 0 < window < kind.least_window):
        raise UserError(f"window of {method} is 0 or at least {kind.least_window} tokens, not {window!r}")
    return Arguments(
        model=model,
        method=method,
        adapter=adapter_folder(adapter) if adapter else _embedded_adapter(model, method),
        window=window,
        device=_device(device),
        dtype=dtype,
        batch_size=_batch(batch_size),
        split=rule,
        chat=chat,
        seed=seed,
        options=parse_options(options, kind.defaults),
    )


def _check_texts(given: Mapping[str, Any], optional: bool = False) -> None:
    """Raises UserError for a value that is no text. optional: None, for the default, is as good."""
    for name, value in given.items():
        if not isinstance(value, str) and not (optional and value is None):
            raise UserError(f"model argument {name} is a text, not {value!r}")


def _embedded_adapter(model: str, method: str) -> str | None:
    """The adapter that ships for the embedded backbone, if the method needs one and there is one."""
    if model != "embedded" or not METHODS.load(method).trained:
        return None
    from deltamem_eval.backbone import embedded_folder

    folder = embedded_folder() / method
    return str(folder) if folder.is_dir() else None


def _device(device: str | None) -> str:
    """lm-eval asks for cuda:0 unless told otherwise, wherever it runs."""
    import torch

    if device is None:
        return "auto"
    if device.startswith("cuda") and not torch.cuda.is_available():
        _log.warning("no CUDA device is to be had here: the model runs on the CPU")
        return "cpu"
    return device


def _batch(size: Any) -> int:
    text = str(1 if size is None else size)
    if text.partition(":")[0] == "auto":
        return _BATCH
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"batch_size is auto or a whole number of rows from 1 on, not {size!r}")
    return int(text)


def parse_options(given: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options: a mapping, a JSON object, or NAME:VALUE pairs joined by semicolons.

    Values of pairs are JSON where they parse as such, else text. A whole number stands for a float where the
    default is one. Raises UserError for anything else and for an option the method does not have.
    """
    found = _options(given)
    for name, value in found.items():
        if name not in defaults:
            raise unknown("option", name, defaults)
        if isinstance(defaults[name], float) and type(value) is int:
            found[name] = float(value)
    return found


def _options(given: Any) -> dict[str, Any]:
    if given is None or given == "":
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    text = str(given)
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise UserError(f"options is not JSON ({error}): {text}") from None
    found: dict[str, Any] = {}
    for pair in text.split(";"):
        name, sign, value = pair.partition(":")
        if not sign or not name.strip():
            raise UserError(f"options takes NAME:VALUE pairs joined by semicolons, or JSON, not {text!r}")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found
