"""A user's cloud_storage as the service mounts it: the mount plane over a real Ceph RadosGW."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

from support.mounts import UID, MountRig, mount_rig
from support.storage_stack import Stack, running_stack
from taccuino.storage import BucketProvisioner, Credentials, StorageTokenService, bucket_name

USERNAME = "alice"

T = TypeVar("T")


class MountedStorage:
    """Ceph, the mount plane's daemon, and one user's mounts, which can be made anew."""

    def __init__(self, stack: Stack, rig: MountRig, loop: asyncio.AbstractEventLoop) -> None:
        self.stack = stack
        self.rig = rig
        self._loop = loop

    @property
    def bucket(self) -> str:
        """The user's bucket."""
        return self.rig.request.bucket

    def session(self) -> Credentials:
        """Keys as the mount plane gets them, that last for the whole run."""
        service = StorageTokenService(self.stack.settings, self.stack.clients)
        return self.wait(service.credentials(USERNAME, self.stack.mint(USERNAME)))

    @property
    def directory(self) -> Path:
        """Where the bucket is mounted."""
        return self.rig.bucket

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the loop that also serves the hub, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def mount(self) -> None:
        """Mount, with whatever the cache holds."""
        status = self.wait(self.rig.client.mount(self.rig.request))
        if status.state != "mounted" or status.fault:
            raise AssertionError(f"not mounted: {status}\n{self.rig.log[-3000:]}")

    def uploaded(self, limit: float = 300.0) -> None:
        """Wait until nothing is left to upload, and hurry nothing."""
        deadline = time.monotonic() + limit
        while self.wait(self.rig.state()).uploads_pending:
            if time.monotonic() > deadline:
                raise AssertionError(f"not uploaded within {limit:g} s\n{self.rig.log[-3000:]}")
            time.sleep(0.05)

    def unmount(self) -> None:
        """Let go, when all is uploaded, and delete the cache."""
        self.uploaded()
        self.wait(self.rig.client.unmount(self.rig.request.slug))
        shutil.rmtree(self.rig.root / "state/mount-plane/cache" / self.rig.request.slug)

    def mount_cold(self) -> None:
        """Mount anew: the kernel's and rclone's caches are empty."""
        self.unmount()
        self.mount()


@contextlib.contextmanager
def mounted_storage() -> Iterator[MountedStorage]:
    """Start Ceph, its issuer and the mount plane, and mount a user's storage."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    try:
        with running_stack() as stack:
            provisioner = BucketProvisioner(stack.settings, stack.clients)
            wait(provisioner.ensure_user(USERNAME, USERNAME))
            service = StorageTokenService(stack.settings, stack.clients)

            async def credentials(_: str) -> dict[str, Any]:
                session = await service.credentials(USERNAME, stack.mint(USERNAME))
                return session.as_container_json()

            plane = mount_rig(endpoint=stack.settings.storage.endpoint)
            rig = wait(plane.__aenter__())
            try:
                rig.credentials = credentials
                rig.request = replace(
                    rig.request,
                    bucket=bucket_name(stack.settings, USERNAME),
                    scratch_bucket=stack.settings.storage.scratch_bucket,
                    workarea_quota="1G",
                )
                storage = MountedStorage(stack, rig, loop)
                storage.mount()
                yield storage
            finally:
                wait(plane.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class UserProcess:
    """A process of the user's uid that runs functions: what it may do, a user may.

    It is forked before there are threads, so that it has all modules and holds no lock.
    A call that does not end in time is given up with the process; the next one has a new one.
    """

    def __init__(self, uid: int = UID) -> None:
        self._uid = uid
        self._context = multiprocessing.get_context("fork")
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, self._uid), daemon=True
        )
        self._process.start()

    def run(self, function: Callable[..., T], *arguments: object, limit: float = 900.0) -> T:
        """The function's answer.

        Raises
        ------
        OSError
            What the function raised.
        TimeoutError
            If it did not answer within the limit, in seconds.
        """
        self._pipe.send((function, arguments))
        if not self._pipe.poll(limit):
            self._process.kill()
            self._start()
            raise TimeoutError(f"{function.__name__} did not end within {limit:g} s")
        answer, error = self._pipe.recv()
        if error is not None:
            raise error
        return answer


def _serve(pipe: Connection, uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.umask(0o022)
    os.chdir("/")
    os.environ["HOME"] = "/nonexistent"
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send((function(*arguments), None))
        except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
            error.add_note(traceback.format_exc())
            pipe.send((None, error))
