"""A profile on disk: `profile.json` and `points.jsonl`.

Points are appended one line each and synced; a torn last line is dropped when the folder is opened again, and
of two lines about one point the later holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from deltamem_eval.errors import UserError
from deltamem_eval.files import append_lines, drop_torn_line, is_empty, read_lines, take_lock, write_atomic
from deltamem_eval.profiling.request import Point
from deltamem_eval.sameness import same_request
from deltamem_eval.store import SCHEMA_VERSION, RunRecord, now, read_record
from pydantic import BaseModel, ConfigDict, Field

PROFILE_FILE, POINTS_FILE = "profile.json", "points.jsonl"


class ProfileRecord(RunRecord):
    """`profile.json`: what was asked and with what. facts: the model as it was made, and what was random."""

    facts: dict[str, Any] = Field(default_factory=dict)


class PointRecord(BaseModel):
    """One line of `points.jsonl`.

    status: ok, estimate, oom, timeout or failed. weights: bytes in use before a context came, by kind
    (allocated; on a GPU also reserved and device). tokens: of the context, of it in the prompt (shown), and
    of the question. measures: one number a repeat; bytes by phase and kind, seconds of writing, prefill and
    decode. limit_seconds: the time that the point was given.
    """

    model_config = ConfigDict(extra="allow")
    method: str
    mode: str
    window: int | None
    prompt_tokens: int
    decode_tokens: int
    status: str
    error: str | None = None
    weights: dict[str, int] = {}
    tokens: dict[str, int] = {}
    measures: dict[str, list[float]] = {}
    limit_seconds: float
    finished: str

    @property
    def point(self) -> Point:
        """Which point it is."""
        return Point(self.method, self.mode, self.prompt_tokens, self.decode_tokens)


class ProfileStore:
    """One profile's folder, held by one process at a time. Raises UserError for unreadable points."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self._file = path / POINTS_FILE
        self._lock = lock
        drop_torn_line(self._file)

    @classmethod
    def open(cls, path: Path, request: Mapping[str, Any], fields: Mapping[str, Any]) -> ProfileStore:
        """Make the folder, or go on with the one that the same request made on the same machine.

        fields: of `ProfileRecord`, besides the request. Raises UserError, writing nothing, for a folder of
        another request or machine, one that is no profile, one that cannot be written, or one in use.
        """
        file = path / PROFILE_FILE
        try:
            if file.exists():
                record = read_record(file, ProfileRecord)
                same_request(path, record.request, request)
                same_request(path, {"device": record.device}, {"device": fields["device"]})
                return cls(path, take_lock(path))
            if path.exists() and not (path.is_dir() and is_empty(path)):
                raise UserError(f"{path} exists and is no profile: choose another --out")
            path.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path)
            record = ProfileRecord(
                schema_version=SCHEMA_VERSION, request=dict(request), created=now(), **fields
            )
            write_atomic(file, record.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror or error}") from None
        return cls(path, lock)

    def done(self, limit_seconds: float) -> set[Point]:
        """Points that need no other try; one that ran out of less time than there is now needs one."""
        return {
            record.point
            for record in _latest(self._file)
            if record.status != "timeout" or record.limit_seconds >= limit_seconds
        }

    def append(
        self, point: Point, window: int | None, limit_seconds: float, fields: Mapping[str, Any]
    ) -> PointRecord:
        """Add a point's line and sync it to disk."""
        record = PointRecord(
            **point._asdict(), window=window, limit_seconds=limit_seconds, finished=now(), **fields
        )
        append_lines(self._file, [record])
        return record

    def close(self) -> None:
        """Let other processes have the folder."""
        self._lock.close()


def read_profile(path: Path) -> tuple[ProfileRecord, list[PointRecord]]:
    """A profile and its points, in the order of the request. Raises UserError where there is none."""
    record = read_record(path / PROFILE_FILE, ProfileRecord)
    return record, _latest(path / POINTS_FILE)


def _latest(file: Path) -> list[PointRecord]:
    return list({record.point: record for record in read_lines(file, PointRecord)}.values())
