"""A profile on disk whose points cannot be read."""

from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.profiling.store import POINTS_FILE, ProfileStore, read_profile


def test_points_that_cannot_be_read_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ProfileStore.open(tmp_path / "profile", {}, {"device": "cpu"}).close()
    (tmp_path / "profile" / POINTS_FILE).mkdir()
    with pytest.raises(UserError, match=r"^cannot write to .*points.jsonl: Is a directory$"):
        ProfileStore.open(tmp_path / "profile", {}, {"device": "cpu"})
    with pytest.raises(UserError, match=r"points.jsonl cannot be read: Is a directory$"):
        read_profile(tmp_path / "profile")

    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("deltamem_eval.profiling.store.is_empty", refused)
    with pytest.raises(UserError, match=r"^cannot write to .*closed: Permission denied$"):
        ProfileStore.open(tmp_path / "closed", {}, {"device": "cpu"})
