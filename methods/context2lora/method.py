"""Context2LoRA behind the harness's interface: one adapter for all contexts, or one for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.interface import (
    Answer,
    Chunk,
    Footprint,
    MemoryMethod,
    MethodSettings,
    Overhead,
    Query,
    Snapshot,
)

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.context2lora.pairs import Pairs
    from deltamem_eval.overhead import ModelShape
    from torch import Tensor

TARGETS = "q_proj,k_proj,v_proj,o_proj"
_ANSWER = 512  # tokens of an answer that are learnt
_COUNTS = ("rank", "steps", "label_steps", "batch", "questions", "passage_tokens")
_KEPT = 16  # fitted adapters kept in memory, by content


class Context2Lora(MemoryMethod):
    """Rank-8 adapters on q, k, v and o: 5,898,240 parameters on Qwen3-4B, as the paper's table counts.

    Option mode. `static`: one adapter, trained once (`deltamem-eval train context2lora`), changes how the
    backbone reads; the context stands in the prompt as far as the window reaches. `per-context`: at write
    time question-answer pairs are drawn from the context, labelled examples as they stand and the rest
    written by the backbone, and an adapter is fitted to them; the prompt holds the window, so with window 0
    the adapter alone knows the context.

    Options of per-context. steps: updates; label_steps: updates where most pairs are labelled examples.
    batch: pairs an update. lr. questions: asked of the backbone about each passage. passage_tokens: the most
    a passage has; one whose questions cannot be read is learnt whole, as plain text, and reported. rank and
    targets hold for both modes; a trained folder brings its own. Unlike Back et al. 2026, whose adapters are
    of rank 4 on all linear layers with dropout 0.1, both modes have those of the table, without dropout.
    Passages do not overlap (theirs by 200 tokens) and are asked about once, greedily and directly, 20
    questions, where they ask for 40 about a summary and twice for new ones at temperature 0.7; and answers
    alone are learnt, where they learn the whole chat, question included.
    """

    name: ClassVar[str] = "context2lora"
    summary: ClassVar[str] = "low-rank adapters: one for all contexts (static), or one fitted to each"
    trained: ClassVar[bool] = True
    always_on: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "mode": "static",
        "rank": 8,
        "targets": TARGETS,
        "steps": 150,
        "label_steps": 600,
        "batch": 32,
        "lr": 5e-4,
        "questions": 20,
        "passage_tokens": 2048,
    }

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.context2lora.lora import Lora
        from deltamem_eval.methods.options import check_least, merge_options
        from deltamem_eval.methods.prompt import PromptBuilder
        from deltamem_eval.methods.shared_prefix import SharedPrefix
        from deltamem_eval.methods.window import Window, window_size

        self.options = merge_options(self.name, self.defaults, settings.options)
        if self.options["mode"] not in ("static", "per-context"):
            raise UserError(
                f"option mode of context2lora must be static or per-context, not {self.options['mode']!r}"
            )
        check_least(self.name, self.options, dict.fromkeys(_COUNTS, 1))
        if not 0 < self.options["lr"] < math.inf:
            raise UserError(f"option lr of context2lora must be a number above 0, not {self.options['lr']}")
        if not all(self.options["targets"].split(",")):
            raise UserError(
                f"option targets of context2lora names modules, separated by commas, not "
                f"{self.options['targets']!r}"
            )
        self._backbone, self._seed = backbone, settings.seed
        self._per_context = self.options["mode"] == "per-context"
        self._prompts = PromptBuilder(backbone)
        self._window = Window(backbone, window_size(backbone, settings.window))
        self._shared = SharedPrefix(backbone, self._window)
        self._fitted: dict[str, tuple[dict[str, Tensor], Pairs | None]] = {}
        if self._per_context:
            self._lora = self._fresh()
            self._blank = self._lora.state()
        else:
            if settings.adapter is None:
                raise UserError("context2lora in static mode needs trained weights: give --adapter FOLDER")
            self._lora = Lora.load(backbone.model, settings.adapter)
        self.reset()

    def _fresh(self) -> Any:
        import torch
        from deltamem_eval.methods.context2lora.lora import Lora

        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            return Lora.fresh(
                self._backbone.model, self.options["rank"], tuple(self.options["targets"].split(","))
            )

    def reset(self) -> None:
        """Forget the context."""
        self._texts: list[str] = []
        self._settled: str | None = None
        self._window.ids, self._window.seen = [], 0
        self._shared.clear()

    def write(self, chunk: Chunk) -> None:
        """Take in a chunk; fitting waits until all are there."""
        self._window.add(chunk)
        if self._per_context:
            self._texts.append(chunk.text)

    def _settle(self) -> None:
        """Have the context's own weights on the backbone, fitting them where they are not known yet."""
        if not self._per_context:
            return
        key = hash_json([self._texts, self._seed])
        if key == self._settled:
            return
        if key not in self._fitted:
            self._settled = None  # where fitting fails, the backbone has the weights of no context
            self._fitted[key] = self._fit()
            while len(self._fitted) > _KEPT:
                del self._fitted[next(iter(self._fitted))]
        self._lora.set_state(self._fitted[key][0])
        self._settled = key
        self._shared.clear()

    def _fit(self) -> tuple[dict[str, Tensor], Pairs | None]:
        """Weights fitted to what was written, from the seeded start."""
        from deltamem_eval.methods.context2lora.fit import fit_pairs
        from deltamem_eval.methods.context2lora.pairs import pairs_of

        self._lora.set_state(self._blank)
        if not self._texts:
            return self._lora.state(), None
        options = self.options
        text = "".join(self._texts)
        made = pairs_of(self._backbone, self._prompts, text, options["questions"], options["passage_tokens"])
        ids = [pair for pair in (self._ids(*made_pair) for made_pair in made.pairs) if pair[1]]
        steps = options["label_steps"] if made.mostly_labelled else options["steps"]
        if ids:
            fit_pairs(self._backbone, self._lora, ids, steps, options["batch"], options["lr"], self._seed)
        if made.malformed:
            self._backbone.notices.append(
                f"context2lora: the backbone's questions could not be read for {made.malformed} of "
                f"{made.passages} passages, which were learnt as plain text"
            )
        return self._lora.state(), made

    def _ids(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """A pair as a run would put it; a passage without a question is learnt from its first token on."""
        encode, positions = self._backbone.encode, self._backbone.positions
        if not question:
            ids = encode(answer)[:positions]
            return ids[:1], ids[1:]
        prompt = self._prompts.build((), Query("", question, ())).request.ids
        room = positions // 2
        return list(prompt[-room:]), self._prompts.answer_ids(answer)[: min(room, _ANSWER)]

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer with the adapter on, from the window."""
        self._settle()
        return self._shared.answer(queries)

    def snapshot(self) -> Snapshot:
        """The window and, per context, the fitted weights and the text that writing would go on from."""
        self._settle()
        tensors = self._lora.state() if self._per_context else {}
        meta = {"ids": list(self._window.ids), "seen": self._window.seen, "texts": list(self._texts)}
        return Snapshot(tensors, meta)

    def restore(self, snapshot: Snapshot) -> None:
        """Put everything back, fitting nothing anew."""
        self._window.ids = list(snapshot.meta["ids"])
        self._window.seen = int(snapshot.meta["seen"])
        self._texts = list(snapshot.meta["texts"])
        if not self._per_context:
            return
        key = hash_json([self._texts, self._seed])
        if key != self._settled:
            self._fitted[key] = (dict(snapshot.tensors), None)
            self._settle()

    def footprint(self) -> Footprint:
        """The window's text with its keys and values, and the context's own weights."""
        weights = 0
        if self._per_context and self._texts:
            weights = sum(tensor.numel() * tensor.element_size() for tensor in self._lora.state().values())
        text = len(self._backbone.decode(self._window.ids).encode("utf-8"))
        return Footprint(text=text, kv=self._shared.bytes, weights=weights)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """r·(in + out) for each target in every layer."""
        from deltamem_eval.methods.context2lora.lora import lora_parameters

        merged = {**cls.defaults, **options}
        count = lora_parameters(shape, merged["rank"], tuple(merged["targets"].split(",")))
        return Overhead(trainable=count, stored=count)

    def added(self, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Parameters of the adapter that is on the backbone, by its own rank and targets."""
        count: int = self._lora.count(shape)
        return Overhead(trainable=count, stored=count)

    def trained_tensors(self) -> Iterable[Tensor]:
        """The adapter's parameters."""
        tensors: list[Tensor] = self._lora.parameters()
        return tensors

    @classmethod
    def label(cls, options: Mapping[str, Any]) -> str:
        """Says which mode."""
        return f"{cls.name} ({options.get('mode', cls.defaults['mode'])})"

    def close(self) -> None:
        """Take the adapter off the backbone."""
        self._lora.remove()
