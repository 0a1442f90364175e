"""Copies of files and folders for the other users, in one's own part of scratch.

All users of the service read scratch; each writes below ``scratch/<username>`` only. A copy
does not follow what its original becomes later, and its link opens it in whoever's own server.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

__all__ = ["Copy", "NotShared", "free_name", "link", "scratch_directory", "source"]

_CHUNK = 4 * 1024 * 1024  # bytes
_LEFT_OUT = {".ipynb_checkpoints", "__pycache__"}


class NotShared(Exception):  # noqa: N818 - named for what happened
    """It can't be shared; the text is for a person, ``status`` is HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


class _Cancelled(Exception):  # noqa: N818 - named for what happened
    pass


def source(workarea: Path, path: str) -> Path:
    """The file or folder of an API path, which must lie in the workarea, also through links.

    Raises
    ------
    NotShared
        If it does not, is not there, or is neither a file nor a folder.
    """
    parts = PurePosixPath(path.strip("/")).parts
    if not parts or ".." in parts or "\0" in path:
        raise NotShared(f"{path or '/'} can't be shared: name a file or a folder below it.")
    root = workarea.resolve()
    try:
        found = root.joinpath(*parts).resolve(strict=True)
        mode = found.stat().st_mode
    except FileNotFoundError:
        raise NotShared(f"{path} is not there.", 404) from None
    except (
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise NotShared(f"{path} can't be read: {error}", 503) from None
    if root not in found.parents:
        raise NotShared(
            f"{path} leads out of {workarea}, and only what is in it is shared.", 403
        )
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotShared(f"{path} is neither a file nor a folder.")
    return found


def scratch_directory(workarea: Path, username: str) -> Path:
    """Where the user's copies go."""
    return workarea / "cloud_storage/scratch" / username


def free_name(directory: Path, name: str) -> str:
    """``notes.ipynb``, or the first of ``notes (2).ipynb``, ... that nothing has."""
    file, number, candidate = PurePosixPath(name), 1, name
    while os.path.lexists(directory / candidate):
        number += 1
        candidate = f"{file.stem} ({number}){file.suffix}"
    return candidate


def link(base_url: str, path: str) -> str:
    """The address that opens an API path in the server of whoever follows it.

    It begins with a slash: the browser knows the service's name.
    """
    return f"{base_url}hub/user-redirect/lab/tree/{quote(path)}"


class Copy:
    """One copy to scratch that is made, or was; its thread is a daemon, as a mount may hang.

    A file is written under another name and renamed. A folder is made under its own, and its
    files appear one by one: on object storage, renaming a folder copies every object in it
    again. What other users see of it is whole files in either case. What lies in one's part of
    scratch already is not copied: its link is enough.
    """

    def __init__(self, original: Path, directory: Path) -> None:
        self.total_bytes = 0
        self.copied_bytes = 0
        self.left_out = 0
        """Links that lead out of the folder or to folders, sockets and the like."""
        self.name = ""
        self.state = "copying"
        self.message = ""
        self.ended = threading.Event()
        self._original = original
        self._directory = directory
        self._cancelled = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="copy to scratch", daemon=True).start()

    def cancel(self) -> None:
        """End it as soon as may be, and take away what there is of it."""
        self._cancelled = True

    def as_json(self) -> dict[str, Any]:
        """How far it is."""
        names = ("state", "message", "copied_bytes", "total_bytes", "left_out")
        return {name: getattr(self, name) for name in names}

    def _run(self) -> None:
        try:
            self._copy()
            self.state = "done"
        except _Cancelled:
            self.state = "cancelled"
        except Exception as error:  # noqa: BLE001 - told to the user, whatever it is
            self.message = _explain(error, self._directory)
            self.state = "failed"
        finally:
            self.ended.set()

    def _copy(self) -> None:
        if not self._directory.is_dir():
            raise NotShared(f"{self._directory} is not there: the object storage is away.", 503)
        directory = self._directory.resolve()
        if directory in self._original.parents:
            self.name = str(self._original.relative_to(directory))
            return
        if self._original == directory or self._original in self._directory.parents:
            raise NotShared("A folder can't be copied into itself.")
        if self._original.is_dir():
            self._copy_folder()
        else:
            self._copy_file()

    def _copy_file(self) -> None:
        self.total_bytes = self._original.stat().st_size
        partial = self._directory / f".{secrets.token_hex(8)}.part"
        try:
            self._copy_bytes(self._original, partial)
            name = free_name(self._directory, self._original.name)
            partial.rename(self._directory / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self.name = name

    def _copy_folder(self) -> None:
        files = list(self._files())
        self.total_bytes = sum(size for _, _, size in files)
        while True:
            name = free_name(self._directory, self._original.name)
            target = self._directory / name
            try:
                target.mkdir()
                break
            except FileExistsError:
                continue  # another copy was faster
        try:
            for path, place, _ in files:
                copy = target / place
                copy.parent.mkdir(parents=True, exist_ok=True)
                self._copy_bytes(path, copy)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        self.name = name

    def _files(self) -> Iterator[tuple[Path, Path, int]]:
        """Each file of the folder: where it is read, its place, its size in bytes."""
        for directory, folders, names in os.walk(self._original):
            self._stop_if_cancelled()
            for folder in list(folders):
                if folder in _LEFT_OUT or Path(directory, folder).is_symlink():
                    folders.remove(folder)
                    self.left_out += folder not in _LEFT_OUT
            for name in sorted(names):
                path = Path(directory, name)
                try:
                    real = path.resolve(strict=True)
                    found = real.stat()
                except (FileNotFoundError, RuntimeError):
                    self.left_out += 1  # a link to nothing, or one to itself
                    continue
                if self._original in real.parents and stat.S_ISREG(found.st_mode):
                    yield real, path.relative_to(self._original), found.st_size
                else:
                    self.left_out += 1

    def _copy_bytes(self, path: Path, copy: Path) -> None:
        with path.open("rb") as reading, copy.open("xb") as writing:
            while chunk := reading.read(_CHUNK):
                self._stop_if_cancelled()
                writing.write(chunk)
                self.copied_bytes += len(chunk)

    def _stop_if_cancelled(self) -> None:
        if self._cancelled:
            raise _Cancelled


def _explain(error: Exception, directory: Path) -> str:
    if isinstance(error, NotShared):
        return str(error)
    if isinstance(error, OSError):
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"{directory} can't be written to: {error.strerror}."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"There is no room for the copy: {error.strerror}."
        return f"{error.filename or directory}: {error.strerror or error}."
    return f"It could not be copied: {error!r}"
