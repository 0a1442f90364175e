"""Starts an image as a notebook server is started, and proves that it works as one.

The container has the rights of a real one and no network but its own loopback, where a stand-in
for the hub runs beside it. Nothing of the running service is touched, and it need not run.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .images import ImageError, ImageStore, Report

__all__ = ["Proof", "check_image"]

_UID_BASE = 4_000_000_000
"""A range far above those of the users."""
_HUB_PORT = 8081
_REMOVAL_SECONDS = 10.0
_ENVIRONMENT = {
    "JUPYTERHUB_API_TOKEN": "check",
    "JUPYTERHUB_API_URL": f"http://127.0.0.1:{_HUB_PORT}/hub/api",
    "JUPYTERHUB_ACTIVITY_URL": f"http://127.0.0.1:{_HUB_PORT}/hub/api/users/check/activity",
    "JUPYTERHUB_BASE_URL": "/",
    "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-check",
    "JUPYTERHUB_HOST": "",
    "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=check/"]',
    "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/check/oauth_callback",
    "JUPYTERHUB_OAUTH_SCOPES": '["access:servers!server=check/"]',
    "JUPYTERHUB_SERVER_NAME": "",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/check/",
    "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:8888/user/check/",
    "JUPYTERHUB_USER": "check",
    "TACCUINO_INTERFACE": "lab",
    "TACCUINO_OIDC_PROFILE": "infncloud",
    "TACCUINO_STORAGE_FAULTS": "[]",
    "TACCUINO_USERNAME": "check",
    "AWS_DEFAULT_REGION": "default",
    "AWS_ENDPOINT_URL_S3": "http://storage.invalid",
    "AWS_ENDPOINT_URL_STS": "http://storage.invalid",
}


@dataclass(frozen=True)
class Proof:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str


def check_image(store: ImageStore, reference: str, report: Report) -> list[Proof]:
    """Start ``reference`` and return what was found; the check is passed if all proofs are.

    Raises
    ------
    ImageError
        If the store has no such image, or a container can't be started at all.
    """
    labels = store.labels(reference)
    if labels is None:
        raise ImageError(
            f"there is no image {reference} in the engine's store; build it with "
            "'taccuino image build', or see 'taccuino image list'"
        )
    if os.geteuid() != 0:
        raise ImageError("an image is checked with mounts of its own: run this command as root")
    name = f"taccuino-check-{secrets.token_hex(4)}"
    report(f"Starting {reference}")
    with _directories() as (workarea, storage):
        environment = [f"--env={key}={value}" for key, value in _ENVIRONMENT.items()]
        mapping = f"0:{_UID_BASE}:65536"
        try:
            store.podman(
                *("run", "--detach", "--name", name, "--network=none", *environment),
                *(f"--uidmap={mapping}", f"--gidmap={mapping}", "--user=1000:1000"),
                *("--cap-drop=all", "--security-opt=no-new-privileges", "--memory=2g"),
                *("-v", f"{workarea}:/workarea"),
                *("-v", f"{storage}:/workarea/cloud_storage:rslave", reference),
                what=f"starting {reference}",
            )
            with _late_mount(storage):
                report("Looking at it from inside")
                return _probe(store, name)
        finally:
            _remove(store, name)


def _probe(store: ImageStore, name: str) -> list[Proof]:
    # The server asks for its hub again until it finds it.
    hub = ("exec", "--detach", name, "python3", "-c", _program("stand_in_hub"), str(_HUB_PORT))
    with suppress(ImageError):  # the container may have ended: its log says why
        store.podman(*hub, what="starting the stand-in for the hub")
    command = store.popen("exec", "--interactive", name, "python3", "-")
    done = subprocess.run(
        command,
        input=_program("probe"),
        capture_output=True,
        text=True,
        env=store.environment,
        check=False,
    )
    proofs = [Proof(**json.loads(line)) for line in done.stdout.splitlines() if line[:1] == "{"]
    if not proofs:
        detail = "the container ended at once, or has no python3: nothing could be looked at"
        proofs.append(Proof("server", passed=False, detail=detail))
    if not all(proof.passed for proof in proofs):
        logs = subprocess.run(
            store.popen("logs", "--tail", "20", name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=store.environment,
            check=False,
        )
        text = (logs.stdout + done.stderr[-2000:]).strip() or "the container said nothing"
        proofs.append(Proof("log", passed=False, detail=text))
    return proofs


def _program(name: str) -> str:
    return (resources.files(__package__) / "checks" / f"{name}.py").read_text(encoding="utf-8")


def _remove(store: ImageStore, container: str) -> None:
    """Remove a container, again while its shared memory is still being unmounted (EBUSY)."""
    end = time.monotonic() + _REMOVAL_SECONDS
    what = "removing the check's container"
    while True:
        try:
            store.podman("rm", "--force", "--time", "2", "--ignore", container, what=what)
        except ImageError as error:
            if "busy" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def _directories() -> Iterator[tuple[Path, Path]]:
    """A workarea, and a directory whose later mounts propagate, as the mount plane's do."""
    directory = Path(tempfile.mkdtemp(prefix="taccuino-check-"))
    try:
        directory.chmod(0o711)
        workarea, storage = directory / "workarea", directory / "storage"
        for path in (workarea, storage):
            path.mkdir()
            os.chown(path, _UID_BASE + 1000, _UID_BASE + 1000)
        _mount("--bind", str(storage), str(storage))
        try:
            _mount("--make-rshared", str(storage))
            yield workarea, storage
        finally:
            _unmount(storage)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _late_mount(storage: Path) -> Iterator[None]:
    """Mount something after the container's start, for the server's user."""
    late = storage / "late"
    late.mkdir()
    owner = _UID_BASE + 1000
    _mount("-t", "tmpfs", "-o", f"size=1m,uid={owner},gid={owner},mode=700", "none", str(late))
    try:
        (late / "marker").touch()
        os.chown(late / "marker", owner, owner)
        yield
    finally:
        _unmount(late)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"mounting for the check failed: {done.stderr.strip()}")


def _unmount(path: Path) -> None:
    # Lazily: the container's end of it may go a moment later.
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
