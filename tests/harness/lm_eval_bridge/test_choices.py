"""Multiple-choice tasks as cells of the grid: each method measures the choices, lm-eval scores them."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from bridged import CONTEXT, TEN, TOY, changed_task, evaluate, plain_logprob, run_grid, save_tiny
from deltamem_eval.backbone import embedded_folder
from deltamem_eval.choosing import answer
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, Chunk, MethodSettings, Query
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.tasks.lm_eval_tasks.task import LmEvalTask
from tiny import tiny_backbone

QUERY = Query(
    "q", "What does Ann keep? ", ("a red box",), metadata={"choices": ["a red box", " a cup", "it"]}
)


@pytest.mark.parametrize("task", ["toy_choice", "toy_sentences"])
@pytest.mark.parametrize("name", ["embedded", "tiny"])
def test_a_cell_of_vanilla_equals_lm_evals_own_model_to_the_last_sample(
    name: str, task: str, tmp_path: Path
) -> None:
    folder = embedded_folder() / "backbone" if name == "embedded" else save_tiny(tmp_path / "model")
    arguments = {"pretrained": str(folder), "dtype": "float32"}
    theirs = evaluate("hf", task, model_args=arguments, device="cpu", limit=4)["samples"][task]
    stored = run_grid(
        tmp_path / "run",
        task,
        methods=("vanilla",),
        model=str(folder),
        limit=4,
        windows=(400,),
        controls=False,
    )
    (ours,) = stored.values()
    assert len(ours) == len(theirs) == 4
    for sample, wanted in zip(ours, theirs, strict=True):
        totals = [float(total) for ((total, _),) in wanted["resps"]]
        assert sample["extras"]["choice_logprobs"] == pytest.approx(totals, abs=1e-3)
        assert (sample["metrics"]["acc"], sample["metrics"]["acc_norm"]) == (
            wanted["acc"],
            wanted["acc_norm"],
        )
        assert sample["metrics"]["accuracy"] == wanted["acc"] == float(sample["answer"] in sample["targets"])
        assert sample["chance"] == pytest.approx(1 / 3)


def test_every_method_measures_choices_whatever_the_batch_and_goes_on(tmp_path: Path) -> None:
    given = {"methods": TEN, "windows": (32,), "limit": 2}
    stored = run_grid(tmp_path / "run", "toy_choice", batch_size=3, **given)
    assert {name.partition(" ")[0] for name in stored} == set(TEN)
    kept = []
    for name, samples in stored.items():
        for sample, choices in zip(
            samples,
            (["a red box", "a blue cup", "nothing"], ["a red box", "a blue cup", "nothing at all"]),
            strict=True,
        ):
            if sample["status"] == "skipped":
                assert "wrong-memory" in name  # of one context alone
                continue
            totals = sample["extras"]["choice_logprobs"]
            assert all(math.isfinite(total) and total < 0 for total in totals)
            assert sample["answer"] == choices[totals.index(max(totals))]
            assert (sample["status"], sample["new_tokens"]) == ("ok", 0)
            kept.append(tuple(totals))
    assert len(set(kept)) > len(TEN)
    shutil.copytree(tmp_path / "run", tmp_path / "torn")
    for file in (tmp_path / "torn").rglob("samples.jsonl"):
        file.write_text(file.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    for out in ("torn", "alone"):
        if out == "torn":
            for file in (tmp_path / out).rglob("cell.json"):
                file.unlink()
        again = run_grid(tmp_path / out, "toy_choice", batch_size=1, **given)
        assert again.keys() == stored.keys()
        for name, samples in stored.items():
            for one, other in zip(samples, again[name], strict=True):
                assert (one["answer"], one["metrics"]) == (other["answer"], other["metrics"])
                totals = one["extras"].get("choice_logprobs", [])
                assert other["extras"].get("choice_logprobs", []) == pytest.approx(totals, abs=1e-3)


def test_the_likeliest_choice_is_the_answer() -> None:
    backbone = tiny_backbone()
    method = Vanilla(backbone, MethodSettings(100))
    method.write(Chunk(CONTEXT, 0))
    plain = replace(QUERY, id="p", metadata={})
    (first, second, third) = answer(method, backbone, [QUERY, plain, QUERY])
    before = backbone.encode(f"{CONTEXT}What does Ann keep?")
    wanted = [
        plain_logprob(backbone.model, before, backbone.encode(f" {it}")) for it in QUERY.metadata["choices"]
    ]
    assert [total for total, _ in first.choices] == pytest.approx(wanted, abs=1e-3)
    assert first.text == QUERY.metadata["choices"][wanted.index(max(wanted))].strip()
    assert first.visible == CONTEXT
    assert first.text == third.text
    assert second == method.answer([plain])[0]
    assert second.choices == ()


class Silent(Vanilla):
    """Answers without the backbone, with a status of its own."""

    status = "ok"

    def answer(self, queries: list[Query]) -> list[Answer]:  # type: ignore[override]
        return [Answer("it", 0, 0, status=self.status, error="no") for _ in queries]


def test_what_does_not_answer_through_the_backbone_is_refused_unless_it_skips() -> None:
    backbone = tiny_backbone()
    method = Silent(backbone, MethodSettings(0))
    with pytest.raises(UserError, match="does not answer through the backbone"):
        answer(method, backbone, [QUERY])
    method.status = "skipped"
    (found,) = answer(method, backbone, [QUERY])
    assert (found.status, found.error, found.choices) == ("skipped", "no", ())


def test_what_lm_eval_asks_of_choices_is_in_the_query(tmp_path: Path) -> None:
    (episode, *_) = LmEvalTask("toy_choice", str(TOY)).episodes(0, 1)
    (query,) = episode.queries
    assert query.metadata["choices"] == [" a red box", " a blue cup", " nothing"]
    assert (query.targets, query.max_new_tokens) == (("a red box",), len(" a blue cup"))
    task = LmEvalTask("toy_sentences", str(TOY))
    (episode, *_) = task.episodes(0, 1)
    (query,) = episode.queries
    assert query.metadata["choice_requests"] == [
        [f"What does Ann keep? It is {choice},", " as anyone knows."]
        for choice in ("a red box", "a blue cup", "nothing")
    ]
    assert episode.context == "Ann keeps a red box. Ben keeps a blue cup.\n\n"
    assert query.targets == (query.metadata["choices"][0],)
    replies = ((-9.0, False), (-8.0, False), (-7.0, True))
    assert task.score_answer(query, Answer("", 0, 0, choices=replies))["accuracy"] == 0
    assert task.score_answer(query, Answer("", 0, 0, choices=replies[::-1])) == {
        "acc": 1,
        "acc_norm": 1,
        "accuracy": 1,
    }
    assert task.score(query, query.targets[0]) == {"accuracy": 1}
    assert task.score(query, "nothing") == {"accuracy": 0}


def test_choices_that_cannot_be_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_new_tokens has no effect on lm-eval task toy_choice"):
        LmEvalTask("toy_choice", str(TOY), max_new_tokens=9)
    folder = changed_task(
        tmp_path / "toy", "mine", "metric_list: [{metric: acc_mutual_info}]", base="toy_choice"
    )
    with pytest.raises(UserError, match="mine asks for acc_mutual_info"):
        LmEvalTask("mine", str(folder))
    apart = "doc_to_choice: \"{{[question ~ '\\n\\nA', question ~ '!\\n\\nB']}}\""
    folder = changed_task(tmp_path / "other", "mine", apart, base="toy_sentences")
    with pytest.raises(
        UserError, match="choices of a document do not share a context: give --task-option split=none"
    ):
        list(LmEvalTask("mine", str(folder)).episodes(0, None))
    assert list(LmEvalTask("mine", str(folder), split="none").episodes(0, None))
