"""The wheel in a clean environment: what is installed where, and what shells and man find of it.

Nothing comes from a network: the environment borrows the packages that tokenctl needs from the
one that runs the tests, where a checkout is no package and so cannot be meant by mistake.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests import require
from tests.cli.running import terminal
from tests.pg import LedgerDB
from tests.wheels import ROOT, build, python
from tokenctl import __version__


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = build("wheel", ROOT, folder / "wheel")
    made = folder / "prefix"
    python("-m", "venv", "--without-pip", str(made), cwd=folder)
    pip = ("-m", "pip", "--python", str(made / "bin/python"), "install", "--quiet", "--no-index", "--no-deps")
    python(*pip, str(wheel), cwd=folder)
    (site,) = made.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def run(prefix: Path, *argv: str, **environ: str) -> str:
    """Run the installed command far from the checkout and return what it printed."""
    env = {**os.environ, "PATH": f"{prefix / 'bin'}:/usr/bin:/bin", **environ}
    env.pop("PYTHONPATH", None)
    done = subprocess.run([*argv], cwd=prefix, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_is_the_wheel_s_own(prefix: Path) -> None:
    assert run(prefix, "tokenctl", "--version") == f"tokenctl {__version__}\n"
    where = run(prefix, str(prefix / "bin/python"), "-c", "import tokenctl; print(tokenctl.__file__)")
    assert Path(where.strip()).is_relative_to(prefix)


def test_it_brings_its_schema_and_its_completions(prefix: Path, ledger_db: LedgerDB) -> None:
    ledger_db.rows("DROP SCHEMA tokenctl, tokenctl_staging CASCADE")
    database = {"TOKENCTL_DATABASE_URL": ledger_db.conninfo("postgres")}
    assert "ledger" in run(prefix, "tokenctl", "db", "migrate", **database)
    assert run(prefix, "tokenctl", "db", "status", "--exit-code", **database)
    assert run(prefix, "tokenctl", "completion", "zsh") == (ROOT / "completions/_tokenctl").read_text()


def test_shells_and_man_have_their_files_where_they_look(prefix: Path) -> None:
    share = prefix / "share"
    found = {str(file.relative_to(share)) for file in share.rglob("*") if file.is_file()}
    assert found == {
        "bash-completion/completions/tokenctl",
        "zsh/site-functions/_tokenctl",
        "fish/vendor_completions.d/tokenctl.fish",
        *(f"man/man1/{page.name}" for page in (ROOT / "man").iterdir()),
    }


SHELLS = {
    "bash": (("--norc", "--noprofile", "-i"), "source /usr/share/bash-completion/bash_completion"),
    "zsh": (("-f", "-i"), "fpath=({share}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -D -u"),
    "fish": (("--private", "-C", 'function fish_prompt; printf "ready> "; end'), "true"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_finds_its_completion_by_itself(prefix: Path, shell: str, home: Path) -> None:
    if shell == "bash" and not Path("/usr/share/bash-completion/bash_completion").exists():
        require.missing("bash-completion is not installed; on Debian: apt install bash-completion")
    argv, setup = SHELLS[shell]
    env = {
        "PATH": f"{prefix / 'bin'}:/usr/bin:/bin", "HOME": str(home), "TERM": "dumb", "PS1": "ready> ",
        "LANG": "C.UTF-8", "XDG_DATA_DIRS": f"{prefix / 'share'}:/usr/share",
    }  # fmt: skip
    with terminal(*argv, columns=200, env=env, program=(require.tool(shell),)) as session:
        session.wait_for("ready> ")
        session.type(f"{setup.format(share=prefix / 'share')}; printf 'set %s\\n' up\r")
        session.wait_for("set up")
        # `--ver` would complete to the option of that name, which prints one line and ends.
        session.type("tokenctl --ver\t\r")
        session.wait_for(f"tokenctl {__version__}\r\n")
        session.type("tokenctl completion fi\t | head -n 1\r")
        session.wait_for("# Completion of tokenctl for fish.")


def test_man_finds_the_pages_beside_the_command(prefix: Path) -> None:
    man = require.tool("man", package="man-db")
    for name in ("tokenctl", "tokenctl-batch-import"):
        page = run(prefix, man, "-P", "cat", name, LC_ALL="C.UTF-8", MANWIDTH="80")
        assert re.search(rf"^NAME\s+{name} - ", re.sub(r".\x08|\x1b\[[0-9;]*m", "", page), re.MULTILINE)
        assert Path(run(prefix, man, "-w", name).strip()).is_relative_to(prefix)


def test_no_file_of_the_checkout_is_needed(prefix: Path) -> None:
    program = (
        "import sys; from tokenctl.cli.app import assemble; assemble();"
        "print(*(m.__file__ for m in sys.modules.values() if 'tokenctl' in m.__name__))"
    )
    loaded = run(prefix, str(prefix / "bin/python"), "-c", program).split()
    assert [file for file in loaded if Path(file).is_relative_to(ROOT / "tokenctl")] == []
    assert sys.prefix not in " ".join(loaded)
