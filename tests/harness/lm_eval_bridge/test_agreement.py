"""lm-eval's own model, our bridge and our grid agree; every method serves every kind of request."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from bridged import TEN, changed_task, evaluate, generation, likelihood, made, rolling, run_grid
from deltamem_eval.backbone import embedded_folder
from deltamem_eval.lm_eval_bridge import tasks_folder

ARGUMENTS = {"pretrained": str(embedded_folder() / "backbone"), "dtype": "float32"}
WHOLE = 400  # tokens that hold every context here
RECORDS = "note : the code of amina cohen is red fox\nnote : the code of ben ode is blue owl\n\n"


def told(samples: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Prompts and answers; our methods leave out white space around an answer."""
    return [(sample["arguments"][0][0], sample["resps"][0][0].strip()) for sample in samples]


def test_our_own_task_is_the_same_through_lm_evals_model_and_through_vanilla() -> None:
    given: dict[str, Any] = {"folder": tasks_folder(), "limit": 6, "metadata": {"episode_limit": 1}}
    theirs = evaluate("hf", "dme_embedded_retrieval", model_args=ARGUMENTS, device="cpu", **given)
    lm = made(split="auto", window=WHOLE, batch_size=4)
    ours = evaluate(lm, "dme_embedded_retrieval", **given)
    assert ours["results"] == theirs["results"]
    assert ours["results"]["dme_embedded_retrieval"]["exact_match,none"] > 0
    (one, other) = (found["samples"]["dme_embedded_retrieval"] for found in (ours, theirs))
    assert told(one) == told(other)
    names = ("doc_id", "doc_hash", "prompt_hash", "target_hash", "exact_match", "f1", "substring_exact_match")
    assert [[sample[name] for name in names] for sample in one] == [
        [sample[name] for name in names] for sample in other
    ]
    assert set(lm.memories.ingests.values()) == {1}


def test_a_cell_of_vanilla_equals_lm_evals_own_model_sample_for_sample(tmp_path: Path) -> None:
    given = {"methods": ("vanilla",), "windows": (WHOLE,), "limit": 4, "controls": False}
    # A stop string without white space: ours passes over what white space an answer begins with.
    toy = changed_task(tmp_path / "toy", "toy_open", "generation_kwargs: {until: ['.'], max_gen_toks: 6}")
    for task, folder in (("toy_open", toy), ("dme_embedded_retrieval", tasks_folder())):
        found = evaluate("hf", task, folder=folder, model_args=ARGUMENTS, device="cpu", limit=4)
        (ours,) = run_grid(tmp_path / task, task, folder, **given).values()
        theirs = found["samples"][task]
        assert [sample["answer"] for sample in ours] == [answer for _, answer in told(theirs)]
        assert any(sample["answer"] for sample in ours)
        for sample, wanted in zip(ours, theirs, strict=True):
            assert sample["query"] == f"{task}/{wanted['doc_id']}"
            assert sample["metrics"]["exact_match"] == sample["metrics"]["accuracy"] == wanted["exact_match"]


@pytest.mark.parametrize("method", TEN)
def test_every_method_serves_every_kind_of_request(method: str) -> None:
    lm = made(method=method, window=32, split="auto", batch_size=2)
    calls = counted(lm._method)
    asked = f"{RECORDS}question : what is the code of amina cohen now ? answer :"
    (text,) = lm.generate_until([generation(asked)])
    assert isinstance(text, str)
    ((total, greedy),) = lm.loglikelihood([likelihood(asked, " red fox")])
    assert math.isfinite(total)
    assert total < 0
    assert type(greedy) is bool
    assert calls == {"reset": 1, "write": 3}  # one context, of three lines, for both requests
    (total,) = lm.loglikelihood_rolling([rolling(RECORDS.strip())])
    assert math.isfinite(total)
    assert total < 0
    assert calls == {"reset": 2, "write": 4}  # the text is one piece
    assert set(lm.memories.ingests.values()) == {1}
    lm._method.close()


def counted(method: Any) -> Counter[str]:
    """Counts the calls that a method is given from outside: what it calls of its own counts too."""
    calls: Counter[str] = Counter()

    def watch(name: str, real: Any) -> None:
        def called(*given: Any) -> None:
            calls[name] += 1
            real(*given)

        setattr(method, name, called)

    for name in ("reset", "write"):
        watch(name, getattr(method, name))
    return calls
