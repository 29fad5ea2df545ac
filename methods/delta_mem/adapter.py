"""Adapter folders: the release's format (a torch state dict) and a safetensors one, with the same config
file.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_files
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from deltamem_eval.methods.delta_mem.hooks import attach, attachment_of, detach
from torch import Tensor, nn

CONFIG_FILE = "delta_mem_config.json"
RELEASE_FILE = "delta_mem_adapter.pt"
SAFETENSORS_FILE = "delta_mem_adapter.safetensors"
Format = Literal["release", "safetensors"]


def read_config(folder: str | Path) -> DeltaMemConfig:
    """The settings in an adapter folder. Raises UserError where they cannot be read or are not served."""
    file = Path(folder) / CONFIG_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"no adapter at {folder}: {CONFIG_FILE} cannot be read") from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} must hold a JSON object")
    return DeltaMemConfig.from_json(values)


def load_adapter(model: nn.Module, folder: str | Path) -> DeltaMemConfig:
    """Attach the adapter in `folder` and load its weights; returns its settings.

    Raises UserError, and leaves nothing attached, where the folder is incomplete or corrupt or belongs to a
    model of another shape.
    """
    config = read_config(folder)
    weights = _read_weights(Path(folder))
    attach(model, config)
    try:
        _fill(model, weights, str(folder))
    except BaseException:
        detach(model)
        raise
    return config


def save_adapter(model: nn.Module, folder: str | Path, format: Format = "release") -> None:  # noqa: A002
    """Write the attached adapter; each file appears whole or not at all.

    Weights of the other format that stand in the folder are removed once the new ones are in place: a folder
    holds one adapter. Raises UserError where the model carries no memory or the folder cannot be written.
    """
    from safetensors.torch import save_file

    attachment = attachment_of(model)
    target = Path(folder)
    weights = {
        f"{path}.{name}": tensor.detach().cpu().contiguous().clone()
        for path, memory in attachment.memories.items()
        for name, tensor in memory.named_parameters()
    }
    config = json.dumps(attachment.config.to_json(), indent=2) + "\n"
    try:
        target.mkdir(parents=True, exist_ok=True)
        if format == "release":
            _write(target / RELEASE_FILE, lambda path: torch.save(weights, path))
        else:
            _write(target / SAFETENSORS_FILE, lambda path: save_file(weights, path))
        _write(target / CONFIG_FILE, lambda path: path.write_text(config, encoding="utf-8"))
        other = SAFETENSORS_FILE if format == "release" else RELEASE_FILE
        (target / other).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the adapter to {folder}: {error.strerror or error}") from error


def adapter_hash(folder: str | Path) -> str:
    """Content hash of an adapter: its config and weights."""
    return hash_files([Path(folder) / CONFIG_FILE, _weights_file(Path(folder))])


def _write(file: Path, save: Callable[[Path], object]) -> None:
    """Save to a temporary file beside `file`, then put it in place."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        save(temporary)
        temporary.chmod(0o644)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _weights_file(folder: Path) -> Path:
    for name in (SAFETENSORS_FILE, RELEASE_FILE):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"no weights in {folder}: expected {RELEASE_FILE} or {SAFETENSORS_FILE}")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    file = _weights_file(folder)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds for a damaged file
        raise UserError(f"{file} is damaged or not an adapter: {_first_line(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(item, Tensor) for item in weights.values()):
        raise UserError(f"{file} is not an adapter: expected a dictionary of tensors")
    return weights


def _fill(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy the weights into the attached memories, checking names and shapes first."""
    wanted = {
        f"{path}.{name}": parameter
        for path, memory in attachment_of(model).memories.items()
        for name, parameter in memory.named_parameters()
    }
    for key, parameter in wanted.items():
        if key not in weights:
            raise UserError(
                f"the adapter in {source} lacks {key}: it belongs to another model or is incomplete"
            )
        if weights[key].shape != parameter.shape:
            raise UserError(
                f"the adapter in {source} does not fit: {key} is {list(weights[key].shape)} there, "
                f"{list(parameter.shape)} in this model"
            )
    extra = sorted(set(weights) - set(wanted))
    if extra:
        raise UserError(f"the adapter in {source} has {extra[0]}, for which this model has no place")
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(weights[key])


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
