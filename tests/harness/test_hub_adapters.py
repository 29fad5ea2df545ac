"""Adapters by hub name: what is fetched of a repository, and what is said where there is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from deltamem_eval import hub
from deltamem_eval.errors import UserError
from deltamem_eval.hub import adapter_folder
from deltamem_eval.lm_eval_bridge.arguments import parse
from deltamem_eval.profiling.request import ProfileRequest
from deltamem_eval.profiling.subject import make_method
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

NAME = "declare-lab/delta-mem_qwen3_4b-instruct"
LISTING = [
    ".gitattributes",
    "README.md",
    "checkpoint.pt",
    "delta_mem_adapter.pt",
    "delta_mem_adapter.safetensors",
    "delta_mem_config.json",
    "modeling.py",
    "optimizer.bin",
    "step-100/delta_mem_adapter.pt",
    "step-100/delta_mem_config.json",
    "training_args.bin",
]


@pytest.fixture(autouse=True)
def _nothing_fetched_yet() -> Iterator[None]:
    hub._snapshot.cache_clear()
    yield
    hub._snapshot.cache_clear()


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that answers with a folder; the names of the files it would have fetched."""
    found: list[str] = []

    def download(name: str, **patterns: Any) -> str:
        assert name == NAME
        found.extend(filter_repo_objects(LISTING, **patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return found


def test_config_and_weights_are_fetched_and_nothing_else(fetched: list[str], tmp_path: Path) -> None:
    assert adapter_folder(NAME) == str(tmp_path)
    assert fetched == ["delta_mem_adapter.pt", "delta_mem_adapter.safetensors", "delta_mem_config.json"]


def test_a_repository_is_asked_once_a_process(fetched: list[str]) -> None:
    assert adapter_folder(NAME) == adapter_folder(NAME)
    assert len(fetched) == 3


def test_a_folder_comes_before_a_repository_of_its_name(
    fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAME).mkdir(parents=True)
    assert adapter_folder(NAME) == NAME
    assert fetched == []


def test_lm_eval_and_profile_take_the_name_too(fetched: list[str], tmp_path: Path) -> None:
    made = parse(NAME, "token-write", NAME, 0, None, "auto", 1, None, True, 0, None)
    assert made.adapter == str(tmp_path)
    asked = ProfileRequest(("token-write",), (8,), (2,), adapter=NAME)
    with pytest.raises(UserError, match=f"no adapter at {tmp_path}: delta_mem_config.json cannot be read"):
        make_method(asked, "token-write", "state-only", None, tmp_path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalEntryNotFoundError("outgoing traffic\nhas been disabled"), "the hub cannot be reached"),
        (OSError("no space\nleft"), f"cannot fetch adapter {NAME} from the hub: no space"),
    ],
)
def test_a_fetch_that_fails_is_said_in_one_line(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match=words) as caught:
        adapter_folder(NAME)
    assert "\n" not in str(caught.value)
