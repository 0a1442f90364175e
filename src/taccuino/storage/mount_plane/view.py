"""A user's files as their servers see them: with the servers' ids, and where these look.

The workarea belongs to the user's own uid on the disk. A server that was started before it had
a user runs with uids of its own, and looks at a *place*: an empty directory that it has bound.
There the workarea is mounted with the server's uid as its owner, and ``cloud_storage`` into it;
both appear in the running container by propagation.

All functions block; call them in a thread.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from taccuino.storage.mount_client import MountRequest

from . import idmap
from .kernel import MountTable, bind, is_mount_point, make_slave, unmount
from .layout import UserPaths
from .workarea import WorkareaError, unmount_patiently

__all__ = ["attach", "detach", "path_of"]

log = logging.getLogger(__name__)


def path_of(paths: UserPaths, request: MountRequest) -> Path:
    """Where servers find the workarea."""
    if request.place is not None:
        return paths.places / request.place
    return paths.workarea if request.owner == request.uid else paths.root / "view"


def attach(paths: UserPaths, request: MountRequest) -> None:
    """Show the user's files at their place, once the workarea is mounted; idempotent.

    Raises
    ------
    WorkareaError
        If they can't be shown there.
    """
    view = path_of(paths, request)
    if view == paths.workarea:
        return
    try:
        if not is_mount_point(view):
            paths.places.mkdir(mode=0o711, exist_ok=True)
            view.mkdir(mode=0o755, exist_ok=True)
            idmap.bind_as(paths.workarea, view, request.owner, request.uid)
        storage = view / "cloud_storage"
        if request.place is not None and not is_mount_point(storage):
            bind(paths.cloud_storage, storage, tree=True)
            # What is unmounted here must not be unmounted there.
            make_slave(storage)
    except OSError as error:
        log.error("view %s: %s", view, error)  # noqa: TRY400
        raise WorkareaError(f"The workarea can't be shown to the server ({error}).") from error


def detach(paths: UserPaths, request: MountRequest) -> None:
    """Take the user's files away from their place; idempotent."""
    view = path_of(paths, request)
    if view == paths.workarea:
        return
    table = MountTable.read()
    for entry in table.below(view):
        unmount(entry.path, lazy=True)
    if table.at(view) is not None:
        unmount_patiently(view)
    with contextlib.suppress(OSError):
        view.rmdir()
