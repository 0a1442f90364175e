"""What others mount object storage with: rclone without a cache, and s3fs; and plain boto3."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from taccuino.storage.mount_plane.configuration import rclone_binary
from taccuino.storage.mount_plane.kernel import MountTable, unmount

from .mounted import MountedStorage

MOUNT_LIMIT = 30.0


class Side(ABC):
    """A way to have the bucket as a directory."""

    name: str

    @property
    @abstractmethod
    def directory(self) -> Path:
        """The side's own folder in the bucket."""

    @property
    def prefix(self) -> str:
        """The same folder, as the bucket names it."""
        return self.directory.name

    @abstractmethod
    def mount_cold(self) -> None:
        """Mount (anew), with nothing in any cache."""

    @abstractmethod
    def uploaded(self) -> None:
        """Wait until everything is in the bucket."""


class Taccuino(Side):
    """The mount plane."""

    name = "taccuino"

    def __init__(self, storage: MountedStorage) -> None:
        self._storage = storage

    @property
    def directory(self) -> Path:
        """Its folder."""
        return self._storage.directory / "bench-taccuino"

    def mount_cold(self) -> None:
        """Mount anew with an empty cache."""
        self._storage.mount_cold()

    def uploaded(self) -> None:
        """Ask the mount plane."""
        self._storage.uploaded()


class Baseline(Side):
    """A program that runs in the foreground until it is unmounted; it uploads at close."""

    def __init__(self, storage: MountedStorage, root: Path) -> None:
        self._storage = storage
        self._root = root / self.name.split(",")[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def mount_point(self) -> Path:
        """Where the bucket is mounted."""
        return self._root / "mount"

    @property
    def directory(self) -> Path:
        """Its folder."""
        return self.mount_point / f"bench-{self._root.name}"

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """The program with its arguments, and what is added to its environment."""

    def mount_cold(self) -> None:
        """End the process and start another."""
        self.unmount()
        self.mount_point.mkdir(parents=True, exist_ok=True)
        words, environment = self.command()
        log = self._root / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                words, env=os.environ | environment, stdout=output, stderr=output
            )
        deadline = time.monotonic() + MOUNT_LIMIT
        while MountTable.read().at(self.mount_point) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not mount:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)

    def unmount(self) -> None:
        """End it."""
        if self._process:
            unmount(self.mount_point)
            self._process.wait(timeout=60)
            self._process = None

    def uploaded(self) -> None:
        """It was, when the last file was closed."""


class RcloneWithoutCache(Baseline):
    """rclone as it comes: ``--vfs-cache-mode off``."""

    name = "rclone, no cache"

    def command(self) -> tuple[list[str], dict[str, str]]:
        """The credentials go by the environment."""
        uid = self._storage.rig.request.uid
        remote = ":s3,provider=Ceph,env_auth=true,force_path_style=true,no_check_bucket=true"
        words = [
            *(rclone_binary(), "mount", f"{remote}:{self._storage.bucket}"),
            *(str(self.mount_point), "--vfs-cache-mode=off", "--config=/dev/null"),
            *("--allow-other", "--default-permissions", "--umask=077"),
            *(f"--uid={uid}", f"--gid={uid}"),
        ]
        settings = self._storage.stack.settings.storage
        keys = self._storage.session()
        return words, {
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_SESSION_TOKEN": keys.session_token,
            "RCLONE_S3_ENDPOINT": settings.endpoint or "",
            "RCLONE_S3_REGION": settings.region,
        }


class S3fs(Baseline):
    """s3fs as Debian has it, with its defaults."""

    name = "s3fs"

    def command(self) -> tuple[list[str], dict[str, str]]:
        """The credentials go by the environment."""
        uid = self._storage.rig.request.uid
        settings = self._storage.stack.settings.storage
        options = [
            *(f"url={settings.endpoint}", "use_path_request_style", "allow_other"),
            *(f"uid={uid}", f"gid={uid}", "umask=077"),
            *(f"endpoint={settings.region}", "use_session_token"),
        ]
        words = ["s3fs", self._storage.bucket, str(self.mount_point), "-f"]
        for option in options:
            words += ["-o", option]
        keys = self._storage.session()
        return words, {
            "AWSACCESSKEYID": keys.access_key,
            "AWSSECRETACCESSKEY": keys.secret_key,
            "AWSSESSIONTOKEN": keys.session_token,
        }


def download(storage: MountedStorage, key: str, target: Path) -> float:
    """Seconds that boto3 takes to download an object, with its defaults."""
    client = storage.stack.s3(storage.session())
    began = time.perf_counter()
    client.download_file(storage.bucket, key, str(target))
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def ensure_s3fs() -> None:
    """Install s3fs if it is missing."""
    if not shutil.which("s3fs"):
        words = ["apt-get", "install", "-y", "--no-install-recommends", "s3fs"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
