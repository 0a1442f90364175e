"""The sandbox in which programs touch a user's files: bubblewrap's.

A running server's user may put a link where a directory was while restic reads or writes, and
restic opens files by their path. So it sees nothing but the workarea: there is nothing else
that a link could lead to. To read, it is root with the one capability to read every file; to
write, it is the user. It has a pid namespace of its own: restic signals the processes that it
believes to hold a lock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AREA", "CACHE", "PASSED", "RUN", "Sandbox"]

AREA = "/workarea"
CACHE = "/cache"
RUN = "/run"


@dataclass(frozen=True)
class Sandbox:
    """What a program sees and may do. ``run`` holds its credentials; ``idle``: after others.

    With ``uid``, it writes in the area as that host uid; without, it reads all of it.
    """

    node: str
    run: Path | None = None
    area: Path | None = None
    uid: int | None = None
    cache: Path | None = None
    idle: bool = False

    def words(self, command: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        """The command line; nothing in it is secret."""
        bwrap = [
            *("bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname"),
            *(self.node, "--die-with-parent", "--new-session", "--clearenv"),
            *("--ro-bind", "/usr", "/usr", "--dev", "/dev"),
            *("--tmpfs", "/tmp"),  # noqa: S108 - of its own
            *self._system(),
        ]
        for name, value in {"PATH": "/usr/bin:/usr/sbin", **variables}.items():
            bwrap += ["--setenv", name, value]
        if self.run:
            bwrap += ["--ro-bind", str(self.run), RUN]
        if self.cache:
            bwrap += ["--bind", str(self.cache), CACHE]
        if self.area:
            bind = "--ro-bind" if self.uid is None else "--bind"
            bwrap += [bind, str(self.area), AREA]
        # What only its owner may enter, root enters here by the capability to read all.
        bwrap += ["--chdir", AREA if self.area and self.uid is None else "/"]
        bwrap += ["--cap-drop", "ALL"]
        if self.uid is None:
            bwrap += ["--cap-add", "CAP_DAC_READ_SEARCH"]
        else:
            bwrap += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
            ids = (f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups")
            command = ["setpriv", *ids, "--no-new-privs", "--", *command]
        politely = ["nice", "-n", "19", "ionice", "-c", "3"] if self.idle else []
        return [*politely, *bwrap, "--", *command]

    def _system(self) -> list[str]:
        """Debian's links into ``/usr``, and what names and certificates need."""
        words = []
        for name in ("bin", "lib", "lib64", "sbin"):
            words += ["--symlink", f"usr/{name}", f"/{name}"]
        files = ["/etc/ssl", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"]
        files += [os.environ[name] for name in _CERTIFICATES if name in os.environ]
        for file in files:
            for parent in reversed(Path(file).parents[:-1]):  # bwrap's own are for root alone
                words += ["--dir", str(parent)]
            words += ["--ro-bind-try", file, file]
        return words


_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
PASSED = (*_CERTIFICATES, "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""Variables of the daemon's own by which the storage is reached."""
