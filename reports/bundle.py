"""A report and all that it was made from in one zip file, from which it can be made again, byte for byte."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.provenance import versions
from deltamem_eval.reports.artefacts import Inputs
from deltamem_eval.reports.write import Wanted, parse_formats, write_report
from deltamem_eval.store import read_run
from pydantic import BaseModel, ValidationError

BUNDLE_VERSION = 1
_MANIFEST = "manifest.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is packed
_STYLE = "style.mplstyle"
_ENCRYPTED = 0x1  # bit of a member's flags
# What reading a zip file raises where it is damaged, encrypted or no zip file.
_DAMAGED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError)


class _Manifest(BaseModel):
    """`manifest.json`. runs: each folder's command. files: SHA-256 of every member but this one."""

    bundle_version: int
    versions: dict[str, str]
    runs: dict[str, str]
    profiles: list[str]
    formats: list[str]
    by: list[str]
    style: bool
    traces: list[str]
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its inputs, unpacked, how to report them, and SHA-256 of the report's files."""

    inputs: Inputs
    wanted: Wanted
    report: Mapping[str, str]
    versions: Mapping[str, str]


def write_bundle(inputs: Inputs, wanted: Wanted, out: Path) -> dict[str, str]:
    """Pack inputs and report into the zip file `out`; SHA-256 of every member by its name.

    Raises UserError as `write_report`, and for an `out` that exists or cannot be written.
    """
    if out.exists():
        raise UserError(f"{out} exists: choose another --out")
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report"
        write_report(inputs, wanted, report)
        members = {f"report/{_inner(file, report)}": file.read_bytes() for file in _files(report)}
    for kind, folders in (("runs", inputs.runs), ("profiles", inputs.profiles)):
        for folder in folders:
            name = folder.resolve().name
            members |= {f"{kind}/{name}/{_inner(file, folder)}": file.read_bytes() for file in _files(folder)}
    if wanted.style is not None:
        members[_STYLE] = wanted.style.read_bytes()
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
    manifest = json.dumps(_manifest(inputs, wanted, hashes, out.name), indent=2, ensure_ascii=False) + "\n"
    _pack(out, {_MANIFEST: manifest.encode(), **dict(sorted(members.items()))})
    return hashes


def _manifest(inputs: Inputs, wanted: Wanted, hashes: Mapping[str, str], name: str) -> dict[str, Any]:
    return {
        "bundle_version": BUNDLE_VERSION,
        "rebuild": f"deltamem-eval report {shlex.quote(name)} --out report",
        "versions": versions(),
        "runs": {run.resolve().name: shlex.join(read_run(run).command) for run in inputs.runs},
        "profiles": [profile.resolve().name for profile in inputs.profiles],
        "formats": list(wanted.formats),
        "by": list(wanted.by),
        "style": wanted.style is not None,
        "traces": [_trace_member(file, inputs) for file in wanted.traces],
        "files": dict(hashes),
    }


def _trace_member(file: Path, inputs: Inputs) -> str:
    run = next(run for run in inputs.runs if file.resolve().is_relative_to(run.resolve()))
    return f"runs/{run.resolve().name}/{_inner(file.resolve(), run.resolve())}"


def _files(folder: Path) -> list[Path]:
    """Files of a folder, hidden ones (locks, temporary files) left out, in order."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(
        path for path in found if not any(part[0] == "." for part in _inner(path, folder).split("/"))
    )


def _inner(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _pack(out: Path, members: Mapping[str, bytes]) -> None:
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from None
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                info = zipfile.ZipInfo(name, _DATE)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                archive.writestr(info, data)
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def opened(file: Path) -> Iterator[Bundle]:
    """Unpack a bundle for as long as the block lasts, each file checked against its hash.

    Raises UserError for a file that is no bundle, is of a newer version, or was changed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        manifest = _unpack(file, place)
        yield Bundle(
            Inputs(
                tuple(place / "runs" / name for name in manifest.runs),
                tuple(place / "profiles" / name for name in manifest.profiles),
            ),
            Wanted(
                parse_formats(",".join(manifest.formats)),
                tuple(manifest.by),
                place / _STYLE if manifest.style else None,
                tuple(place / name for name in manifest.traces),
            ),
            {
                name.removeprefix("report/"): digest
                for name, digest in manifest.files.items()
                if name.startswith("report/")
            },
            manifest.versions,
        )


def _unpack(file: Path, place: Path) -> _Manifest:
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                _check_packing(file, info)
            manifest = _read_manifest(file, archive.read(_MANIFEST))
            folders = [f"runs/{name}" for name in manifest.runs]
            folders += [f"profiles/{name}" for name in manifest.profiles]
            for name in (*folders, *manifest.traces):
                _check_name(file, name)
            for name, wanted in manifest.files.items():
                _check_name(file, name)
                data = archive.read(name)
                if hashlib.sha256(data).hexdigest() != wanted:
                    raise UserError(f"{file} was changed: {name} has another checksum than its manifest says")
                target = place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
    except _DAMAGED as error:
        raise UserError(f"{file} is no bundle of ours, or is damaged: {error}") from None
    return manifest


def _read_manifest(file: Path, data: bytes) -> _Manifest:
    """Raises UserError for one of a newer version, or with a field of another kind than ours have."""
    value = json.loads(data)
    if value["bundle_version"] > BUNDLE_VERSION:
        raise UserError(f"{file} is a bundle of a newer version: update deltamem-eval")
    try:
        return _Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{file} is no bundle of ours: {where} of its manifest: {first['msg']}") from None


def _check_packing(file: Path, info: zipfile.ZipInfo) -> None:
    """Raises UserError for a member that we would not have packed so."""
    if info.flag_bits & _ENCRYPTED:
        raise UserError(f"{file} is no bundle of ours: {info.filename!r} in it is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{file} is no bundle of ours: {info.filename!r} in it is compressed in another way")


def _check_name(file: Path, name: str) -> None:
    path = PurePosixPath(name)
    inside = path.parts[:1] in (("runs",), ("profiles",), ("report",)) and ".." not in path.parts
    if not inside and name != _STYLE:
        raise UserError(f"{file} is no bundle of ours: it holds a file called {name!r}")


def rebuild(bundle: Bundle, out: Path, formats: Sequence[str] | None = None) -> tuple[list[Path], list[str]]:
    """Make a bundle's report again in `out`: the files written, and the names of those whose bytes differ."""
    wanted = bundle.wanted if formats is None else replace(bundle.wanted, formats=tuple(formats))
    written = write_report(bundle.inputs, wanted, out)
    differing = [
        _inner(file, out)
        for file in written
        if bundle.report.get(_inner(file, out)) not in (None, hashlib.sha256(file.read_bytes()).hexdigest())
    ]
    return written, differing
