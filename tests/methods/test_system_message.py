"""A task's system message stands at the beginning of every prompt."""

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.bm25_rag import Bm25Rag
from deltamem_eval.methods.prompt import PromptBuilder
from deltamem_eval.methods.vanilla import Vanilla
from tiny import tiny_backbone

CHAT = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</{{ turn.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUERY = Query("q", "Which one?", ("x",))


@pytest.mark.parametrize(
    ("template", "system", "wanted"),
    [
        (CHAT, "", "<user>box\nWhich one?</user><assistant>"),
        (CHAT, "Be brief.", "<system>Be brief.</system><user>box\nWhich one?</user><assistant>"),
        (None, "", "boxWhich one?"),
        (None, "Be brief.", "Be brief.\nboxWhich one?"),
    ],
)
def test_it_opens_the_prompt(template: str | None, system: str, wanted: str) -> None:
    backbone = tiny_backbone()
    backbone.tokenizer.chat_template, backbone.system = template, system
    prompts = PromptBuilder(backbone)
    whole = prompts.build(backbone.encode("box"), QUERY).whole()
    assert backbone.decode(whole.ids) == wanted
    alone = prompts.build((), QUERY).whole()
    assert backbone.decode(alone.ids) == wanted.replace("box\n" if template else "box", "")
    bare = tiny_backbone()
    bare.tokenizer.chat_template = template
    assert prompts.room(QUERY) <= PromptBuilder(bare).room(QUERY)


def test_every_method_s_prompt_has_it() -> None:
    for kind in (Vanilla, Bm25Rag):
        hashes = []
        for system in ("", "Be brief."):
            backbone = tiny_backbone()
            backbone.system = system
            method = kind(backbone, MethodSettings(window=40))
            method.write(Chunk("Ann keeps the box.\n", 0))
            (answer,) = method.answer([QUERY])
            hashes.append((answer.prompt_hash, answer.prompt_tokens))
        assert hashes[1][1] == hashes[0][1] + len("Be brief.\n")
        assert hashes[1][0] != hashes[0][0]


def test_a_chat_template_that_takes_none_is_refused() -> None:
    backbone = tiny_backbone()
    backbone.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT
    )
    PromptBuilder(backbone)
    backbone.system = "Be brief."
    with pytest.raises(UserError, match=r"template of tiny takes no system message.*\(no system role\)"):
        PromptBuilder(backbone)
