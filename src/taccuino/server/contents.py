"""Jupyter's files on a mount that may hang.

Jupyter Server 2's ``AsyncLargeFileManager`` still makes many file calls in the event loop
(``os.path.isdir``, ``lstat`` of each path, ``open`` and ``fsync`` of each save): one that hangs
stops every kernel, terminal and page. Here each call of the contents API is the blocking
manager's, as a whole, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

from jupyter_server.services.contents.filecheckpoints import FileCheckpoints
from jupyter_server.services.contents.largefilemanager import (
    AsyncLargeFileManager,
    LargeFileManager,
)
from nbformat import from_dict
from tornado.web import HTTPError

from .file_calls import FileCalls, NoAnswer
from .storage_gate import StorageGate

__all__ = ["CloudCheckpoints", "Contents", "in_cloud"]

_CLOUD = "cloud_storage"
_CHECKPOINTS = "local/.checkpoints"
_READ_SECONDS = 15.0
_WRITE_SECONDS = 60.0
# What FUSE and rclone answer while the object storage is away.
_AWAY = {errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESTALE, errno.EREMOTEIO}
_AWAY_ANSWER = "The object storage does not answer. Try again when it is back."
_READ_ONLY_ANSWER = (
    "This directory is read-only for you. In scratch, save in the folder with your name."
)
_FULL_ANSWER = "There is no room left, so this was not done. Delete what you no longer need."
_ERRORS = dict.fromkeys(_AWAY, (503, _AWAY_ANSWER)) | {
    errno.EROFS: (403, _READ_ONLY_ANSWER),
    errno.ENOSPC: (507, _FULL_ANSWER),
    errno.EDQUOT: (507, _FULL_ANSWER),
}
_WRITE_ANSWER = (
    "The object storage does not answer, and it is not known yet whether this was done. "
    "Keep the page open and try again when it is back."
)


def in_cloud(path: str) -> bool:
    """Whether an API path lies in the object storage, or is the directory that shows it."""
    return PurePosixPath(path.strip("/") or ".").parts[:1] == (_CLOUD,)


class CloudCheckpoints(FileCheckpoints):
    """Checkpoints of files in the object storage are kept in the workarea.

    Beside the file, as Jupyter does it, each would be one more object, uploaded at each save,
    in a folder that other clients of the bucket see. The bucket keeps earlier versions anyway;
    a checkpoint is what *Revert* needs, and is at hand while the storage is away.
    """

    def checkpoint_path(self, checkpoint_id: str, path: str) -> str:
        """Where a checkpoint lies; its directory is made."""
        if not in_cloud(path):
            return str(super().checkpoint_path(checkpoint_id, path))
        file = PurePosixPath(path.strip("/"))
        directory = Path(self.root_dir, _CHECKPOINTS, *file.parts[:-1])
        with self.perm_to_403():
            directory.mkdir(parents=True, exist_ok=True)
        return str(directory / f"{file.stem}-{checkpoint_id}{file.suffix}")


class _Blocking(LargeFileManager):
    """The manager that does the work, in threads; what needs the event loop is the other's."""

    def __init__(self, front: Contents) -> None:
        super().__init__(parent=front, checkpoints_class=CloudCheckpoints)
        self._front = front
        self._pre_save_hooks = front._pre_save_hooks  # noqa: SLF001 - of the same class
        self._post_save_hooks = front._post_save_hooks  # noqa: SLF001

    def exists(self, path: str) -> bool:
        """Whether a path exists; not "no" because the storage does not answer."""
        try:
            Path(self._get_os_path(path)).stat()
        except OSError as error:
            if error.errno in _AWAY:
                raise
            return False
        return True

    def is_hidden(self, path: str) -> bool:
        """Whether a name begins with a dot. What does not answer is not hidden for that."""
        if in_cloud(path):
            return any(part.startswith(".") for part in PurePosixPath(path.strip("/")).parts)
        return bool(super().is_hidden(path))

    def emit(self, data: dict[str, Any]) -> None:
        """Tell Jupyter's events, on the event loop."""
        self._front.loop.call_soon_threadsafe(self._front.emit, data)

    # The database of signatures belongs to the event loop's thread.
    def check_and_sign(self, nb: Any, path: str = "") -> None:
        """Done by `Contents.save`."""

    def mark_trusted_cells(self, nb: Any, path: str = "") -> None:
        """Done by `Contents.get`."""


class Contents(AsyncLargeFileManager):
    """The contents API, which answers within a time limit whatever the storage does."""

    def __init__(self, **options: Any) -> None:
        self._calls = {True: FileCalls(), False: FileCalls(room=32)}
        self.loop: asyncio.AbstractEventLoop
        self.on_notebook: Callable[[str, Any], None] | None = None
        """Called with the path and the content of each notebook that is read."""
        super().__init__(**options)

    @cached_property
    def storage_gate(self) -> StorageGate:
        """Made when Jupyter listens: what it reads may come only with the user's files."""
        return StorageGate(os.environ)

    @cached_property
    def _files(self) -> _Blocking:
        return _Blocking(self)

    @property
    def cloud_silent(self) -> bool:
        """Whether the object storage has lately left a call without an answer."""
        return self._calls[True].silent

    async def _read(self, method: Callable[..., Any], path: str, **options: Any) -> Any:
        call = partial(method, path, **options)
        return await self._call(call, (path,), _READ_SECONDS, _AWAY_ANSWER)

    async def _write(self, call: Callable[[], Any], *paths: str | None) -> Any:
        return await self._call(call, paths, _WRITE_SECONDS, _WRITE_ANSWER)

    async def _call(
        self, call: Callable[[], Any], paths: Sequence[str | None], limit: float, words: str
    ) -> Any:
        """Let the blocking manager do it; a storage that is away is told as such."""
        if any(in_cloud(path) for path in paths if path is not None):
            await self.storage_gate.wait()
        self.loop = asyncio.get_running_loop()
        calls = self._calls[any(in_cloud(path or "") for path in paths)]
        try:
            return await calls.run(call, limit)
        except NoAnswer as error:
            raise HTTPError(503, words) from error
        except (OSError, HTTPError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            told = _ERRORS.get(cause.errno or 0) if isinstance(cause, OSError) else None
            if told is None:
                raise
            raise HTTPError(*told) from error

    async def get(self, path: str, content: bool = True, **options: Any) -> Any:
        """The model of a file or directory."""
        model = await self._read(self._files.get, path, content=content, **options)
        if content and model["type"] == "notebook":
            self.mark_trusted_cells(model["content"], path)
            if self.on_notebook:
                self.on_notebook(path, model["content"])
        return model

    async def save(self, model: dict[str, Any], path: str = "") -> Any:
        """Save a file or make a directory; the model without its content."""
        if model.get("type") == "notebook" and model.get("content"):
            notebook = from_dict(model["content"])  # type: ignore[no-untyped-call]
            self.check_and_sign(notebook, path)
        return await self._write(partial(self._files.save, model, path), path)

    async def copy(self, from_path: str, to_path: str | None = None) -> Any:
        """Copy a file or a directory."""
        return await self._write(
            partial(self._files.copy, from_path, to_path), from_path, to_path
        )

    async def delete(self, path: str) -> None:
        """Delete a file or a directory, and its checkpoints."""
        await self._write(partial(self._files.delete, path), path)

    async def rename(self, old_path: str, new_path: str) -> None:
        """Rename a file or a directory, and its checkpoints."""
        await self._write(partial(self._files.rename, old_path, new_path), old_path, new_path)

    async def dir_exists(self, path: str) -> bool:
        """Whether there is such a directory."""
        return bool(await self._read(self._files.dir_exists, path))

    async def file_exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return bool(await self._read(self._files.file_exists, path))

    async def exists(self, path: str) -> bool:
        """Whether there is such a file or directory."""
        return bool(await self._read(self._files.exists, path))

    async def is_hidden(self, path: str) -> bool:
        """Whether a path is hidden."""
        return bool(await self._read(self._files.is_hidden, path))

    async def get_kernel_path(self, path: str, model: Any = None) -> str:  # noqa: ARG002
        """Where a notebook's kernel starts: beside it, or at the root if nothing answers."""
        try:
            return str(await self._read(self._files.get_kernel_path, path))
        except HTTPError:
            return ""

    async def create_checkpoint(self, path: str) -> Any:
        """Keep a checkpoint of a file."""
        return await self._write(partial(self._files.create_checkpoint, path), path)

    async def restore_checkpoint(self, checkpoint_id: str, path: str) -> None:
        """Put a file back as its checkpoint has it."""
        await self._write(partial(self._files.restore_checkpoint, checkpoint_id, path), path)

    async def list_checkpoints(self, path: str) -> Any:
        """The checkpoints of a file."""
        return await self._read(self._files.list_checkpoints, path)

    async def delete_checkpoint(self, checkpoint_id: str, path: str) -> None:
        """Delete a checkpoint of a file."""
        await self._write(partial(self._files.delete_checkpoint, checkpoint_id, path), path)
