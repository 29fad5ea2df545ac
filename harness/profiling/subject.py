"""Making what is profiled: the backbone and the method, with random weights where they are asked for."""

from __future__ import annotations

from pathlib import Path

import torch
from deltamem_eval.backbone import EMBEDDED, Backbone, embedded_folder, load_backbone, pick_device
from deltamem_eval.errors import UserError
from deltamem_eval.hub import adapter_folder
from deltamem_eval.interface import MemoryMethod, MethodSettings
from deltamem_eval.profiling.parts import make_part
from deltamem_eval.profiling.random_models import model_config, random_backbone
from deltamem_eval.profiling.request import REPLAY, ProfileRequest
from deltamem_eval.profiling.watched import WatchedBackbone
from deltamem_eval.profiling.workload import workload
from deltamem_eval.registry import METHODS

_ROOM = 256  # tokens that a question and a chat template take at most


def make_backbone(request: ProfileRequest) -> WatchedBackbone:
    """The request's backbone, for an estimate on device `meta`. Raises UserError where it cannot be had."""
    place = torch.device("meta") if request.estimate else pick_device(request.device)
    if request.random_weights is None:
        return WatchedBackbone(load_backbone(request.model, str(place), request.dtype))
    positions = positions_for(request, own_positions(request.random_weights))
    return WatchedBackbone(random_backbone(request.random_weights, place, request.dtype, positions))


def own_positions(name: str) -> int:
    """Positions that a config has."""
    _, config = model_config(name)
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0)


def positions_for(request: ProfileRequest, own: int) -> int:
    """The model's own positions where the request fits them, else as many as it needs.

    A prompt's room is counted in eighths of the positions, hence twice the longest sequence.
    """
    prompt, decode = max(request.prompt_lengths), max(request.decode_lengths)
    if REPLAY not in request.modes:
        return max(own, request.window + 2 * (decode + _ROOM))
    step = max(own // 8, 1)
    if own - _ROOM - -(-(decode + _ROOM) // step) * step >= prompt:
        return own
    return 2 * (prompt + decode + 2 * _ROOM)


def check_fit(request: ProfileRequest, backbone: Backbone) -> None:
    """Raises UserError where a prompt or an answer is longer than the model's positions allow."""
    from deltamem_eval.methods.prompt import PromptBuilder

    longest = max(request.prompt_lengths)
    for decode in request.decode_lengths:
        room = PromptBuilder(backbone).room(workload(backbone.encode, 1, decode, 0).query)
        if REPLAY in request.modes and longest > room:
            raise UserError(
                f"{longest:,} tokens of context do not fit: beside a question and {decode} new tokens, the "
                f"{backbone.positions:,} positions of {backbone.name} hold {room:,}. Shorten the prompts, "
                "leave out mode replay, or take --random-weights, with as many positions as are needed"
            )


def make_method(
    request: ProfileRequest, name: str, mode: str, backbone: Backbone, parts: Path
) -> MemoryMethod:
    """A method for one mode. parts: folder of random trained weights, made where they are missing.

    Raises UserError where the method does not fit the backbone or lacks its weights.
    """
    kind, options = METHODS.load(name), request.options_of(name)
    adapter = _adapter(request, name, backbone, parts) if kind.trained else None
    if needs_classifier(request, name):
        options["classifier"] = _part(name, backbone, parts)
    return kind(backbone, MethodSettings(request.window_of(mode), 0, adapter, options))


def needs_classifier(request: ProfileRequest, name: str) -> bool:
    """Whether llmlingua2 is to get a random classifier: the embedded one serves the embedded model alone."""
    return (
        name == "llmlingua2"
        and request.random_weights not in (None, EMBEDDED)
        and "classifier" not in request.options
    )


def random_parts(request: ProfileRequest) -> list[str]:
    """What has random weights, for people to read."""
    if request.random_weights is None:
        return []
    trained = [name for name in request.methods if METHODS.load(name).trained and request.adapter is None]
    classified = [f"the classifier of {name}" for name in request.methods if needs_classifier(request, name)]
    return ["the backbone", *trained, *classified]


def _adapter(request: ProfileRequest, name: str, backbone: Backbone, parts: Path) -> str | None:
    if request.adapter is not None:
        return adapter_folder(request.adapter)
    if request.random_weights is not None:
        return _part(name, backbone, parts)
    return str(embedded_folder() / name) if request.model == EMBEDDED else None


def _part(name: str, backbone: Backbone, parts: Path) -> str:
    folder = parts / name
    if not folder.exists():
        make_part(name, backbone, folder)
    return str(folder)
