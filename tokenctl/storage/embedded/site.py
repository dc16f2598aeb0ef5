"""Which directory and which user an embedded server has.

What the existing data was made with decides; only when there is none is there a choice.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenctl.errors import ConfigError
from tokenctl.storage.embedded import cluster, places, rootless

if TYPE_CHECKING:
    from pathlib import Path

    from tokenctl.storage.embedded.rootless import Identity

# A dropped user reaches nothing below root's home, so such data lies here.
SYSTEM_ROOT_MODE = 0o711


@dataclass(frozen=True)
class Site:
    """A base directory with `data` in it, and as whom the server runs."""

    base: Path
    identity: Identity

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's own directory."""
        return self.base / "data"

    @property
    def socket_dir(self) -> Path:
        """Where the socket is; what to give libpq as `host`."""
        return places.socket_dir(self.base, self.identity.uid)

    def judge(self) -> None:
        """Refuse to speak to a socket that somebody else could have put there."""
        if self.identity.uid != os.geteuid():
            places.judge(self.base.parent, os.geteuid())
        places.judge(self.base, self.identity.uid)
        places.judge_socket_dir(self.socket_dir, self.base, self.identity.uid)


@dataclass(frozen=True)
class Land:
    """The two places where root's data can be.

    `root` is the caller's, for a server in a namespace; below `system_root` lies what a
    dropped user runs. `namespaces=False` behaves as where they are not permitted.
    """

    root: Path
    system_root: Path
    namespaces: bool = True

    def site(self) -> Site:
        """Where the data is, or would be tried first."""
        own = Site(self.root, rootless.own_identity())
        if os.geteuid() != 0 or cluster.is_whole(own.data_dir):
            return own
        return self._dropped() or own

    def settle(self, programs: Path) -> tuple[Site, int]:
        """The site to start, and the major version of `programs`, which are tried there once.

        Call it with `root` made and the start lock held. Raises ConfigError when
        there is no way to run.
        """
        site = self.site()
        try:
            return site, self._try(site, programs)
        except rootless.NamespaceRefused as refused:
            if cluster.is_whole(site.data_dir) or os.geteuid() != 0:
                raise _no_namespace(site) from refused
        site = self._make_dropped()
        return site, self._try(site, programs)

    def _try(self, site: Site, programs: Path) -> int:
        if site.identity.inner is not None and not self.namespaces:
            raise rootless.NamespaceRefused
        return rootless.major_version(site.identity, programs / "postgres", site.base)

    def _dropped_base(self) -> Path:
        return self.system_root / places.digest(self.root)

    def _dropped(self) -> Site | None:
        base = self._dropped_base()
        if not cluster.is_whole(base / "data"):
            return None
        owner = base.lstat()
        return Site(base, rootless.Identity(owner.st_uid, owner.st_gid))

    def _make_dropped(self) -> Site:
        """Root keeps the directory above, so the dropped user cannot exchange what we look at."""
        identity = rootless.dropped_identity()
        base = self._dropped_base()
        with places.creating(base):
            self.system_root.mkdir(mode=SYSTEM_ROOT_MODE, parents=True, exist_ok=True)
            places.judge(self.system_root, os.geteuid())
            base.mkdir(mode=0o700, exist_ok=True)
        try:
            os.chown(base, identity.uid, identity.gid, follow_symlinks=False)
        except OSError as error:
            with contextlib.suppress(OSError):
                base.rmdir()
            raise rootless.no_way_to_run(f"uid {identity.uid} cannot be used either") from error
        return Site(base, identity)


def _no_namespace(site: Site) -> ConfigError:
    whose = "root" if site.identity.uid == 0 else f"uid {site.identity.uid}, which has no name here,"
    return ConfigError(
        f"{site.base} belongs to {whose} and needs a user namespace, and none is permitted here "
        "or it does not reach that directory.",
        hint="Permit user namespaces (sysctl user.max_user_namespaces, the container's seccomp profile), "
        "run tokenctl as an ordinary user, or use a database of your own: TOKENCTL_DATABASE_URL.",
    )
