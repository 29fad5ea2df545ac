"""`report --out` and `bundle` through the command line's own functions: every file, twice, and bad input."""

from __future__ import annotations

import csv
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError
from deltamem_eval.profiling.store import ProfileStore
from deltamem_eval.reports.artefacts import sort_inputs
from typer.testing import CliRunner

from stored import sample, write_run

FIGURES = {"accuracy", "frontier", "retention", "parameters"}
TABLES = {
    "averages",
    "accuracy-by-category",
    "accuracy-by-source",
    "accuracy-and-cost",
    "frontier",
    "retention",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def answers(right: int) -> list:
        return [
            sample(
                number,
                number < right,
                category="test-time-learning" if number % 2 else "accurate-retrieval",
                source="embedded_labels" if number % 2 else "embedded_codes",
                extras={"associations": 2 + number // 4, "distance": 3 * number, "updates": 0},
                answer="<script>alert(1)</script>",
            )
            for number in range(16)
        ]

    cells = [
        ({"control": "closed-book", "window": 0}, answers(0)),
        ({"control": "full-context", "window": None}, answers(14)),
        ({}, answers(5)),
        ({"method": "token-write", "effective": {"capacity": 8}}, answers(9)),
    ]
    return write_run(tmp_path_factory.mktemp("write") / "a & b_run", cells)


def invoke(*arguments: object) -> str:
    """Standard output of a command that ends well."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def hashes(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "report"
    invoke("report", run, "--out", out)
    return out


def test_every_table_and_figure_in_every_format_and_the_page(report: Path) -> None:
    names = set(hashes(report))
    wanted = {f"tables/{name}.{ending}" for name in TABLES for ending in ("md", "csv", "json", "tex")}
    wanted |= {f"figures/{name}.{ending}" for name in FIGURES for ending in ("pdf", "png", "svg")}
    assert wanted | {"report.html"} <= names
    assert (report / "figures" / "frontier.pdf").read_bytes().startswith(b"%PDF")
    assert "<script>alert" not in (report / "report.html").read_text(encoding="utf-8")


def test_the_same_numbers_in_every_table_format(report: Path) -> None:
    rows = list(csv.DictReader((report / "tables" / "frontier.csv").open(encoding="utf-8")))
    value = json.loads((report / "tables" / "frontier.json").read_text(encoding="utf-8"))
    assert [row["accuracy"] for row in rows] == [str(row["accuracy"]["value"]) for row in value["rows"]]
    latex = (report / "tables" / "frontier.tex").read_text(encoding="utf-8")
    text = (report / "tables" / "frontier.md").read_text(encoding="utf-8")
    for row in rows:
        assert f"| {100 * float(row['accuracy']):.1f} [" in text
        assert row["method"].replace("[", "{[}").replace("]", "{]}") in latex


def test_a_second_report_has_the_same_bytes(run: Path, report: Path, tmp_path: Path) -> None:
    invoke("report", run, "--out", tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(report)


def test_one_format_writes_only_its_files(run: Path, tmp_path: Path) -> None:
    invoke("report", run, "--out", tmp_path / "out", "--format", "csv")
    assert {Path(name).suffix for name in hashes(tmp_path / "out")} == {".csv"}


def test_a_bundle_makes_its_report_again_byte_for_byte(run: Path, report: Path, tmp_path: Path) -> None:
    file = tmp_path / "paper.zip"
    invoke("bundle", run, "--out", file)
    told = invoke("report", file, "--out", tmp_path / "out")
    assert "byte for byte" in told
    assert hashes(tmp_path / "out") == hashes(report)
    manifest = json.loads(zipfile.ZipFile(file).read("manifest.json"))
    assert manifest["rebuild"] == "deltamem-eval report paper.zip --out report"
    assert any(name.startswith("runs/a & b_run/cells/") for name in manifest["files"])
    invoke("bundle", run, "--out", tmp_path / "paper2.zip")
    first, second = zipfile.ZipFile(file), zipfile.ZipFile(tmp_path / "paper2.zip")
    assert [info.CRC for info in first.infolist()[1:]] == [info.CRC for info in second.infolist()[1:]]


def repacked(file: Path, out: Path, change: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change.pop(name, old.read(name)))
        for name, data in change.items():
            new.writestr(name, data)
    return out


def test_a_changed_bundle_is_refused(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "paper.zip"
    invoke("bundle", run, "--out", file, "--format", "csv")
    broken = repacked(file, tmp_path / "broken.zip", {"runs/a & b_run/run.json": b"{}"})
    with pytest.raises(UserError, match="was changed"):
        invoke("report", broken, "--out", tmp_path / "out")
    manifest = json.loads(zipfile.ZipFile(file).read("manifest.json"))
    manifest["files"]["runs/../../evil"] = hashlib.sha256(b"x").hexdigest()
    named = {"manifest.json": json.dumps(manifest).encode(), "runs/../../evil": b"x"}
    with pytest.raises(UserError, match="no bundle of ours"):
        invoke("report", repacked(file, tmp_path / "evil.zip", named), "--out", tmp_path / "out")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match="no bundle of ours"):
        invoke("report", tmp_path / "text.zip", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "evil").exists()


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of tables alone."""
    file = tmp_path_factory.mktemp("packed") / "paper.zip"
    invoke("bundle", run, "--out", file, "--format", "csv")
    return file


def flip(data: bytearray, first: zipfile.ZipInfo, directory: int) -> None:
    """A changed byte of the first member's compressed data: no block of deflate begins with these bits."""
    name, extra = struct.unpack_from("<HH", data, first.header_offset + 26)
    data[first.header_offset + 30 + name + extra] |= 0x06


def encrypt(data: bytearray, first: zipfile.ZipInfo, directory: int) -> None:
    data[directory + 8] |= 1  # of the first member's flags in the directory at the archive's end


def recompress(data: bytearray, first: zipfile.ZipInfo, directory: int) -> None:
    data[directory + 10] = zipfile.ZIP_LZMA


@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip, "is damaged: Error -3"), (encrypt, "is encrypted"), (recompress, "compressed in another way")],
)
def test_a_damaged_bundle_is_one_line(
    damage: Callable[[bytearray, zipfile.ZipInfo, int], None], message: str, packed: Path, tmp_path: Path
) -> None:
    data = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        damage(data, archive.infolist()[0], archive.start_dir)
    file = tmp_path / "damaged.zip"
    file.write_bytes(data)
    with pytest.raises(UserError, match=message) as refused:
        invoke("report", file, "--out", tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("files", ["runs/a"], "files of its manifest"),
        ("runs", [7], "runs of its manifest"),
        ("versions", None, "versions of its manifest"),
        ("formats", ["docx"], "unknown format 'docx'"),
        ("by", ["colour"], "no breakdown 'colour'"),
        ("bundle_version", "1", "is damaged"),
        ("bundle_version", 99, "newer version"),
    ],
)
def test_a_manifest_that_is_not_ours_is_one_line(
    field: str, value: object, message: str, packed: Path, tmp_path: Path
) -> None:
    manifest = json.loads(zipfile.ZipFile(packed).read("manifest.json"))
    other = {"manifest.json": json.dumps({**manifest, field: value}).encode()}
    with pytest.raises(UserError, match=message) as refused:
        invoke("report", repacked(packed, tmp_path / "other.zip", other), "--out", tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [("--by", "source"), ("--style", "x.mplstyle"), ("--trace", "e0")])
def test_a_bundle_is_reported_as_it_was_made(more: tuple[str, str], packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a bundle is reported alone, with its own --by"):
        invoke("report", packed, "--out", tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "FILE"], "is a file: choose a folder"),
        (["--out", "FILE/inner"], "cannot write to"),
        (["--out", "new", "--format", "docx"], "unknown format 'docx'"),
        (["--out", "new", "--table", "frontier"], "leave out --table"),
        (["--out", "new", "--by", "colour"], "no breakdown 'colour'"),
        (["--table", "frontier", "--by", "colour"], "table frontier is not broken down: leave out --by"),
        (["--table", "averages", "--by", "source"], "table averages is not broken down"),
        (["--out", "new", "--style", "none.mplstyle"], "no such style file"),
        (["--format", "png"], "no format 'png' without --out"),
        (["--style", "x"], "add --out DIR"),
        (["--table", "profile"], "needs the folder of a profile"),
        (["--table", "frontiers"], "unknown table 'frontiers': did you mean frontier"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    run: Path, tmp_path: Path, more: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "FILE").write_text("kept")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        invoke("report", run, *more)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]
    assert (tmp_path / "FILE").read_text() == "kept"


def test_a_profile_has_no_breakdown(tmp_path: Path) -> None:
    ProfileStore.open(tmp_path / "profile", {}, {"device": "cpu"}).close()
    for more in ((), ("--out", tmp_path / "out")):
        with pytest.raises(UserError, match="table profile is not broken down: leave out --by"):
            invoke("report", tmp_path / "profile", "--by", "source", *more)
    assert not (tmp_path / "out").exists()


def test_inputs_are_told_apart_by_what_they_hold(run: Path, tmp_path: Path) -> None:
    assert sort_inputs([run]).runs == (run,)
    with pytest.raises(UserError, match="no such folder"):
        sort_inputs([tmp_path / "none"])
    with pytest.raises(UserError, match="is neither a run's folder nor a profile's"):
        sort_inputs([tmp_path])
    with pytest.raises(UserError, match="two inputs are called a & b_run"):
        sort_inputs([run, run])


def test_controls_alone_are_reported_without_figures(tmp_path: Path) -> None:
    cells = [({"control": "closed-book", "window": 0}, [sample(number, False) for number in range(4)])]
    out = tmp_path / "out"
    invoke("report", write_run(tmp_path / "run", cells), "--out", out, "--format", "md,svg")
    assert "closed-book" in (out / "tables" / "averages.md").read_text(encoding="utf-8")
    assert not list(out.rglob("*.svg"))


def test_added_parameters_of_any_backbone_are_written_and_drawn(tmp_path: Path) -> None:
    model = ("--model", "Qwen/Qwen3-8B")
    assert "4 files" in invoke("params", *model, "--out", tmp_path / "out", "--format", "csv,latex,svg,pdf")
    with (tmp_path / "out" / "tables" / "parameters.csv").open(encoding="utf-8") as stream:
        counted = {line["method"]: int(float(line["trainable"])) for line in csv.DictReader(stream)}
    rows = json.loads(invoke("params", *model, "--json"))["rows"]
    assert counted == {row["method"]["value"]: row["trainable"]["value"] for row in rows}
    assert counted["token-write"] > 4_866_336  # that of the 4B backbone
    assert {file.name for file in (tmp_path / "out" / "figures").iterdir()} == {
        "parameters.svg",
        "parameters.pdf",
    }


def test_formats_of_parameters_need_a_folder() -> None:
    done = CliRunner().invoke(app, ["params", "--format", "pdf"])
    assert isinstance(done.exception, UserError)
    assert "--out" in str(done.exception)
