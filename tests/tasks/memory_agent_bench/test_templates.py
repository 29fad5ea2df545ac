"""The benchmark's own prompts: read from a checkout without running it, checked, filled, kept."""

import json
from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench.checkout import head_of, read_checkout
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from deltamem_eval.tasks.memory_agent_bench.sources import source_of
from deltamem_eval.tasks.memory_agent_bench.templates import (
    PROMPTS,
    Wording,
    load_prompts,
    prompts_file,
    store_prompts,
    wording_of,
)

from miniature import COMMIT, FAMILIES, source, write_checkout

ICL, FACTS = source_of("icl_x"), source_of("factconsolidation_sh_6k")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_templates_are_read_and_filled(tmp_path: Path) -> None:
    found = read_checkout(write_checkout(tmp_path))
    assert (set(found.templates), found.commit) == (set(FAMILIES), COMMIT)
    long, rag, search = (Wording(found, name) for name in ("official", "official-rag", "official-agentic"))
    assert long.system == "You keep notes."
    assert long.question(ICL, "a {b}?") == 'Only "label: {label}". a {b}?'
    assert (
        long.question(FACTS, "{question}") == "Reply to factconsolidation, as short as can be. {question} =>"
    )
    assert rag.question(ICL, "q") == "Look it up in in_context_learning: q =>"
    assert search.question(FACTS, "q") == "Search first. q =>"
    before, after = long.turn(FACTS)
    assert before == "Noted 2026-01-01 00:00:00\\n[me] these are factconsolidation: \n"
    assert after == "\n [you] kept."
    for prefix in ("live_", "qasper", "embedded_codes"):
        with pytest.raises(
            UserError, match=f"no templates for {prefix} sources: leave out --prompts official"
        ):
            long.question(source_of(f"{prefix}x"), "q")


def test_nothing_of_the_checkout_is_run(tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')"
    write_checkout(tmp_path, f"{source()}\nOTHER = {trap}\nclass A:\n    b = {trap}\n{trap}\n")
    read_checkout(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_the_hash_is_of_the_texts_alone(tmp_path: Path) -> None:
    first = read_checkout(write_checkout(tmp_path / "a", source()))
    moved = source().replace("\n    '", "\n\n        # a remark\n        '").replace("OPENING", "MESSAGE")
    assert read_checkout(write_checkout(tmp_path / "b", moved, commit=None)).hash == first.hash
    other = source(eventqa={"rag_agent": "'Other: {question}'"})
    assert read_checkout(write_checkout(tmp_path / "c", other)).hash != first.hash


def test_commits_are_read_from_what_git_keeps(tmp_path: Path) -> None:
    folder = write_checkout(tmp_path / "main")
    git = folder / ".git"
    assert head_of(folder) == COMMIT
    (git / "refs" / "heads" / "main").unlink()
    assert head_of(folder) is None  # a branch without a commit
    packed = COMMIT.replace("0", "f")
    (git / "packed-refs").write_text(
        f"# pack-refs with: peeled\n{COMMIT} refs/tags/a\n{packed} refs/heads/main\n"
    )
    assert head_of(folder) == packed
    own = git / "worktrees" / "side"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    (own / "commondir").write_text("../..\n")
    side = write_checkout(tmp_path / "side", commit=None)
    assert head_of(side) is None
    (side / ".git").write_text(f"gitdir: {own}\n")
    assert head_of(side) == packed
    for text, wanted in ((f"{COMMIT}\n", COMMIT), ("ref: ../../utils/templates.py\n", None), ("\xff", None)):
        (git / "HEAD").write_text(text, encoding="latin-1")
        assert head_of(folder) == wanted


REFUSED = [
    (
        "in_context_learning",
        "long_context_agent",
        '"label: {label} {question}"',
        r"\{label\} would print the gold",
    ),
    (
        "in_context_learning",
        "rag_agent",
        'f"label: {{label}} {{question}}"',
        r"\{label\} would print the gold",
    ),
    ("ruler_qa", "rag_agent", "'{question} {answers[0]}'", r"\{answers\[0\]\} would print the gold"),
    ("ruler_qa", "rag_agent", "'{question:{gold_answer}}'", "would print the gold"),
    ("detective_qa", "memorize", "'{context} {target}'", r"\{target\} would print the gold"),
    ("eventqa", "rag_agent", "'{question} {source}'", r"\{source\} is a field that nobody fills"),
    ("eventqa", "rag_agent", "'{question!r} {question}'", r"\{question!r\} is a field that nobody fills"),
    ("eventqa", "rag_agent", "'{question} {}'", r"\{\} is a field that nobody fills"),
    ("eventqa", "rag_agent", "'Go on.'", r"lacks \{question\}"),
    ("eventqa", "agentic_memory_agent", "'{{question}}'", r"lacks \{question\}"),
    ("longmemeval", "memorize", "'{time_stamp}'", r"lacks \{context\}"),
    ("longmemeval", "memorize", "'{context}{context}'", r"must hold \{context\} once, not 2 times"),
    ("longmemeval", "memorize", "7", "memorize must be a text, and is int"),
    ("infbench_sum", "rag_agent", "'{question'", "is no format string: expected '}'"),
    ("recsys_redial", "system", "'Be {kind}.'", r"\{kind\} is a field that nobody fills"),
]


@pytest.mark.parametrize(("family", "key", "text", "words"), REFUSED)
def test_templates_that_cannot_serve_are_named(
    family: str, key: str, text: str, words: str, tmp_path: Path
) -> None:
    write_checkout(tmp_path, source(**{family: {key: text}}))
    with pytest.raises(
        UserError, match=rf"templates\.py: {family} (query )?{key}.*{words}|{family}: {words}"
    ):
        read_checkout(tmp_path)


UNREADABLE = [
    ("X = 1\n", "assigns no BASE_TEMPLATES"),
    ("BASE_TEMPLATES = {\n  'a': (\n", "line 2 is not Python: "),
    ("BASE_TEMPLATES = {'a'\0: 1}", "is not Python( that can be read)?: "),
    (f"BASE_TEMPLATES = {'(' * 300}1{')' * 300}", "not Python"),
    (f"BASE_TEMPLATES = {'+'.join(['x'] * 5000)}", "can be read|nested too deeply|line 1: only texts"),
    ("X = str(1)\nBASE_TEMPLATES = {\n 'ruler_qa': {'system': X}}\n", "line 3: only texts.*nothing is run"),
    ("BASE_TEMPLATES = {'ruler_qa': f'{1!r}'}", "line 1: only texts"),
    ("BASE_TEMPLATES = {**{}}", "line 1: only texts"),
    ("BASE_TEMPLATES = make()", "line 1: only texts"),
    ("if True:\n    BASE_TEMPLATES = {}\n", "line 1 changes or uses BASE_TEMPLATES"),
    (source() + "BASE_TEMPLATES['eventqa'] = {}\n", "changes or uses BASE_TEMPLATES"),
    (source() + "BASE_TEMPLATES.update({})\n", "changes or uses BASE_TEMPLATES"),
    (source().replace("BASE_TEMPLATES = ", "OPENING += '!'\nBASE_TEMPLATES = "), "only texts"),
    (r"BASE_TEMPLATES = {'ruler_qa': '\ud83d'}", r"BASE_TEMPLATES: \['ruler_qa'\] holds '\\ud83d'"),
    ("BASE_TEMPLATES = {}", "ruler_qa is missing; a newer checkout"),
    (source().replace("'eventqa'", "'event'"), "eventqa is missing"),
    (source().replace("'query'", "'ask'"), "ruler_qa: query is missing"),
    (source(eventqa={"system": "'Another.'"}), "one system message is expected"),
]


@pytest.mark.parametrize(("text", "words"), UNREADABLE, ids=[text[:30] for text, _ in UNREADABLE])
def test_files_that_cannot_be_read_say_where(text: str, words: str, tmp_path: Path) -> None:
    write_checkout(tmp_path, text)
    with pytest.raises(UserError, match=words) as caught:
        read_checkout(tmp_path)
    assert str(tmp_path / "utils" / "templates.py") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no utils/templates\.py: give a checkout of github\.com"):
        read_checkout(tmp_path)
    (tmp_path / "utils" / "templates.py").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no"):
        read_checkout(tmp_path)
    (tmp_path / "utils" / "templates.py").rmdir()
    (tmp_path / "utils" / "templates.py").write_bytes("BASE_TEMPLATES = {'é': 1}".encode("latin-1"))
    with pytest.raises(UserError, match=r"is not UTF-8 text \(byte 19\)"):
        read_checkout(tmp_path)


def test_the_user_s_copy_is_whole_or_refused(tmp_path: Path) -> None:
    command = "run deltamem-eval data import-prompts CHECKOUT"
    with pytest.raises(
        UserError, match=f"--prompts official-rag needs the benchmark's own templates: {command}"
    ):
        wording_of("official-rag")
    found = read_checkout(write_checkout(tmp_path, commit=None))
    assert (
        store_prompts(found)
        == prompts_file()
        == tmp_path / "cache" / "deltamem-eval" / "official_prompts.json"
    )
    assert load_prompts("official") == found
    assert wording_of("own") is None
    with pytest.raises(UserError, match="did you mean official"):
        wording_of("oficial")
    value = json.loads(prompts_file().read_text())
    assert value["commit"] is None
    edited = json.loads(json.dumps(value))
    edited["templates"]["eventqa"]["query"]["rag_agent"] += "!"
    for damaged in (json.dumps(edited), json.dumps({**value, "templates": {}}), "[1]", "{"):
        prompts_file().write_text(damaged)
        with pytest.raises(UserError, match=f"is damaged: {command} again"):
            load_prompts("official")
    (tmp_path / "cache" / "deltamem-eval" / "official_prompts.json").unlink()
    (tmp_path / "cache" / "deltamem-eval").rmdir()
    (tmp_path / "cache" / "deltamem-eval").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        store_prompts(found)


@pytest.mark.parametrize("name", [name for name in PROMPTS if name != "own"])
def test_a_prompt_holds_the_question_and_never_the_answer(name: str, tmp_path: Path) -> None:
    wording = Wording(read_checkout(write_checkout(tmp_path)), name)
    row = {
        "context": "Which bird is it?\nlabel: 4177\n",
        "questions": ["Which fish is it?"],
        "answers": [["4177"]],
        "metadata": {"source": "icl_x"},
    }
    (query,) = episode_from_row(row, split="s", index=0, wording=wording).queries
    assert "Which fish is it?" in query.prompt
    assert "4177" not in query.prompt
    assert query.metadata["question"] == "Which fish is it?"
