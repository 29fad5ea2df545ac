"""lm-eval's tasks as tasks of ours."""

from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from bridged import TOY, changed_task, evaluate, made, save_tiny
from deltamem_eval import lm_eval_bridge
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.lm_eval_bridge import tasks_folder
from deltamem_eval.registry import TASKS
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.tasks.embedded.task import EmbeddedTask
from deltamem_eval.tasks.lm_eval_tasks import task as module
from deltamem_eval.tasks.lm_eval_tasks.task import LmEvalTask


def test_documents_become_episodes() -> None:
    task = LmEvalTask("toy_generate", str(TOY))
    episodes = list(task.episodes(0, None))
    assert [len(episode.queries) for episode in episodes] == [2, 1, 1, 1]
    first = episodes[0]
    assert first.context == "Ann keeps a red box. Ben keeps a blue cup.\n\n"
    assert [query.prompt for query in first.queries] == ["What does Ann keep? ", "What does Ben keep? "]
    assert [query.targets for query in first.queries] == [("a red box",), ("a blue cup",)]
    assert (first.queries[0].max_new_tokens, first.queries[0].stop) == (12, ("\n", "."))
    assert (first.source, first.category) == ("toy_generate", "toy_generate")
    assert len({episode.id for episode in episodes}) == 4
    assert [chunk.text for chunk in episodes[1].chunks][:2] == [
        "The code of Dora is 417.\n",
        "The code of Emil is 92.\n",
    ]
    assert episodes[2].queries[0].prompt == "Which day follows Monday? "
    assert [len(item.queries) for item in task.episodes(0, 2)] == [2]


def test_few_shot_examples_are_context_and_the_seed_draws_them() -> None:
    task = LmEvalTask("toy_shots", str(TOY))
    first, again, other = (list(task.episodes(seed, None)) for seed in (0, 0, 5))
    assert first == again
    assert [episode.context for episode in first] != [episode.context for episode in other]
    for episode in first:
        assert episode.context.count("?") == 2
        assert episode.context.endswith("\n\n")


def test_scores_are_the_tasks_own() -> None:
    task = LmEvalTask("toy_generate", str(TOY))
    queries = [query for episode in task.episodes(0, None) for query in episode.queries]
    assert task.score(queries[0], "A red Box") == {"exact_match": 1.0, "accuracy": 1.0}
    assert task.score(queries[1], "a red box") == {"exact_match": 0.0, "accuracy": 0.0}
    lengths = LmEvalTask("toy_lengths", str(TOY))
    query = next(lengths.episodes(0, 1)).queries[0]
    with pytest.raises(UserError, match=r"first metric 'characters' is no number in 0\.\.1"):
        lengths.score(query, "a")


def test_identity_is_of_the_task_s_text_and_documents(tmp_path: Path) -> None:
    task = LmEvalTask("toy_generate", str(TOY))
    identity = task.identity()
    list(task.episodes(3, 1))
    assert task.identity() == identity == LmEvalTask("toy_generate", str(TOY)).identity()
    for file in TOY.iterdir():
        if file.is_file():
            text = file.read_text(encoding="utf-8").replace("blue cup", "blue mug")
            (tmp_path / file.name).write_text(text, encoding="utf-8")
    moved = LmEvalTask("toy_generate", str(tmp_path)).identity()
    assert moved["documents"] != identity["documents"]
    assert {**moved, "documents": None} == {**identity, "documents": None}


def test_what_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="give --task lm-eval:NAME"):
        LmEvalTask()
    with pytest.raises(UserError, match="did you mean toy_generate"):
        LmEvalTask("toy_generat", str(TOY))
    with pytest.raises(UserError, match="toy_text is of output type loglikelihood_rolling"):
        LmEvalTask("toy_text", str(TOY))
    monkeypatch.setattr(lm_eval_bridge, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'deltamem-eval\[lm-eval\]'"):
        LmEvalTask("toy_generate", str(TOY))


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (
            ["process_results: !function docs.lenghts"],
            r"lm-eval task mine cannot be loaded: AttributeError: .* no function 'lenghts' .*; look at its",
        ),
        (
            ["doc_to_text: '{{contxt}}'"],
            "lm-eval task mine cannot be loaded: UndefinedError: 'contxt' is undefined; look at its YAML",
        ),
        (
            ["doc_to_text: '{{context.split(\" keeps \")[1]}}'"],  # of the third document there is none
            "requests of lm-eval task mine cannot be built: UndefinedError: list object has no element 1;",
        ),
        (
            ["doc_to_text: question", "doc_to_target: '{{context.split(\" keeps \")[1]}}'"],
            "requests of lm-eval task mine cannot be built: UndefinedError: list object has no element 1;",
        ),
        (
            ["generation_kwargs: {max_gen_toks: many}"],
            "requests of lm-eval task mine cannot be built: invalid literal for int",
        ),
    ],
)
def test_a_broken_task_is_told_in_a_line(lines: list[str], line: str, tmp_path: Path) -> None:
    folder = changed_task(tmp_path / "toy", "mine", *lines)
    with pytest.raises(UserError, match=f"^{line}") as caught:
        list(LmEvalTask("mine", str(folder)).episodes(0, None))
    assert type(caught.value) is UserError  # none of the data that a dry run may lack
    assert "\n" not in str(caught.value)


def test_a_fault_of_ours_is_not_the_task_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> str:
        return {}["nothing"]

    task = LmEvalTask("toy_generate", str(TOY))
    monkeypatch.setattr(module, "_targets", fault)
    with pytest.raises(KeyError, match="nothing"):
        list(task.episodes(0, None))


def test_the_budget_is_the_task_s_or_the_user_s() -> None:
    own = LmEvalTask("toy_generate", str(TOY))
    given = LmEvalTask("toy_generate", str(TOY), max_new_tokens=90)
    for task, budget in ((own, 12), (given, 90)):
        queries = [query for episode in task.episodes(0, None) for query in episode.queries]
        assert {query.max_new_tokens for query in queries} == {budget}
    assert given.identity() == {**own.identity(), "max_new_tokens": 90}
    assert "max_new_tokens" not in own.identity()


@pytest.mark.parametrize("budget", [-1, 1.5, True, "many", None])
def test_a_budget_that_cannot_be_is_refused(budget: object) -> None:
    with pytest.raises(UserError, match=rf"max_new_tokens of lm-eval is a whole number .*, not {budget!r}$"):
        LmEvalTask("toy_generate", str(TOY), max_new_tokens=budget)


def test_sampling_is_refused_whatever_the_budget(tmp_path: Path) -> None:
    folder = changed_task(tmp_path / "toy", "mine", "generation_kwargs: {do_sample: true, temperature: 0.7}")
    with pytest.raises(UserError, match="the task asks for do_sample=True"):
        list(LmEvalTask("mine", str(folder), max_new_tokens=9).episodes(0, None))


def test_our_own_task_comes_back_as_it_was() -> None:
    task = LmEvalTask("dme_embedded", str(tasks_folder()))
    found = {item.context: [query.prompt for query in item.queries] for item in task.episodes(0, None)}
    wanted = {
        item.context: [query.prompt for query in item.queries] for item in EmbeddedTask().episodes(0, None)
    }
    assert found == wanted


def test_the_grid_and_lm_eval_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny(tmp_path / "model")
    real = TASKS.load
    monkeypatch.setattr(TASKS, "load", lambda name: LmEvalTask if name == "lm-eval" else real(name))
    request = Request(
        methods=("vanilla", "token-write"),
        model=str(folder),
        adapter=str(folder / "adapter"),
        task="lm-eval",
        task_options={"task": "toy_generate", "include_path": str(TOY)},
        windows=(20,),
        limit=4,
        controls=False,
        device="cpu",
    )
    with Display(2, quiet=True) as display:
        execute(check(request), tmp_path / "run", display)
    table = summary_table([tmp_path / "run"])
    keys = [column.key for column in table.columns]
    rows = {row[0].value: dict(zip(keys, row, strict=True)) for row in table.rows}
    for method in ("vanilla", "token-write"):
        assert (rows[method]["not_ok"].value, rows[method]["accuracy"].n) == ("0", 4)
    stored = answers(tmp_path / "run")
    for name, adapter in (("vanilla", None), ("token-write", str(folder / "adapter"))):
        lm = made(model=str(folder), method=name, adapter=adapter, split="auto", window=20)
        samples = evaluate(lm, "toy_generate", limit=4)["samples"]["toy_generate"]
        assert [sample["resps"][0][0] for sample in samples] == stored[name]


def answers(run: Path) -> dict[str, list[str]]:
    """The stored answers of each method, in order of document."""
    import json

    found = {}
    for file in run.rglob("samples.jsonl"):
        identity = json.loads((file.parent / "cell.json").read_text(encoding="utf-8"))
        samples = [json.loads(line) for line in file.open(encoding="utf-8")]
        samples.sort(key=lambda sample: int(sample["query"].rpartition("/")[2]))
        found[identity["identity"]["method"]] = [sample["answer"] for sample in samples]
    return found
