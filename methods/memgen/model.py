"""MemGen's parts on one set of weights: the frozen reasoner, the weaver and the trigger (arXiv 2509.24704).

The weaver reads the projected input embeddings of everything so far, followed by learnt latent queries; the
last hidden states at the queries, projected back, are appended to the stream. The paper's equation 5 speaks
of the reasoner's hidden states, its code uses input embeddings: the code is followed, and so it is in that
latents are appended, where the paper speaks of prepending them to hidden states. Weaver and trigger are
low-rank adapters over the reasoner's weights, not copies of it; outputs are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.context2lora.lora import Lora
from deltamem_eval.methods.memgen.config import PLACES, MemGenConfig, Place
from torch import Tensor, nn

CONFIG_FILE = "memgen.json"
WEIGHTS_FILE = "memgen.safetensors"


class Latents(nn.Module):
    """Queries of one place: a normalised, scaled table [latents, width]."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(count, width))
        self.norm = nn.LayerNorm(width)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self) -> Tensor:
        """[latents, width]."""
        made: Tensor = self.scale * self.norm(self.table)
        return made


class Weaving(nn.Module):
    """What the adapters do not hold: both projections, the queries of each place, the trigger's head."""

    def __init__(self, config: MemGenConfig) -> None:
        super().__init__()
        width = config.hidden
        self.inward = nn.Linear(width, width)
        self.outward = nn.Linear(width, width)
        self.queries = nn.ModuleDict({place: Latents(config.latents, width) for place in PLACES})
        self.head = nn.Linear(width, 2)


class MemGenModel:
    """Reasoner, weaver and trigger on a backbone's model, in place; `remove` leaves it as it was.

    Outside of `acting` the adapters are off and the model is the reasoner alone.
    """

    def __init__(self, model: Any, config: MemGenConfig) -> None:
        """Fresh parts, drawn from torch's global generator. Raises UserError for targets it lacks."""
        self.config = config
        self.model = model
        self._lora = Lora.fresh(model, config.rank, config.targets, name="weaver")
        self._lora.add("trigger", config.rank, config.targets)
        self.weaving = Weaving(config).to(model.device)
        self._lora.switch(None)

    @contextmanager
    def acting(self, part: Literal["weaver", "trigger"]) -> Iterator[None]:
        """Within the block the model is the weaver or the trigger."""
        self._lora.switch(part)
        try:
            yield
        finally:
            self._lora.switch(None)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Input embeddings [1, tokens, width]."""
        tokens = torch.tensor([list(ids)], device=self.model.device)
        made: Tensor = self.model.get_input_embeddings()(tokens)
        return made

    def project(self, embeds: Tensor, place: Place) -> Tensor:
        """What the weaver reads [rows, tokens + latents, width]: embeddings, then the place's queries."""
        projected = self.weaving.inward(self._own(embeds))
        queries = self.weaving.queries[place]().expand(embeds.shape[0], -1, -1)
        return torch.cat([projected, queries], 1).to(embeds.dtype)

    def _own(self, tensor: Tensor) -> Tensor:
        """In the type of the parts' own weights, and where they are."""
        return tensor.to(self.weaving.head.weight)

    def back(self, hidden: Tensor) -> Tensor:
        """The weaver's last hidden states at the queries as embeddings of the reasoner."""
        made: Tensor = self.weaving.outward(self._own(hidden)).to(hidden.dtype)
        return made

    def wants(self, hidden: Tensor, bound: float = 0.0) -> bool:
        """The trigger's word on its last hidden state [1, tokens, width].

        bound: what its log-odds of weaving must exceed: 0 for the likelier word, a draw from the logistic
        distribution for a word drawn by its probability.
        """
        no, yes = self.weaving.head(self._own(hidden[:, -1])).float()[0].tolist()
        return bool(yes - no > bound)

    def weaver_parameters(self) -> list[nn.Parameter]:
        """What training the weaver changes."""
        own = [item for name, item in self.weaving.named_parameters() if not name.startswith("head")]
        return [*self._lora.parameters("weaver"), *own]

    def state(self) -> dict[str, Tensor]:
        """All parts' weights by name, detached."""
        own = {f"weaving.{name}": item.detach().clone() for name, item in self.weaving.state_dict().items()}
        return {**self._lora.state(), **own}

    def save(self, folder: Path) -> None:
        """Write config and weights. Raises UserError where that cannot be."""
        from safetensors.torch import save_file

        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(
                {name: item.contiguous().cpu() for name, item in self.state().items()}, folder / WEIGHTS_FILE
            )
            text = json.dumps(asdict(self.config), indent=2) + "\n"
            (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put weights of `state()` back. Raises KeyError or RuntimeError for others."""
        own = {
            name.removeprefix("weaving."): item for name, item in state.items() if name.startswith("weaving.")
        }
        lora = {name: item for name, item in state.items() if not name.startswith("weaving.")}
        if lora.keys() != self._lora.state().keys():
            raise KeyError("adapter weights")
        self.weaving.load_state_dict(own)
        self._lora.set_state(lora)

    def remove(self) -> None:
        """Take everything off the model."""
        self._lora.remove()


def load_memgen(model: Any, folder: str | Path) -> MemGenModel:
    """The parts in a folder, on a model. Raises UserError where they are missing, damaged or misfit."""
    from safetensors.torch import load_file

    place = Path(folder)
    try:
        values = json.loads((place / CONFIG_FILE).read_text(encoding="utf-8"))
        lists = {name: tuple(values[name]) for name in ("targets", "delimiters")}
        config = MemGenConfig(**{**values, **lists})
        weights = load_file(place / WEIGHTS_FILE)
    except OSError:
        raise UserError(f"no MemGen weights in {folder}: it needs {CONFIG_FILE} and {WEIGHTS_FILE}") from None
    except Exception as error:  # json, safetensors and the dataclass raise their own kinds
        raise UserError(f"the MemGen weights in {folder} are damaged: {error}") from error
    width = model.get_input_embeddings().weight.shape[1]
    if config.hidden != width:
        raise UserError(
            f"the MemGen weights were made for hidden size {config.hidden}; this backbone has {width}"
        )
    made = MemGenModel(model, config)
    try:
        made.load_state(weights)
    except (KeyError, RuntimeError):
        made.remove()
        raise UserError(f"the MemGen weights in {folder} do not fit this backbone or {CONFIG_FILE}") from None
    return made
