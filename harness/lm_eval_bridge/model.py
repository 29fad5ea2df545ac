"""`deltamem-eval` as a model of lm-eval: any memory method on a frozen backbone.

The class is not decorated with lm-eval's `register_model`: a decorated class clashes with an entry point of
the same name. `deltamem_eval.lm_eval_bridge.register` puts it into the registry of versions without entry
points.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from deltamem_eval.backbone import Backbone, load_backbone
from deltamem_eval.errors import UserError, unknown
from deltamem_eval.hashing import hash_json
from deltamem_eval.interface import MemoryMethod, MethodSettings, Query
from deltamem_eval.likelihood import continuation_ids, tag
from deltamem_eval.lm_eval_bridge.arguments import Arguments, parse
from deltamem_eval.lm_eval_bridge.memories import Asked, Memories
from deltamem_eval.lm_eval_bridge.split import Splitter
from deltamem_eval.lm_eval_bridge.texts import pieces, stops_of
from deltamem_eval.methods.prompt import PROMPT_VERSION
from deltamem_eval.registry import METHODS
from lm_eval.api.model import LM

_log = logging.getLogger(__name__)
_ANSWER_TOKENS = 256  # lm-eval's budget where a task names none
_GREEDY = {"do_sample": (None, False), "num_beams": (None, 1)}
_NAMES = ("model", "method", "adapter", "window", "split", "chat", "options", "dtype", "seed")


class DeltaMemLM(LM):  # type: ignore[misc]
    """A memory method behind lm-eval's interface.

    Model arguments. model: `embedded`, a local folder or a hub name (`pretrained` is another word for it).
    method, adapter, seed, dtype: as in `deltamem-eval run`. window: context tokens in the prompt. options:
    the method's own settings, as JSON or NAME:VALUE pairs joined by semicolons. split: where a request is cut
    into the context to write and the question to answer, see `Splitter`; by default `none` for vanilla and
    `auto` for every other method. chat: false leaves the backbone's chat template out.

    vanilla without a split is lm-eval's own `hf` code on the backbone: prompts, tokens, truncation and scores
    are those of `--model hf`. Everything else goes through the method: each context is written once,
    questions are answered greedily from its snapshot, answers come without white space around them, and
    nothing is truncated that the method does not choose to leave out.

    loglikelihood scores the continuation after the prompt and the memory that the method would answer from.
    loglikelihood_rolling cuts a text into pieces of a quarter of the backbone's positions, at most 1024
    tokens; each is scored from the memory of those before it, then written; `split` does not matter. A method
    that answers neither through the backbone nor as MemGen does can be scored by neither: UserError.
    lm-eval's response cache knows no model and is refused. Raises UserError for arguments that cannot be.
    """

    def __init__(
        self,
        model: str = "embedded",
        method: str = "vanilla",
        adapter: str | None = None,
        window: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str | None = 1,
        max_batch_size: int | None = None,
        options: Any = None,
        split: str | None = None,
        chat: bool = True,
        seed: int = 0,
        pretrained: str | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        for name in others:
            raise unknown("model argument", name, _NAMES)
        self.arguments = parse(
            model=model if pretrained in (None, "") else pretrained,
            method=method,
            adapter=adapter,
            window=window,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            split=split,
            chat=chat,
            seed=seed,
            options=options,
        )
        made = self.arguments
        self.backbone = load_backbone(made.model, made.device, made.dtype, made.batch_size)
        if not made.chat:
            self.backbone.tokenizer.chat_template = None
        self._device = self.backbone.device
        self._split = Splitter(made.split)
        self._method: MemoryMethod | None = None
        self._hf: Any = _plain_lm(self.backbone) if made.plain else None
        if self._hf is None:
            settings = MethodSettings(made.window, made.seed, made.adapter, made.options)
            self._method = METHODS.load(made.method)(self.backbone, settings)
            self.memories = Memories(self._method, self.backbone)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Greedy answers, in the order of the requests (context, generation arguments).

        Raises UserError where sampling is asked of a memory method.
        """
        if self._hf is not None:
            return list(self._hf.generate_until(requests))
        answers = self.memories.answers(
            [self._generation(index, request) for index, request in enumerate(requests)]
        )
        self._tell()
        return [answer.text for answer in answers]

    def _generation(self, index: int, request: Any) -> Asked:
        text, given = request.args
        if not text.strip():
            raise UserError("a request to answer is empty")
        parts = self._split.split(text, request.doc)
        query = Query(str(index), parts.question, (), answer_budget(given), stops_of(given.get("until")))
        return Asked(parts.context, query)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Log-probability of each request's continuation, and whether it is what greedy decoding gives."""
        if self._hf is not None:
            return list(self._hf.loglikelihood(requests))
        asked: list[Asked] = []
        wanted: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            text, continuation = request.args
            parts = self._split.split(text, request.doc)
            question, ids = continuation_ids(self.backbone, parts.question, continuation, self._templated())
            query = _scored_query(index, question, len(ids))
            asked.append(Asked(parts.context, query))
            wanted[query.stop[0]] = ids
        scores = self.memories.scores(asked, wanted)
        self._tell()
        return [(score.total, score.greedy) for score in scores]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Log-probability of each whole text, piece by piece, from the memory of the pieces before.

        Raises UserError where a chat template would stand around the text.
        """
        if self._hf is not None:
            return list(self._hf.loglikelihood_rolling(requests))
        if self._templated():
            raise UserError("rolling scores are those of plain text: give the model argument chat=false")
        size = max(min(self.backbone.positions // 4, 1024), 1)
        totals = []
        for (text,) in (request.args for request in requests):
            cut = pieces(self.backbone, text, size)
            ids = [self.backbone.encode(piece) for piece in cut]
            queries = [_scored_query(index, "", len(part)) for index, part in enumerate(ids)]
            totals.append(self.memories.rolling(list(zip(cut, queries, ids, strict=True))))
        self._tell()
        return totals

    def _templated(self) -> bool:
        return bool(getattr(self.backbone.tokenizer, "chat_template", None))

    def _tell(self) -> None:
        if self.memories.skipped:
            _log.warning("%s skipped %s questions", self.arguments.method, self.memories.skipped)
        for notice in self.backbone.notices:
            _log.warning(notice)
        self.backbone.notices.clear()

    def set_cache_hook(self, cache_hook: Any) -> None:
        """lm-eval calls this when it wraps a model in its response cache. Raises UserError."""
        if getattr(cache_hook, "dbdict", None) is not None:
            raise UserError(
                "lm-eval's response cache (use_cache) keeps answers by their prompt alone: another method, "
                "window or adapter would be given this one's answers; leave --use_cache out"
            )
        super().set_cache_hook(cache_hook)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A chat as a prompt. Raises UserError for memory methods, which use the template themselves."""
        if self._hf is None:
            raise UserError(
                f"{self.arguments.method} puts questions into the chat template by itself: leave out "
                "--apply_chat_template"
            )
        return str(self._hf.apply_chat_template(chat_history, add_generation_prompt))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for lm-eval's records."""
        found: str | None = self._hf.chat_template(chat_template) if self._hf is not None else ""
        return found

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, for lm-eval's cache of prepared requests."""
        return self.arguments.model.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes beside its results: all that changes answers, and what the method adds."""
        made, kind = self.arguments, METHODS.load(self.arguments.method)
        identity = {
            "method": made.method,
            "method_options": {**kind.defaults, **made.options},
            "method_parts": kind.parts(made.options),
            "window": made.window,
            "split": made.split,
            "chat": made.chat,
            "method_seed": made.seed,
            "adapter": made.adapter,
            "adapter_hash": None if made.adapter is None else kind.adapter_hash(made.adapter),
            "backbone": self.backbone.name,
            "backbone_identity": self.backbone.identity,
            "model_dtype": self.backbone.dtype,
            "prompts": PROMPT_VERSION,
        }
        stable = {name: value for name, value in identity.items() if name != "adapter"}
        return {
            **identity,
            "method_label": kind.label(made.options),
            "config_hash": hash_json(stable),
            "model_num_parameters": self.backbone.parameters(),
            "overhead": self._overhead(),
            "contexts_written": self.memories.ingests.total() if self._method else 0,
            "questions_skipped": self.memories.skipped if self._method else 0,
        }

    def _overhead(self) -> dict[str, int] | None:
        """Parameters added, trainable and stored; None for a backbone family without a formula."""
        kind, options = METHODS.load(self.arguments.method), self.arguments.options
        try:
            shape = self.backbone.shape()
            added = self._method.added(shape, options) if self._method else kind.overhead(shape, options)
        except UserError as error:
            _log.warning("added parameters unknown: %s", error)
            return None
        return asdict(added)


def answer_budget(given: dict[str, Any]) -> int:
    """Tokens to generate at most, from lm-eval's generation arguments.

    Raises UserError where they ask for anything but greedy decoding.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    kwargs: dict[str, Any] = dict(normalize_gen_kwargs(given, _ANSWER_TOKENS))
    sampled = [name for name, allowed in _GREEDY.items() if kwargs.get(name) not in allowed]
    if sampled:
        asked = f"{sampled[0]}={kwargs[sampled[0]]}"
        raise UserError(f"memory methods decode greedily, but the task asks for {asked}")
    return int(kwargs["max_gen_toks"])


def _scored_query(index: int, question: str, length: int) -> Query:
    return Query(str(index), question, (), length, (tag(index),))


def _plain_lm(backbone: Backbone) -> Any:
    """lm-eval's own model class around the backbone's model and tokenizer."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=backbone.model, tokenizer=backbone.tokenizer, batch_size=backbone.batch_size)


__all__: Sequence[str] = ["Arguments", "DeltaMemLM", "answer_budget"]
