"""Our methods as a model of lm-eval: equal to its own where they must be, written once, and never cached."""

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from bridged import CONTEXT, evaluate, generation, likelihood, made, plain_logprob, rolling, save_tiny
from deltamem_eval.backbone import embedded_folder
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_text
from deltamem_eval.interface import Answer
from deltamem_eval.lm_eval_bridge import MODEL_NAME, register, tasks_folder
from deltamem_eval.tasks.embedded.task import EmbeddedTask

TASKS = ("toy_generate", "toy_shots", "toy_choice", "toy_text")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def responses(found: Any) -> dict[str, list[Any]]:
    return {name: [sample["resps"] for sample in rows] for name, rows in found["samples"].items()}


@pytest.mark.parametrize("name", ["embedded", "tiny"])
def test_vanilla_equals_lm_evals_own_model_to_the_last_sample(name: str, tiny: Path) -> None:
    folder = embedded_folder() / "backbone" if name == "embedded" else tiny
    arguments = {"pretrained": str(folder), "dtype": "float32"}
    theirs = evaluate("hf", *TASKS, model_args=arguments, batch_size=2, device="cpu")
    ours = evaluate(made(model=str(folder), batch_size=2), *TASKS)
    assert theirs["results"].keys() == ours["results"].keys() == set(TASKS)
    assert ours["results"] == theirs["results"]
    assert responses(ours) == responses(theirs)


def test_a_window_over_the_whole_context_scores_as_the_whole_prompt(tiny: Path) -> None:
    whole, split = made(model=str(tiny)), made(model=str(tiny), split="blank", window=400, batch_size=3)
    requests = [likelihood(f"{CONTEXT}What does {name} keep?", f" a {it}") for name in "AB" for it in "xyz"]
    requests += [likelihood("", "a red box"), likelihood(f"{CONTEXT}Who? ", "Ann")]
    for one, other in zip(whole.loglikelihood(requests), split.loglikelihood(requests), strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    texts = ["Ann keeps a red box.", "x", "Über 5 €"]
    wanted = whole.loglikelihood_rolling([rolling(text) for text in texts])
    assert split.loglikelihood_rolling([rolling(text) for text in texts]) == pytest.approx(wanted, abs=1e-3)


def test_each_context_is_written_once(tiny: Path) -> None:
    lm = made(model=str(tiny), method="token-write", adapter=str(tiny / "adapter"), window=0)
    other = CONTEXT.replace("red", "green")
    asked = [f"{context}What does {name} keep?" for name in ("Ann", "Ben") for context in (CONTEXT, other)]
    lm.generate_until([generation(text) for text in asked])
    lm.loglikelihood([likelihood(text, " a box") for text in [*asked, "No context here?"]])
    assert lm.memories.ingests == {hash_text(CONTEXT): 1, hash_text(other): 1}
    assert lm.get_model_info()["contexts_written"] == 2


def test_token_write_scores_from_its_state_and_nothing_else(tiny: Path) -> None:
    from deltamem_eval.methods.delta_mem.hooks import set_state, writing

    question, wanted = "What does Ann keep?", " a red box"
    lm = made(model=str(tiny), method="token-write", adapter=str(tiny / "adapter"), window=0, batch_size=2)
    texts = [CONTEXT + question, CONTEXT.replace("red", "green") + question, question]
    scores = lm.loglikelihood([likelihood(text, more) for text in texts for more in (wanted, " a cup or so")])
    assert len({round(score, 3) for score, _ in scores}) == len(scores)
    encode, model = lm.backbone.encode, lm.backbone.model
    lm.memories._recall(CONTEXT)
    lm._method._place(1)
    with writing(model, False):
        assert plain_logprob(model, encode(question), encode(wanted)) == pytest.approx(scores[0][0], abs=1e-3)
        set_state(model, {})
        assert plain_logprob(model, encode(question), encode(wanted)) == pytest.approx(scores[4][0], abs=1e-3)


def test_answers_from_a_state_change_with_the_context() -> None:
    lm = made(method="token-write", window=0)
    question = "question : what is the code of amina cohen now ? answer :"
    codes = ("red fox", "blue owl", "green bear", "white lion")
    asked = [f"note : the code of amina cohen is {code}\n\n{question}" for code in codes]
    scores = lm.loglikelihood([likelihood(text, " red fox") for text in asked])
    assert len({score for score, _ in scores}) == len(codes)
    assert len(set(lm.generate_until([generation(text) for text in asked]))) > 1


def test_rolling_writes_what_it_has_scored(tiny: Path) -> None:
    text = "".join(f"Item {number} lies in drawer {number * 7 % 31}.\n" for number in range(9))
    lm = made(model=str(tiny), split="auto", window=40)
    encode, size = lm.backbone.encode, 512 // 4
    ids = encode(text)
    assert size < len(ids) < 2 * size
    first = plain_logprob(lm.backbone.model, [1], ids[:size])
    second = plain_logprob(lm.backbone.model, ids[size - 40 : size], ids[size:])
    assert lm.loglikelihood_rolling([rolling(text)])[0] == pytest.approx(first + second, abs=1e-2)
    assert lm.memories.ingests == {hash_text(text): 1}


def test_our_tasks_give_what_the_grid_gives() -> None:
    lm = made(method="bm25-rag", window=64, batch_size=8)
    found = evaluate(
        lm, "dme_embedded_retrieval", folder=tasks_folder(), metadata={"episode_limit": 3, "episode_seed": 1}
    )
    samples = found["samples"]["dme_embedded_retrieval"]
    given = {sample["doc"]["id"]: sample["resps"][0][0] for sample in samples}
    task = EmbeddedTask()
    episodes = [item for item in task.episodes(1, 3) if item.category == "accurate-retrieval"]
    wanted, accuracies = {}, []
    for episode in episodes:
        lm._method.reset()
        for chunk in episode.chunks:
            lm._method.write(chunk)
        for query, answer in zip(episode.queries, lm._method.answer(episode.queries), strict=True):
            wanted[query.id] = answer.text
            accuracies.append(task.score(query, answer.text)["accuracy"])
    assert given == wanted
    assert found["results"]["dme_embedded_retrieval"]["exact_match,none"] == pytest.approx(
        sum(accuracies) / len(accuracies)
    )
    assert set(lm.memories.ingests.values()) == {1}
    assert len(lm.memories.ingests) == 3


def test_the_response_cache_is_refused(tiny: Path, tmp_path: Path) -> None:
    for lm in (made(model=str(tiny)), made(model=str(tiny), split="auto", window=20)):
        with pytest.raises(UserError, match="response cache"):
            evaluate(lm, "toy_generate", use_cache=str(tmp_path / "answers"))


def test_a_failed_answer_stops_the_run_and_a_skipped_one_is_counted(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = made(model=str(tiny), split="auto", window=20)
    for status in ("skipped", "failed"):
        answer = Answer("", 0, 0, status=status, error="not of its kind")
        monkeypatch.setattr(lm._method, "answer", lambda queries, answer=answer: [answer for _ in queries])
        if status == "skipped":
            assert lm.generate_until([generation("a?"), generation("b?")]) == ["", ""]
            assert lm.get_model_info()["questions_skipped"] == 2
        else:
            with pytest.raises(UserError, match="gave no answer to 0: not of its kind"):
                lm.generate_until([generation("a?")])


def test_results_say_what_answered(tiny: Path) -> None:
    lm = made(model=str(tiny), method="token-write", adapter=str(tiny / "adapter"), window=20)
    found = evaluate(lm, "toy_generate", limit=2)["config"]
    added = 3 * (3 * 8 * 48 + 8 * 48 * 2 + 8 * 49)
    assert found["method"] == "token-write"
    assert found["method_options"] == {"write_length": 0}
    assert (found["window"], found["split"]) == (20, "auto")
    assert found["adapter_hash"] == type(lm._method).adapter_hash(str(tiny / "adapter"))
    assert found["backbone_identity"] == lm.backbone.identity
    assert found["overhead"] == dict.fromkeys(("trainable", "stored"), added)
    other = made(model=str(tiny), method="token-write", adapter=str(tiny / "adapter"), window=0)
    assert other.get_model_info()["config_hash"] != found["config_hash"]
    assert made(model=str(tiny)).get_model_info()["overhead"] == {"trainable": 0, "stored": 0}


def test_every_name_lm_eval_had_is_still_there() -> None:
    register()
    register()
    from lm_eval.api.registry import get_model

    assert get_model(MODEL_NAME).__name__ == "DeltaMemLM"
    assert get_model("hf").__name__ == "HFLM"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methd": "vanilla"}, "unknown model argument"),
        ({"window": 20}, "needs a split"),
        ({"method": "bm25-rag", "window": 3}, "at least 16"),
        ({"method": "bm25-rag", "window": "many"}, "not 'many'"),
        ({"method": "bm25-rag", "options": "top_k"}, "NAME:VALUE"),
        ({"method": "bm25-rag", "options": "{top"}, "not JSON"),
        ({"method": "bm25-rag", "options": "topk:3"}, "did you mean top_k"),
        ({"method": "bm25-rag", "split": "line"}, "no split rule"),
        ({"batch_size": "many"}, "batch_size"),
        ({"method": "nothing"}, "unknown method"),
        ({"method": 7}, "argument method is a text, not 7"),
        ({"model": 5}, "argument model is a text, not 5"),
        ({"pretrained": False}, "argument model is a text, not False"),
        ({"adapter": True, "method": "token-write"}, "argument adapter is a text, not True"),
        ({"split": 3}, "argument split is a text, not 3"),
        ({"split": False}, "argument split is a text, not False"),
        ({"dtype": 16}, "argument dtype is a text, not 16"),
        ({"chat": "no"}, "argument chat is true or false, not 'no'"),
        ({"chat": "off"}, "argument chat is true or false, not 'off'"),
        ({"seed": "abc"}, "argument seed is a whole number from 0 on, not 'abc'"),
        ({"seed": 1.9}, "argument seed is a whole number from 0 on, not 1.9"),
        ({"seed": True}, "argument seed is a whole number from 0 on, not True"),
        ({"seed": -1}, "argument seed is a whole number from 0 on, not -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(**arguments)


TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


def test_in_a_chat_template_the_continuation_begins_the_answer(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "chat")
    (tmp_path / "chat" / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    asked = likelihood(f"{CONTEXT}What does Ann keep?", " a red box")
    lm = made(model=str(tmp_path / "chat"), split="auto", window=100)
    encode, model = lm.backbone.encode, lm.backbone.model
    before = encode(f"[user]{CONTEXT}\nWhat does Ann keep?[assistant]")
    expected = plain_logprob(model, before, encode("a red box"))
    assert lm.loglikelihood([asked])[0][0] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(UserError, match="chat=false"):
        lm.loglikelihood_rolling([rolling("a")])
    bare = made(model=str(tmp_path / "chat"), split="auto", window=100, chat=False)
    expected = plain_logprob(model, encode(f"{CONTEXT}What does Ann keep?"), encode(" a red box"))
    assert bare.loglikelihood([asked])[0][0] == pytest.approx(expected, abs=1e-3)
    whole = evaluate(made(model=str(tmp_path / "chat")), "toy_generate", apply_chat_template=True)
    arguments = {"pretrained": str(tmp_path / "chat"), "dtype": "float32"}
    theirs = evaluate("hf", "toy_generate", model_args=arguments, device="cpu", apply_chat_template=True)
    assert responses(whole) == responses(theirs)
    assert whole["samples"]["toy_generate"][0]["arguments"][0][0].endswith("[assistant]")


def test_what_a_method_cannot_do_is_refused(tiny: Path) -> None:
    lm = made(
        model=str(tiny), method="bm25-rag", window=32, options="top_k:3;words:plain", batch_size="auto:2"
    )
    assert (lm._method.options["top_k"], lm._method.options["words"]) == (3, "plain")
    with pytest.raises(UserError, match="greedily"):
        lm.generate_until([generation("a?", do_sample=True, temperature=0.7)])
    with pytest.raises(UserError, match="does not stand before a question"):
        made(model=str(tiny), split="field:context").generate_until([generation("a b", {"context": "b"})])
    with pytest.raises(UserError, match="apply_chat_template"):
        lm.apply_chat_template([{"role": "user", "content": "a?"}])
