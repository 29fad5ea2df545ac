"""MemGen behind the harness's interface."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, Footprint, MethodSettings, Overhead, Query
from deltamem_eval.methods.vanilla import Vanilla

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.decoding import Continuation
    from deltamem_eval.methods.memgen.stream import Stream
    from deltamem_eval.methods.prompt import Prompt
    from deltamem_eval.overhead import ModelShape
    from torch import Tensor


class MemGen(Vanilla):
    """The context in the prompt as vanilla has it; latent memories are woven in before and inside the answer.

    A weaver (low-rank adapters over the backbone's own weights) reads everything so far and appends latents
    at the prompt's end and at delimiters inside the answer, at most so many times; with a trained trigger
    only where that says so. Options. most: weaves inside an answer, -1 takes what the folder was trained
    with. trigger: `argmax` weaves where the trigger finds that likelier, the default of the authors' code;
    `sample` draws by its probability, the paper's Bernoulli, from the run's seed, the prompt and the place in
    the answer, so that no draw depends on other questions. A folder without a trained trigger refuses it.
    cached: false reads everything again at every step, as the authors' code does once its weaves are spent. A
    weave that would leave the model's positions is not made. Questions are answered one at a time.

    What differs from the paper (arXiv 2509.24704). `deltamem-eval train memgen` trains the weaver alone, the
    authors' published "weaver-sft": their reinforcement learning of the trigger is not here, and a folder
    made here weaves at every place. The trigger's adapter and head are there untrained and are counted among
    the trainable parameters, as in the 46.20M of δ-mem's table. Adapters are of rank 8 on all linear layers,
    which gives that count; MemGen's own (`train memgen --rank 16 --targets q_proj,v_proj`) have a dropout of
    0.1, and here there is none. What the weaver reads follows the code (`memgen.model`). Rate and batch are
    δ-mem's recipe (2e-4, 32), not MemGen's (1e-5, 4), and prompts are in the backbone's own chat template.
    """

    name: ClassVar[str] = "memgen"
    summary: ClassVar[str] = "latent memories woven into the token stream by adapters of the backbone"
    trained: ClassVar[bool] = True
    always_on: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {"most": -1, "trigger": "argmax", "cached": True}

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.memgen.model import load_memgen
        from deltamem_eval.methods.options import merge_options
        from deltamem_eval.methods.prompt import PromptBuilder

        options = merge_options(self.name, self.defaults, settings.options)
        if options["most"] < -1:
            raise UserError(f"option most of memgen must be -1 or a count, not {options['most']}")
        if options["trigger"] not in ("argmax", "sample"):
            raise UserError(f"option trigger of memgen must be argmax or sample, not {options['trigger']!r}")
        if settings.adapter is None:
            raise UserError("memgen needs trained weights: give --adapter FOLDER")
        super().__init__(backbone, MethodSettings(settings.window, settings.seed))
        self._parts = load_memgen(backbone.model, settings.adapter)
        self._sampled, self._seed = options["trigger"] == "sample", settings.seed
        if self._sampled and not self._parts.config.trigger:
            self._parts.remove()
            raise UserError(
                f"option trigger=sample of memgen needs a trained trigger: {settings.adapter} has none and "
                "weaves at every place"
            )
        self._most = self._parts.config.most if options["most"] == -1 else options["most"]
        self._cached = bool(options["cached"])
        self._prompts = PromptBuilder(backbone)
        self._base: tuple[tuple[int, ...], Stream] | None = None

    def reset(self) -> None:
        """Forget the context."""
        super().reset()
        self._base = None

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer from the window, which reasoner and weaver read once however many questions there are."""
        import torch
        from deltamem_eval.methods.prompt import to_answer

        answers = []
        with torch.no_grad():
            for query in queries:
                context = self._window.last(min(self._window.size, self._prompts.room(query)))
                prompt = self._prompts.build(context, query)
                visible = self._backbone.decode(context) if context else None
                answers.append(to_answer(prompt, self._reply(prompt), visible, len(context)))
        return answers

    def _reply(self, prompt: Prompt) -> Continuation:
        """What follows a prompt: generated, unless the backbone expects tokens to be measured."""
        wanted = self._backbone.expected.of(prompt.request)
        if wanted is not None:
            return self._scored(prompt, wanted)
        with self._backbone.clock.generation():
            return self._continue(prompt)

    def _continue(self, prompt: Prompt) -> Continuation:
        from deltamem_eval.decoding import Decoding

        parts, bound = self._parts, self._bounds(prompt)
        stream = self._started(prompt.prefix)
        stream.feed(parts.embed(prompt.request.ids))
        if self._fits(stream, prompt):
            stream.weave("prompt", bound(0))
        decoding, used = Decoding(self._backbone, prompt.request), 0
        for tokens in count(1):
            token = int(stream.logits.argmax(-1))
            self._backbone.clock.token()
            decoding.take(token)
            if decoding.finished:
                break
            stream.feed(parts.embed([token]))
            at_end = decoding.text().endswith(parts.config.delimiters)
            open_to = at_end and used < self._most and self._fits(stream, prompt)
            if open_to and stream.weave("inner", bound(tokens)):
                used += 1
        return decoding.continuation()

    def _bounds(self, prompt: Prompt) -> Callable[[int], float]:
        """By tokens of the answer so far, the bound of the trigger's word there (see `MemGenModel.wants`)."""
        from deltamem_eval.hashing import hash_ids

        if not self._sampled:
            return lambda _: 0.0
        asked = hash_ids([*prompt.prefix, *prompt.request.ids])
        return lambda tokens: logistic(Random(f"memgen/{self._seed}/{asked}/{tokens}").random())

    def _scored(self, prompt: Prompt, wanted: Sequence[int]) -> Continuation:
        """Measures given tokens, which bring on the weaves that the same tokens generated would."""
        import torch
        from deltamem_eval.decoding import Continuation
        from deltamem_eval.likelihood import first_token, measured

        backbone = self._backbone
        stream = self._started(prompt.prefix)
        ids = prompt.request.ids or (() if prompt.prefix else (first_token(backbone),))
        if ids:
            stream.feed(self._parts.embed(ids))
        if self._fits(stream, prompt):
            stream.weave("prompt", self._bounds(prompt)(0))
        logits = torch.cat(self._forced(stream, prompt, wanted))
        backbone.expected.note(prompt.request, measured(logits, wanted))
        return Continuation("", 0)

    def _forced(self, stream: Stream, prompt: Prompt, wanted: Sequence[int]) -> list[Tensor]:
        """The logits [1, vocab] before each wanted token, weaves made where a generation would make them."""
        parts, used, logits, bound = self._parts, 0, [stream.logits], self._bounds(prompt)
        for tokens, token in enumerate(wanted[:-1], 1):
            stream.feed(parts.embed([token]))
            at_end = self._backbone.decode(wanted[:tokens]).endswith(parts.config.delimiters)
            open_to = at_end and used < self._most and self._fits(stream, prompt)
            if open_to and stream.weave("inner", bound(tokens)):
                used += 1
            logits.append(stream.logits)
        return logits

    def _fits(self, stream: Stream, prompt: Prompt) -> bool:
        """Whether latents and the rest of the answer stay within the positions."""
        needed = stream.length + self._parts.config.latents + prompt.request.max_new_tokens
        return needed <= self._backbone.positions

    def _started(self, prefix: tuple[int, ...]) -> Stream:
        """A stream that has read the prefix; the reading is shared by all questions."""
        from deltamem_eval.methods.memgen.stream import PlainStream, Stream

        if not self._cached:
            stream: Stream = PlainStream(self._parts)
            if prefix:
                stream.feed(self._parts.embed(prefix))
            return stream
        if self._base is None or self._base[0] != prefix:
            fresh = Stream(self._parts)
            if prefix:
                fresh.feed(self._parts.embed(prefix))
                fresh.prepare()
            self._base = prefix, fresh
        return self._base[1].fork()

    def footprint(self) -> Footprint:
        """Text of the window; keys and values of the reasoner's and the weaver's reading of it."""
        kv = self._base[1].bytes if self._base else 0
        return Footprint(text=super().footprint().text, kv=kv)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Weaver and trigger of rank 8 on every linear layer, projections, latents and the trigger's head."""
        from deltamem_eval.methods.memgen.config import MemGenConfig, parameter_count

        count = parameter_count(shape, MemGenConfig(hidden=shape.hidden))
        return Overhead(trainable=count, stored=count)

    def added(self, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Parameters of the parts that were loaded, by their own config."""
        from deltamem_eval.methods.memgen.config import parameter_count

        count = parameter_count(shape, self._parts.config)
        return Overhead(trainable=count, stored=count)

    def trained_tensors(self) -> Iterable[Tensor]:
        """Weights of weaver, trigger, projections and latents."""
        return self._parts.state().values()

    def close(self) -> None:
        """Take the parts off the backbone."""
        self._parts.remove()


def logistic(share: float) -> float:
    """The logistic distribution's value below which a share in [0, 1) of its draws lies."""
    return math.log(share / (1 - share)) if share else -math.inf
