"""Low-rank adapters on a backbone, through peft: putting on, loading, saving, taking off, counting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.overhead import ModelShape
    from torch import Tensor, nn

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_NOT_PLAIN = (  # fields of a peft config that give some modules other parameters than the rest
    "rank_pattern",
    "layers_to_transform",
    "layer_replication",
    "exclude_modules",
    "target_parameters",
    "use_dora",
    "lora_bias",
)
_NEEDS = "context2lora and memgen need peft: pip install 'deltamem-eval[lora]'"


class Lora:
    """Adapters on a frozen model, in place; `remove` leaves the model as it was."""

    def __init__(self, peft_model: Any) -> None:
        self._peft = peft_model

    @classmethod
    def fresh(cls, model: Any, rank: int, targets: tuple[str, ...], name: str = "default") -> Lora:
        """New adapters, B zero and α = 2r, drawn from torch's global generator.

        Raises UserError where the model has no module of a target's name.
        """
        peft = _peft()
        check_targets(model, targets)
        return cls(peft.get_peft_model(model, _config(peft, rank, targets), adapter_name=name))

    def add(self, name: str, rank: int, targets: tuple[str, ...]) -> None:
        """A second set of adapters on the same modules; it acts when switched to."""
        self._peft.add_adapter(name, _config(_peft(), rank, targets))

    def switch(self, name: str | None) -> None:
        """Let the adapters of that name act, or none; which parameters are trained stays as it was."""
        trained = [(tensor, tensor.requires_grad) for tensor in self.parameters()]
        if name is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(name)
        for tensor, flag in trained:
            tensor.requires_grad_(flag)

    @classmethod
    def load(cls, model: Any, folder: str | Path) -> Lora:
        """Adapters of a peft folder. Raises UserError where they are missing, damaged or of another model."""
        peft = _peft()
        place = Path(folder)
        for name in (CONFIG, WEIGHTS):
            if not (place / name).is_file():
                raise UserError(f"no LoRA adapter in {folder}: {name} is missing")
        try:
            config = peft.PeftConfig.from_pretrained(str(place))
            if not isinstance(config.target_modules, str):  # else a pattern, which peft matches itself
                check_targets(model, tuple(sorted(config.target_modules or ())))
            return cls(peft.PeftModel.from_pretrained(model, str(place), is_trainable=False))
        except UserError:
            raise
        except Exception as error:  # peft and safetensors raise many kinds for misfits
            _strip(model)
            line = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"the LoRA adapter in {folder} does not fit: {line[-1].strip()}") from error

    def parameters(self, name: str | None = None) -> list[nn.Parameter]:
        """The parameters of the adapters of that name, or of all."""
        mark = "." if name is None else f".{name}."
        return [tensor for path, tensor in self._peft.named_parameters() if "lora_" in path and mark in path]

    def count(self, shape: ModelShape) -> int:
        """Parameters of the first adapters, by `lora_parameters` from the config that was loaded. Of adapters
        that it has no formula for (`_plain`) the tensors are counted.
        """
        config = next(iter(self._peft.peft_config.values()))
        if not _plain(config, shape):
            return sum(tensor.numel() for tensor in self.parameters())
        return lora_parameters(shape, config.r, tuple(sorted(config.target_modules)))

    def state(self) -> dict[str, Tensor]:
        """The adapters' weights by name, detached."""
        return {
            name: tensor.detach().clone() for name, tensor in self._peft.named_parameters() if "lora_" in name
        }

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Put weights of `state()` back."""
        import torch

        own = dict(self._peft.named_parameters())
        with torch.no_grad():
            for name, tensor in state.items():
                own[name].copy_(tensor)

    def save(self, folder: Path) -> None:
        """Write a peft folder, without the place of the backbone and without peft's empty model card."""
        self._peft.save_pretrained(str(folder))
        strip_place(folder)

    def remove(self) -> None:
        """Take the adapters off."""
        self._peft.unload()
        _strip(self._peft.get_base_model())


def strip_place(folder: Path) -> None:
    """Take out of a saved adapter where its backbone lay, which means nothing elsewhere, and put its targets,
    which peft keeps as a set, in order: the same adapter is the same bytes.
    """
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise UserError(_NEEDS) from None
    return peft


def _config(peft: Any, rank: int, targets: tuple[str, ...]) -> Any:
    return peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _strip(model: Any) -> None:
    """peft leaves its config on the model; without it another adapter may come."""
    if hasattr(model, "peft_config"):
        del model.peft_config


def check_targets(model: Any, targets: tuple[str, ...]) -> None:
    """Raises UserError where no module of the model ends in a target's name, or one that has no matrix."""
    named = [(name.rpartition(".")[2], module) for name, module in model.named_modules()]
    names = {name for name, _ in named}
    missing = [target for target in targets if target.rpartition(".")[2] not in names]
    if missing:
        raise UserError(
            f"the model has no module named {missing[0]}, which the LoRA adapter is to change: choose "
            "other targets"
        )
    wanted = {target.rpartition(".")[2] for target in targets}
    for name, module in named:
        if name in wanted and getattr(getattr(module, "weight", None), "ndim", 0) != 2:
            raise UserError(f"the model's {name} is no linear layer: LoRA adapters cannot change it")


def lora_parameters(shape: ModelShape, rank: int, targets: tuple[str, ...]) -> int:
    """Parameters of rank-r adapters: r·(in + out) for each target, in every layer."""
    sizes = _sizes(shape)
    return shape.layers * rank * sum(sum(sizes[target]) for target in targets)


def _sizes(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a layer's projections, by name."""
    return {
        "q_proj": (shape.hidden, shape.q_out),
        "k_proj": (shape.hidden, shape.kv_out),
        "v_proj": (shape.hidden, shape.kv_out),
        "o_proj": (shape.q_out, shape.hidden),
        "gate_proj": (shape.hidden, shape.intermediate),
        "up_proj": (shape.hidden, shape.intermediate),
        "down_proj": (shape.intermediate, shape.hidden),
    }


def _plain(config: Any, shape: ModelShape) -> bool:
    """Whether a peft config gives every layer's projections of some names adapters of one rank, nothing else:
    no pattern in place of names, no other modules, no choice of layers, ranks or kinds.
    """
    names = config.target_modules
    if isinstance(names, str) or not set(names or ()) <= _sizes(shape).keys():
        return False
    return not any(getattr(config, name, None) for name in _NOT_PLAIN)
