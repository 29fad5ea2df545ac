"""The one prompt builder: every method that puts text before a question does it here.

Prompts are put together from token ids, not text, so that the context's part is exactly the window and a
prefix shared by several questions is shared to the token. A chat template that asks for the day is told the
same one always, the one that Llama 3.1's template names by itself: prompts do not change overnight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from deltamem_eval.decoding import Request
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_ids
from deltamem_eval.interface import Answer, Query

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.decoding import Continuation

PROMPT_VERSION = 1
_CONTEXT, _QUESTION = "\u2060context\u2060", "\u2060question\u2060"
_DAY = date(2024, 7, 26)
_FORMS = "aAbBdeFHIjmMpSyY"  # of strftime


@dataclass(frozen=True)
class Prompt:
    """A prompt in two parts: `prefix` ids (shared by the questions of a context) and the query's request."""

    prefix: tuple[int, ...]
    request: Request

    @property
    def tokens(self) -> int:
        """Length in tokens."""
        return len(self.prefix) + len(self.request.ids)

    def whole(self) -> Request:
        """The whole prompt as one request, for methods whose questions share no prefix."""
        return Request((*self.prefix, *self.request.ids), self.request.max_new_tokens, self.request.stop)


class PromptBuilder:
    """Places a context and a question in the backbone's chat template, or one after the other without one.

    The backbone's system message, where it has one, opens every prompt. Raises UserError for a chat template
    that takes none.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._with = self._frame(f"{_CONTEXT}\n{_QUESTION}")
        self._without = self._frame(_QUESTION)

    def _frame(self, content: str) -> list[str]:
        """The text around the context and the question: [before, (between,) after]."""
        tokenizer, system = self._backbone.tokenizer, self._backbone.system
        if getattr(tokenizer, "chat_template", None):
            content = self._chat(system, content)
        else:
            opening = (tokenizer.bos_token or "") + (f"{system}\n" if system else "")
            content = opening + content.replace(f"{_CONTEXT}\n", _CONTEXT)
        return content.replace(_CONTEXT, "\0").replace(_QUESTION, "\0").split("\0")

    def _chat(self, system: str, content: str) -> str:
        from jinja2.exceptions import TemplateError

        opening = [{"role": "system", "content": system}] if system else []
        tokenizer = self._backbone.tokenizer
        try:
            made: str = tokenizer.apply_chat_template(
                [*opening, {"role": "user", "content": content}],
                chat_template=on_one_day(tokenizer.get_chat_template()),
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
                date_string=_DAY.strftime("%d %b %Y"),
            )
        except TemplateError as error:
            if not system:
                raise
            raise UserError(
                f"the chat template of {self._backbone.name} takes no system message, which these prompts "
                f"have ({error})"
            ) from None
        return made

    def prefix(self, context: Sequence[int]) -> tuple[int, ...]:
        """Ids before the question when `context` stands in the prompt; none for an empty context."""
        if not context:
            return ()
        return (*self._backbone.encode(self._with[0]), *context)

    def build(self, context: Sequence[int], query: Query) -> Prompt:
        """The prompt of one query. An empty context gives the question alone."""
        if context:
            _, between, after = self._with
            text = between + query.prompt + after
        else:
            before, after = self._without
            text = before + query.prompt + after
        request = Request(tuple(self._backbone.encode(text)), query.max_new_tokens, query.stop)
        return Prompt(self.prefix(context), request)

    def alone(self, text: str, task: str, room: int) -> tuple[int, ...]:
        """Ids of a prompt that asks for a task on a text: of the text its end, so that all have `room`.

        Raises ValueError where the task alone has more.
        """
        encode = self._backbone.encode
        before, after = self._without
        opening, closing = encode(before), encode(task + after)
        left = room - len(opening) - len(closing)
        if left < 0:
            raise ValueError(f"a task of {len(opening) + len(closing)} tokens has no room in {room}")
        ids = encode(text)
        return (*opening, *ids[max(len(ids) - left, 0) :], *closing)

    @property
    def chats(self) -> bool:
        """Whether the backbone has a chat template, so that an answer ends by itself."""
        return bool(getattr(self._backbone.tokenizer, "chat_template", None))

    def answer_ids(self, text: str) -> list[int]:
        """Ids of an answer as it must end in a run: by the end of the turn in a chat, else by a newline."""
        if self.chats:
            return [*self._backbone.encode(text), int(self._backbone.tokenizer.eos_token_id)]
        return self._backbone.encode(f" {text}\n")

    def room(self, query: Query) -> int:
        """Context tokens that fit beside this query and its answer.

        What the query needs is rounded up to eighths of the positions: the result depends on the query alone,
        never on the ones it is batched with, and queries of different lengths still share a prefix. Raises
        UserError where the query alone does not fit.
        """
        positions = self._backbone.positions
        need = len(self.build((0,), query).request.ids) + query.max_new_tokens
        if need > positions:
            raise UserError(
                f"question {query.id} needs {need} tokens with its answer, more than the {positions} "
                f"positions of {self._backbone.name}: shorten it or choose a longer model"
            )
        step = max(positions // 8, 1)
        frame = len(self._backbone.encode(self._with[0]))
        return max(positions - frame - -(-need // step) * step, 0)


def on_one_day(template: str) -> str:
    """A chat template whose `strftime_now`, where it has one, always tells the same day, at midnight.

    A macro of that name hides transformers' function. As a variable none would arrive: transformers hands
    templates plain data alone.
    """
    if "strftime_now" not in template:
        return template
    told = ""
    for letter in _FORMS:
        text = _DAY.strftime(f"%{letter}")
        told += f"|replace('%{letter}', '{text}')|replace('%-{letter}', '{text.lstrip('0') or '0'}')"
    # The line's end belongs to the tag: what the template begins with stays the beginning of a line.
    return f"{{%- macro strftime_now(form) %}}{{{{- form{told} }}}}{{%- endmacro %}}\n{template}"


def to_answer(prompt: Prompt, result: Continuation, visible: str | None, context_tokens: int) -> Answer:
    """The record of one answered prompt. `visible` is the context text that stood in it."""
    return Answer(
        text=result.text,
        prompt_tokens=prompt.tokens,
        new_tokens=result.new_tokens,
        visible=visible,
        prompt_hash=hash_ids([*prompt.prefix, *prompt.request.ids]),
        context_tokens=context_tokens,
    )
