"""boto3's clients for the object storage, all of one session.

A session reads what boto3 knows of all services, 0.1 s of CPU; a further client takes 5 ms.
"""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore import UNSIGNED
from botocore.config import Config

from taccuino.settings import Settings

from .errors import StorageError

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sts import STSClient

__all__ = ["StorageClients", "off_loop", "s3_client"]

_T = TypeVar("_T")

_CONNECT_SECONDS = 5
_READ_SECONDS = 20
_ATTEMPTS = 3
_THREADS = ThreadPoolExecutor(16, thread_name_prefix="storage")
_making = threading.Lock()
"""Clients may be used from any thread; a session makes one at a time."""


async def off_loop(call: Callable[[], _T]) -> _T:
    """Run one of boto3's blocking calls in a thread.

    The threads are the storage's own: while it hangs, nothing else waits for one.
    """
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call)


def _config(**options: Any) -> Config:
    return Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        s3={"addressing_style": "path"},
        # Ceph 16 knows none of the checksums that newer SDKs send by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **options,
    )


@functools.cache
def _session(region: str) -> Any:
    import boto3.session  # here, since importing it takes 0.2 s

    return boto3.session.Session(region_name=region)


def _client(settings: Settings, service: str, config: Config, **keys: str) -> Any:
    if settings.storage.endpoint is None:
        raise StorageError(
            "storage.endpoint is not set; name the S3 endpoint, or let `taccuino up` embed one"
        )
    with _making:
        session = _session(settings.storage.region)
        return session.client(
            service, endpoint_url=settings.storage.endpoint, config=config, **keys
        )


def s3_client(
    settings: Settings, access_key: str, secret_key: str, session_token: str | None = None
) -> S3Client:
    """An S3 client with these keys."""
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    if session_token:
        keys["aws_session_token"] = session_token
    client = _client(settings, "s3", _config(signature_version="s3v4"), **keys)
    return cast("S3Client", client)


class StorageClients:
    """The clients that the hub's storage code shares; they may be used from any thread.

    Raises
    ------
    StorageError
        From each, if ``storage.endpoint`` or the administrator's keys can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, Any] = {}
        self._making = threading.Lock()

    def sts(self) -> STSClient:
        """STS with no keys: the user's token is all that counts."""
        with self._making:
            if "sts" not in self._made:
                config = _config(signature_version=UNSIGNED)
                self._made["sts"] = _client(self._settings, "sts", config)
            return cast("STSClient", self._made["sts"])

    def s3(self) -> S3Client:
        """S3 with the administrator's keys."""
        with self._making:
            if "s3" not in self._made:
                self._made["s3"] = s3_client(self._settings, *self.admin_keys())
            return cast("S3Client", self._made["s3"])

    def iam(self) -> IAMClient:
        """Roles and OIDC providers with the administrator's keys."""
        with self._making:
            if "iam" not in self._made:
                access_key, secret_key = self.admin_keys()
                keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
                self._made["iam"] = _client(self._settings, "iam", _config(), **keys)
            return cast("IAMClient", self._made["iam"])

    def admin_keys(self) -> tuple[str, str]:
        """The administrator's keys, access key and secret key."""
        path = self._settings.storage.admin_credentials_file
        if path is None:
            raise StorageError("storage.admin_credentials_file is not set")
        try:
            keys = json.loads(path.read_text(encoding="utf-8"))
            return str(keys["access_key"]), str(keys["secret_key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Not the error's own text: it could quote what the file holds.
            raise StorageError(
                f"storage.admin_credentials_file: {path} can't be used "
                f"({type(error).__name__}); it is JSON with access_key and secret_key"
            ) from None
