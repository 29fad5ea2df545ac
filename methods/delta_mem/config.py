"""What an adapter is: the settings in the release's `delta_mem_config.json`. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deltamem_eval.errors import UserError, unknown

UPDATE_MODES = ("standard", "lambda_outside", "no_lambda")
GRANULARITIES = ("token", "message_mean", "sentence_mean")
OUTPUT_INITS = ("zero", "random", "base_slice", "base_slice_fixed")
HEADS = ("q", "k", "v", "o")
SCALES = ("layer", "head")

# Experiments the release archived. They are written with these values and refused with any other.
ARCHIVED: Mapping[str, Any] = {
    "num_memory_partitions": 1,
    "num_global_memory_partitions": 0,
    "memory_partition_routing": "soft",
    "memory_partition_basis": "shared",
    "tie_memory_partition_read_write": False,
    "memory_partition_read_mode": "softmax",
    "memory_partition_sigmoid_gate_bias_init": -2.0,
    "slot_read_top_k": 0,
    "global_memory_mode": "shared_rw",
    "global_memory_read_top_k": 0,
    "global_memory_merge_mode": "gated_residual",
    "global_memory_gate_bias_init": -2.0,
    "global_memory_read_logit_bias": 0.0,
    "memory_reader_layers": [],
    "memory_reader_hidden_size": 1024,
    "memory_reader_residual_scale": 0.1,
    "memory_reader_read_only": True,
    "memory_readout_mode": "delta",
    "memory_write_source": "learned_hidden",
    "memory_write_proposals_per_message": 2,
    "synthetic_memory_slots": 1,
    "latent_memory_layers": [],
    "latent_memory_hidden_size": 1024,
    "latent_memory_residual_scale": 0.1,
    "latent_memory_slots": 4,
    "latent_memory_init_std": 0.002,
    "latent_gate_init": 0.01,
}

# The one value the release has for it.
_PARAMETERIZATION = {"delta_scale_parameterization": "alpha_over_rank"}
_FIXED: Mapping[str, Any] = {**ARCHIVED, **_PARAMETERIZATION}

# What a file that does not say means by it, where that is not the default below, which is the paper's.
_UNSAID: Mapping[str, Any] = {"output_init": "zero", "delta_heads": HEADS}


@dataclass(frozen=True)
class DeltaMemConfig:
    """Settings of one adapter; defaults are the paper's token-state write.

    rank: rows and columns of a state. num_state_heads: states a layer keeps. alpha: corrections are scaled by
    alpha / rank. target_layers: indices of adapted layers, empty for all. delta_heads: which projections are
    corrected. couple_lambda: whether the decay gate is 1 - beta; if not, it has parameters of its own, which
    state_update_mode no_lambda keeps and does not use. delta_o_rmsnorm: the correction of o goes through an
    RMSNorm with a weight of its own before it is added. trainable_delta_scale: corrections are multiplied by
    delta_scale_max · sigmoid(s), one s a layer or, by granularity head, one for each of q, k, v and o, which
    starts so that the product is delta_scale_init. Raises UserError for a value out of range.
    """

    rank: int = 8
    alpha: float = 16.0
    beta_bias_init: float = -1.5
    normalize_qk: bool = True
    couple_lambda: bool = True
    state_update_mode: str = "standard"
    rankwise_gates: bool = True
    output_init: str = "base_slice_fixed"
    base_slice_ref_width: int = 8
    online_gain: float = 0.05
    num_state_heads: int = 1
    memory_write_granularity: str = "token"
    target_modules: tuple[str, ...] = ("self_attn",)
    target_layers: tuple[int, ...] = ()
    delta_heads: tuple[str, ...] = ("q", "o")
    delta_o_rmsnorm: bool = False
    delta_o_rmsnorm_eps: float = 1e-6
    trainable_delta_scale: bool = False
    delta_scale_init: float = 1.0
    delta_scale_max: float = 2.0
    delta_scale_granularity: str = "layer"

    def __post_init__(self) -> None:
        for name in ("rank", "num_state_heads", "base_slice_ref_width"):
            if getattr(self, name) < 1:
                raise UserError(f"adapter config: {name} must be at least 1, not {getattr(self, name)}")
        _one_of("state_update_mode", self.state_update_mode, UPDATE_MODES)
        _one_of("memory_write_granularity", self.memory_write_granularity, GRANULARITIES)
        _one_of("output_init", self.output_init, OUTPUT_INITS)
        _one_of("delta_scale_granularity", self.delta_scale_granularity, SCALES)
        if not self.delta_o_rmsnorm_eps > 0:
            raise UserError(
                f"adapter config: delta_o_rmsnorm_eps must be above 0: {self.delta_o_rmsnorm_eps}"
            )
        if not 0 < self.delta_scale_init < self.delta_scale_max:
            raise UserError(
                f"adapter config: delta_scale_init must lie between 0 and delta_scale_max, "
                f"{self.delta_scale_max}, not {self.delta_scale_init}"
            )
        for head in self.delta_heads:
            _one_of("delta_heads", head, HEADS)
        if not self.delta_heads or not self.target_modules:
            raise UserError("adapter config: delta_heads and target_modules must name at least one each")
        for name in ("delta_heads", "target_modules", "target_layers"):
            _once(name, getattr(self, name))

    @property
    def width(self) -> int:
        """R: rank times state heads, the width of the memory projections."""
        return self.rank * self.num_state_heads

    @property
    def gates(self) -> int:
        """G: gates a token has, one per state row, or one per state head with scalar gates."""
        return self.width if self.rankwise_gates else self.num_state_heads

    @property
    def has_lambda(self) -> bool:
        """Whether the decay gate has parameters of its own that it uses."""
        return not self.couple_lambda and self.state_update_mode != "no_lambda"

    @property
    def scales(self) -> int:
        """Learnt scales of a layer's corrections: none, one, or one for each of q, k, v and o."""
        if not self.trainable_delta_scale:
            return 0
        return len(HEADS) if self.delta_scale_granularity == "head" else 1

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeltaMemConfig:
        """Read the release's JSON object; what it leaves out has the release's default.

        Raises UserError for an unknown field, an option that is not at the one value served, or a bad value.
        """
        known = {field.name: field for field in fields(cls)}
        given: dict[str, Any] = dict(_UNSAID)
        for name, value in values.items():
            if name in _FIXED:
                if value != _FIXED[name]:
                    why = (
                        "is an archived option of the release"
                        if name in ARCHIVED
                        else "is no value of the release's"
                    )
                    raise UserError(
                        f"adapter config: {name}={value!r} {why}; only {_FIXED[name]!r} is served"
                    )
            elif name in known:
                given[name] = _coerce(name, value, known[name].default)
            else:
                raise unknown("adapter config field", name, [*known, *_FIXED])
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """The release's JSON object, in its order, with what is archived at its default."""
        own = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        late = [name for name in own if name.startswith(("delta_o_", "trainable_", "delta_scale_"))]
        first = {name: value for name, value in own.items() if name not in late}
        return {**first, **ARCHIVED, **{name: own[name] for name in late}, **_PARAMETERIZATION}


def added_parameters(config: DeltaMemConfig, hidden: int, outputs: Mapping[str, int], layers: int) -> int:
    """Parameters of the active parts, from dimensions alone.

    Per layer 3·R·d + Σ R·out over corrected heads + G·d + G, and G·d + G again for a decay gate of its own;
    the learnt scales, and the width of o for its norm where o is corrected.
    outputs: output width of each of q, k, v, o. layers: layers of the backbone (all are adapted when
    target_layers is empty).
    """
    adapted = len(config.target_layers) or layers
    heads = sum(config.width * outputs[head] for head in config.delta_heads)
    gates = config.gates * (hidden + 1) * (2 if config.has_lambda else 1)
    norm = outputs["o"] if config.delta_o_rmsnorm and "o" in config.delta_heads else 0
    return adapted * (3 * config.width * hidden + heads + gates + norm + config.scales)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"adapter config: {name} must be one of {', '.join(allowed)}, not {value!r}")


def _once(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"adapter config: {name} names {value!r} {values.count(value)} times")


def _coerce(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of the field's default. JSON lists become tuples, whole numbers may stand for
    floats.
    """
    if isinstance(default, tuple) and isinstance(value, list):
        kind = int if name == "target_layers" else str
        if any(type(item) is not kind for item in value):
            raise UserError(f"adapter config: {name} must be a list of {kind.__name__}, not {value!r}")
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise UserError(f"adapter config: {name} must be {type(default).__name__}, not {value!r}")
    return value
