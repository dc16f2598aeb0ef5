"""A program of its own: enter a user namespace as another uid, then become the program given.

    python -I -S namespace_entry.py UID GID DIRECTORY PROGRAM [ARGUMENT ...]

PostgreSQL refuses to run as uid 0 and initdb wants a uid that has a name. Inside the
namespace our own uid is called UID; outside nothing changes, files stay ours.
It imports little and nothing of tokenctl, because it runs before every start as root.
"""

import ctypes
import os
import sys

REFUSED = 120  # the kernel or the container permits no user namespace
UNREACHABLE = 121  # inside it, DIRECTORY cannot be entered
NOT_EXECUTABLE = 122  # inside it, PROGRAM cannot be executed

_CLONE_NEWUSER = 0x10000000


def enter(inner_uid: int, inner_gid: int) -> bool:
    """Map our uid and gid to those given, in a new user namespace; False when that is not permitted."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None).unshare(_CLONE_NEWUSER) != 0:
        return False
    try:
        # The kernel takes an unprivileged gid_map only after setgroups is denied.
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{inner_uid} {outer_uid} 1"),
            ("gid_map", f"{inner_gid} {outer_gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:  # noqa: PTH123 (pathlib costs 5 ms)
                file.write(text)
    except OSError:
        return False
    return True


def main(inner_uid: str, inner_gid: str, directory: str, *command: str) -> int:
    """Never returns when all goes well; else the exit code that says what failed."""
    if not enter(int(inner_uid), int(inner_gid)):
        return REFUSED
    try:
        os.chdir(directory)
        if not os.access(".", os.R_OK | os.W_OK | os.X_OK):
            return UNREACHABLE
    except OSError:
        return UNREACHABLE
    try:
        os.execv(command[0], command)  # noqa: S606 (an argument list, never a shell)
    except OSError:
        return NOT_EXECUTABLE


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
