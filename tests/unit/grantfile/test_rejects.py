"""Reject files: complete, mendable, fed again, and never in the way of another file."""

from __future__ import annotations

import csv as csv_module
import os
import resource
import stat
from pathlib import Path

import pytest

from tests.unit.grantfile.corpus import HEADER, Case, csv, jsonl
from tests.unit.grantfile.corpus_rows import CORPUS
from tests.unit.grantfile.good_files import row
from tests.unit.grantfile.opened import blocks_of, opened, rows_of
from tokenctl.errors import CannotCreate, OutputFailed, UsageError
from tokenctl.grantfile.check import CheckOptions, check
from tokenctl.grantfile.explain import why
from tokenctl.grantfile.rejects import RejectFile
from tokenctl.grantfile.rows import BadRow, Problem
from tokenctl.grantfile.source import Source

BATCH = "0123456789ab"
CONTENT = csv("u1,1.000,test,k1", "u2,5,test,k2", "u3,5,Test,", "u4,5,test,k4,too many")
BAD = BadRow(2, (Problem("amount", "is wrong"),), ("u1", "x", "test", "k1"))
# Wrong in JSON only (a number in quotes, a key beside a campaign that loses its column),
# or what CSV can't hold and is written as its escape, which a note may have.
HEALED = {
    "json-amount-text", "json-user-number", "json-user-true", "json-note-list", "json-key-and-campaign",
    "json-lone-surrogate", "json-nul-escape",
}  # fmt: skip
WITH_BAD_ROWS = [case for case in CORPUS if case.error is None]


def _source_file(folder: Path, name: str = "november.csv", content: bytes = CONTENT) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def _rejects(path: str, folder: Path, options: CheckOptions | None = None, wanted: str | None = None) -> Path:
    """Write the reject file of `path`."""
    options = options or CheckOptions()
    with opened(path, spool=folder) as source:
        rejects = RejectFile(source, options, BATCH, wanted)
        for block in check(source, options):
            for bad in block.bad:
                rejects.add(bad)
        rejects.commit()
    return rejects.path


def _cells(file: Path) -> list[list[str]]:
    return list(csv_module.reader(file.read_text().splitlines()))


def _rejecting(source: Source, wanted: str | None = None) -> RejectFile:
    return RejectFile(source, CheckOptions(), BATCH, wanted)


def test_rows_with_their_errors(tmp_path: Path) -> None:
    written = _rejects(_source_file(tmp_path), tmp_path)
    assert written == tmp_path / f"november.{BATCH}.rejected.csv"
    assert _cells(written) == [
        [*HEADER.split(","), "error"],
        [
            "u1", "1.000", "test", "k1",
            "amount: '1.000' is not a whole number of tokens; write 1000 or 1, without separators",
        ],
        [
            "u3", "5", "Test", "",
            f"reason: 'Test' has capitals; write 'test'; idempotency_key: {why('idempotency_key', '')}",
        ],
        [
            "u4", "5", "test", "k4,too many",
            "row: 5 cells where the header has 4; a cell with ',' in it must stand in quotes",
        ],
    ]  # fmt: skip
    assert written.stat().st_mode & 0o777 == 0o600


def test_mended_and_fed_again(tmp_path: Path) -> None:
    written = _rejects(_source_file(tmp_path), tmp_path)
    mended = written.read_text().replace("u1,1.000", "u1,1000").replace("Test,,", "test,k3,").replace(",too many", "")
    blocks = blocks_of(mended.encode(), tmp_path)
    assert rows_of(blocks) == [row(2, amount=1000), row(3, "u3", 5, "k3"), row(4, "u4", 5, "k4")]


@pytest.mark.parametrize("case", WITH_BAD_ROWS, ids=lambda case: case.name)
def test_fed_again_as_it_is_the_same_is_wrong(case: Case, tmp_path: Path) -> None:
    """Nothing is lost on the way into the reject file, and nothing becomes good on the way out."""
    options = CheckOptions(**{**case.options, "format": None})
    path = _source_file(tmp_path, case.file_name, case.content)
    with opened(path, spool=tmp_path) as source:
        first = [bad for block in check(source, options) for bad in block.bad]
    again = blocks_of(_rejects(path, tmp_path, options).read_bytes(), tmp_path, options)
    second = [bad for block in again for bad in block.bad]
    if case.name in HEALED:
        return
    assert rows_of(again) == []
    assert len(second) == len(first) >= 1
    if case.content.startswith(b"{"):
        return
    for before, after in zip(first, second, strict=True):
        if before.problems[0].column != "row":
            assert (after.problems, after.cells) == (before.problems, before.cells)


def test_columns_keep_their_order_and_an_old_error_goes(tmp_path: Path) -> None:
    content = csv("old,k1,x,u1,test", header="error,key,amount,user_id,reason")
    header, bad = _cells(_rejects(_source_file(tmp_path, content=content), tmp_path))
    assert header == ["key", "amount", "user_id", "reason", "error"]
    assert bad[:4] == ["k1", "x", "u1", "test"]
    assert bad[4].startswith("amount: 'x' is not")


def test_a_semicolon_file_becomes_comma_csv(tmp_path: Path) -> None:
    content = csv("u1;x;test;k1;a, b", header="user_id;amount;reason;key;note")
    written = _rejects(_source_file(tmp_path, content=content), tmp_path)
    assert _cells(written)[1][:5] == ["u1", "x", "test", "k1", "a, b"]
    assert written.read_text().splitlines()[1].startswith('u1,x,test,k1,"a, b",')


def test_json_lines_become_csv(tmp_path: Path) -> None:
    content = jsonl('{"user_id": "u1", "amount": 5.0, "key": "k1", "reason": "test", "note": "a, b"}', "{oh")
    written = _rejects(_source_file(tmp_path, "g.jsonl", content), tmp_path)
    assert written.name == f"g.{BATCH}.rejected.csv"
    lines = written.read_text().splitlines()
    assert lines[0] == "user_id,amount,reason,idempotency_key,note,ticket,kind,error"
    assert lines[1].startswith('u1,5.0,test,k1,"a, b",,,')
    assert lines[2].startswith("{oh,,,,,,,row: is not JSON")


def test_with_a_campaign_there_is_no_key_column(tmp_path: Path) -> None:
    options = CheckOptions(campaign="spring", default_reason="test")
    path = _source_file(tmp_path, "g.jsonl", jsonl('{"user_id": "u1", "amount": 0}'))
    written = _rejects(path, tmp_path, options)
    assert written.read_text().startswith("user_id,amount,reason,note,ticket,kind,error\nu1,0,,,,,amount: ")
    assert blocks_of(written.read_bytes().replace(b"u1,0", b"u1,7"), tmp_path, options)[0].tokens == 7


def test_what_no_text_file_can_hold_is_written_as_its_escape(tmp_path: Path) -> None:
    content = jsonl(r'{"user_id": "u\ud800\u0000", "amount": 5, "key": "k1", "reason": "test"}')
    written = _rejects(_source_file(tmp_path, "g.jsonl", content), tmp_path)
    assert r"u\ud800\u0000,5,test,k1" in written.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("november.csv", "november"),
        ("november.csv.gz", "november"),
        ("november.jsonl", "november"),
        ("NOVEMBER.CSV", "NOVEMBER"),
        ("november", "november"),
        ("november.2026", "november.2026"),
        ("november.fedcba987654.rejected.csv", "november"),
    ],
)
def test_the_name_follows_the_source(name: str, wanted: str, tmp_path: Path) -> None:
    assert _rejects(_source_file(tmp_path, name), tmp_path).name == f"{wanted}.{BATCH}.rejected.csv"


def test_the_same_batch_replaces_its_own(tmp_path: Path) -> None:
    path = _source_file(tmp_path)
    first = _rejects(path, tmp_path)
    first.write_text("half mended")
    assert "half mended" not in _rejects(path, tmp_path).read_text()


def test_another_file_is_never_replaced(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("mine")
    with pytest.raises(CannotCreate, match=r"other\.csv: the reject file cannot be made: File exists"):
        _rejects(_source_file(tmp_path), tmp_path, wanted=str(other))
    assert other.read_text() == "mine"


def test_the_same_rejects_once_more_are_fine(tmp_path: Path) -> None:
    path, wanted = _source_file(tmp_path), str(tmp_path / "rejects.csv")
    first = _rejects(path, tmp_path, wanted=wanted).read_bytes()
    assert _rejects(path, tmp_path, wanted=wanted).read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["november.csv", "rejects.csv"]


def test_nothing_is_seen_before_commit_or_after_discard(tmp_path: Path) -> None:
    with opened(_source_file(tmp_path), spool=tmp_path) as source:
        rejects = _rejecting(source)
        rejects.add(BAD)
        assert not rejects.path.exists()
        rejects.discard()
        rejects.discard()
    assert [file.name for file in tmp_path.iterdir()] == ["november.csv"]


def test_discard_after_commit_keeps_the_file(tmp_path: Path) -> None:
    with opened(_source_file(tmp_path), spool=tmp_path) as source:
        rejects = _rejecting(source)
        rejects.add(BAD)
        rejects.commit()
        rejects.discard()
    assert rejects.path.read_text().endswith("u1,x,test,k1,amount: is wrong\n")


def test_the_rows_are_on_the_disk_before_they_have_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("folder" if is_folder else f"file of {os.fstat(descriptor).st_size} bytes")
        sync(descriptor)

    def replaced(file: Path, target: Path) -> Path:
        steps.append("name")
        return replace(file, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    written = _rejects(_source_file(tmp_path), tmp_path)
    assert steps == [f"file of {written.stat().st_size} bytes", "name", "folder"]


def test_standard_input_needs_a_name(tmp_path: Path) -> None:
    with opened("-", spool=tmp_path, stdin=CONTENT) as source:
        with pytest.raises(UsageError) as caught:
            _rejecting(source)
        assert "--reject-file" in caught.value.hint
        _rejecting(source, str(tmp_path / "rejects.csv")).discard()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("gone/rejects.csv", "No such file or directory"), ("folder", "Is a directory"), ("x" * 300, "too long")],
)
def test_a_place_where_nothing_can_be_made(wanted: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = _source_file(tmp_path)
    with pytest.raises(CannotCreate, match=f"the reject file cannot be made: .*{reason}"):
        _rejects(path, tmp_path, wanted=str(tmp_path / wanted))


def test_a_full_disk(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(_source_file(tmp_path), spool=tmp_path) as source:
        rejects = _rejecting(source)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
        try:
            with pytest.raises(OutputFailed, match="the reject file cannot be written: File too large"):
                rejects.commit()
            with pytest.raises(OutputFailed, match="the reject file cannot be written: File too large"):
                rejects.add(BadRow(3, BAD.problems, ("x" * 100_000,)))
            rejects.discard()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["november.csv"]
