"""MLP Memory behind the harness's interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, MethodSettings, Overhead, Query
from deltamem_eval.methods.vanilla import Vanilla

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.overhead import ModelShape
    from torch import Tensor


class MlpMemoryMethod(Vanilla):
    """The context in the prompt as vanilla has it; a trained network's distribution is mixed into each token.

    Option weight: λ of the mixture; -1 takes the one the folder was tuned to. The memory holds a training
    corpus and nothing of the context at hand. It is trained and stored in float32 and answers in the type of
    a bfloat16 or float16 backbone; probabilities are mixed in float32. Parameters are counted for as many
    blocks as the backbone has layers, as the paper's table does; option blocks changes the count of
    `overhead`, never a loaded network.

    Paper and authors' code differ (arXiv 2508.01832): the paper reads a layer at 70 % of the backbone's depth
    and gives the imitation 0.4 of the loss, the code reads the last layer and gives it 0.5. `deltamem-eval
    train mlp-memory` follows the paper; with `--depth 1 --alpha 0.5` it follows the code.
    """

    name: ClassVar[str] = "mlp-memory"
    summary: ClassVar[str] = "a retriever distilled into a feed-forward network, mixed into every token"
    trained: ClassVar[bool] = True
    always_on: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {"weight": -1.0, "blocks": 0}

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.mlp_memory.model import check_fit, inference_dtype, load_mlp
        from deltamem_eval.methods.mlp_memory.tap import MlpProcessor, Tap
        from deltamem_eval.methods.options import merge_options

        options = merge_options(self.name, self.defaults, settings.options)
        weight = options["weight"]
        if weight != -1.0 and not 0 <= weight <= 1:
            raise UserError(f"option weight of mlp-memory must lie between 0 and 1, not {weight}")
        if settings.adapter is None:
            raise UserError("mlp-memory needs trained weights: give --adapter FOLDER")
        plain = MethodSettings(settings.window, settings.seed)
        super().__init__(backbone, plain)
        memory = load_mlp(settings.adapter, inference_dtype(backbone.model.dtype))
        shape = backbone.shape()
        check_fit(memory.config, shape.hidden, shape.vocab, shape.layers)
        self._memory = memory.to(backbone.device).eval().requires_grad_(False)
        self._tap = Tap(backbone.model, memory.config.layer, last_only=True)
        chosen = memory.config.weight if weight == -1.0 else weight
        self._processor = MlpProcessor(self._tap, self._memory, chosen)

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer as vanilla does, every next token from the mixture."""
        self._backbone.processors.append(self._processor)
        try:
            return super().answer(queries)
        finally:
            self._backbone.processors.remove(self._processor)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """The backbone's feed-forward sizes, one block a layer, and a head of the model's rows."""
        from deltamem_eval.methods.mlp_memory.config import parameter_count

        blocks = {**cls.defaults, **options}["blocks"] or shape.layers
        count = parameter_count(shape.hidden, shape.intermediate, blocks, shape.vocab)
        return Overhead(trainable=count, stored=count)

    def added(self, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Parameters of the network that was loaded, by the sizes in its own config."""
        from deltamem_eval.methods.mlp_memory.config import parameter_count

        own = self._memory.config
        count = parameter_count(own.hidden, own.intermediate, own.blocks, own.vocab)
        return Overhead(trainable=count, stored=count)

    def trained_tensors(self) -> Iterable[Tensor]:
        """The network's parameters."""
        return self._memory.parameters()

    def close(self) -> None:
        """Take the hook off the backbone."""
        self._tap.remove()
