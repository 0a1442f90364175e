"""Each user's way to the object storage: a client with the user's own credentials.

The credentials come from the hub, as the mount plane's do, and are renewed before they end by
botocore itself, so that neither a long copy nor a zip meets their end. boto3 blocks, so all of
it runs in threads of its own: while the storage hangs, the pages go on answering. No user gets
more than a part of the threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from taccuino.settings import Settings
from taccuino.storage.errors import is_missing, storage_error
from taccuino.storage.mount_plane.credentials import CredentialError, CredentialSource

from .errors import CallError, of_storage
from .turns import Turns

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["UserClients", "pages_client"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

CALL_SECONDS = 9.0
"""A call that takes longer is answered with 503, though its thread goes on."""
_CONNECT_SECONDS = 2.0
_READ_SECONDS = 6.0
_LONG_READ_SECONDS = 600.0
_RENEW_SECONDS = 300
_MUST_RENEW_SECONDS = 60
_WAITING = 50
"""Calls of a user that wait in line."""
_MOST_CLIENTS = 500
"""Clients kept at once; each takes some 2 MB."""


def pages_client(settings: Settings, credentials: Any, *, patient: bool = False) -> S3Client:
    """An S3 client; a ``patient`` one waits for what takes long (copies, downloads)."""
    session = get_session()
    session.register_component("credential_provider", CredentialResolver([credentials]))
    client = session.create_client(
        "s3",
        region_name=settings.storage.region,
        endpoint_url=settings.storage.endpoint,
        config=Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_LONG_READ_SECONDS if patient else _READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 3 if patient else 2},
            max_pool_connections=16,
            s3={"addressing_style": "path"},
            # Ceph 16 knows none of the checksums that newer SDKs send by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return cast("S3Client", client)


class _HubProvider(CredentialProvider):
    """Gives botocore the credentials of one user, anew whenever they are about to end."""

    METHOD = "taccuino-hub"

    def __init__(self, fetch: Callable[[], dict[str, str]]) -> None:
        super().__init__()
        self._fetch = fetch

    def load(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(
            self._fetch(),
            refresh_using=self._fetch,
            method=self.METHOD,
            advisory_timeout=_RENEW_SECONDS,
            mandatory_timeout=_MUST_RENEW_SECONDS,
        )


class _Turn:
    """A user's turn: one thread after the other."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self.thread: Future[Any] | None = None

    async def run(self, work: Callable[[], _T]) -> _T:
        self.thread = future = self._pool.submit(work)
        return await asyncio.wrap_future(future)


class _Threads:
    """Threads, and the users' turns in them."""

    def __init__(self, name: str, most: int, *, each: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._turns = Turns(each, _WAITING)

    def free(self) -> _Turn:
        """A turn that is nobody's."""
        return _Turn(self._pool)

    @asynccontextmanager
    async def turn(
        self, username: str, seconds: float | None = None, *, refuse: bool = True
    ) -> AsyncIterator[_Turn]:
        """The user's turn; it lasts until its thread ends, even if nobody waits for that."""
        loop = asyncio.get_running_loop()
        end = await self._turns.take(username, seconds, refuse=refuse)
        turn = _Turn(self._pool)
        try:
            yield turn
        finally:
            if turn.thread is None or turn.thread.done():
                end()
            else:
                turn.thread.add_done_callback(lambda _: loop.call_soon_threadsafe(end))


class UserClients:
    """The users' S3 clients, and the threads that they are used in."""

    def __init__(self, settings: Settings, source: CredentialSource) -> None:
        self._settings = settings
        self._source = source
        self._clients: dict[tuple[str, bool], S3Client] = {}
        self._threads = _Threads("pages", 32, each=8)
        self._long_threads = _Threads("pages-long", 16, each=3)

    async def call(self, username: str, action: str, work: Callable[[S3Client], _T]) -> _T:
        """Do something short with the user's client.

        Parameters
        ----------
        action
            What is tried, for the log, such as ``list a folder``.
        work
            Gets the client, in a thread. It must do no harm when it is done twice.

        Raises
        ------
        CallError
            If the storage or the hub refuses, or gives no answer in time; 429, if too much of
            the user's is under way.
        """
        async with self._threads.turn(username, CALL_SECONDS) as turn:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    return await self._attempt(turn, username, action, work, patient=False)
            except TimeoutError:
                log.warning("The storage did not %s in %g s", action, CALL_SECONDS)
                raise CallError(
                    503,
                    "The object storage does not answer at the moment. Try again soon.",
                    reason="unreachable",
                ) from None

    async def long_call(self, username: str, action: str, work: Callable[[S3Client], _T]) -> _T:
        """Do something that may take minutes, with a client that waits for it."""
        async with self._long_threads.turn(username) as turn:
            return await self._attempt(turn, username, action, work, patient=True)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Do something short that blocks and needs no user's client."""
        return await self._threads.free().run(work)

    async def in_long_thread(self, username: str, work: Callable[[], _T]) -> _T:
        """Do a part of something long that blocks, such as the next piece of a zip file.

        It is never refused, since what was begun must come to its end.
        """
        async with self._long_threads.turn(username, refuse=False) as turn:
            return await turn.run(work)

    async def _attempt(
        self,
        turn: _Turn,
        username: str,
        action: str,
        work: Callable[[S3Client], _T],
        *,
        patient: bool,
    ) -> _T:
        try:
            return await self._once(turn, username, action, work, patient=patient)
        except CallError as error:
            if error.reason not in {"denied", "expired_token"}:
                raise
            if not self._renew(username):
                raise
        return await self._once(turn, username, action, work, patient=patient)

    def _renew(self, username: str) -> bool:
        """Forget credentials that were refused, unless they are new ones; whether we did."""
        if self._source.is_new(username):
            return False
        self._source.forget(username)
        for patient in (True, False):
            self._clients.pop((username, patient), None)
        return True

    async def _once(
        self,
        turn: _Turn,
        username: str,
        action: str,
        work: Callable[[S3Client], _T],
        *,
        patient: bool,
    ) -> _T:
        # Here first: a user who must log in is told so without a thread.
        try:
            await self._source.get(username)
        except CredentialError as error:
            raise of_credentials(error) from error
        loop = asyncio.get_running_loop()

        def guarded() -> _T:
            try:
                return work(self._client(username, loop, patient=patient))
            except CredentialError as error:
                raise of_credentials(error) from error
            except (ClientError, BotoCoreError) as error:
                failure = storage_error(error, action, self._settings.storage.endpoint)
                missing = isinstance(error, ClientError) and is_missing(error)
                if not missing:
                    log.warning("%s: %s", username, failure)
                raise of_storage(failure, missing=missing) from error

        return await turn.run(guarded)

    def _client(
        self, username: str, loop: asyncio.AbstractEventLoop, *, patient: bool
    ) -> S3Client:
        """The user's client; only called in a thread, which may wait for the hub."""
        key = (username, patient)
        if key not in self._clients:

            def fetch() -> dict[str, str]:
                future = asyncio.run_coroutine_threadsafe(self._source.get(username), loop)
                keys = future.result(timeout=15)
                return {
                    "access_key": keys.access_key,
                    "secret_key": keys.secret_key,
                    "token": keys.session_token,
                    "expiry_time": keys.expires_at.astimezone(UTC).isoformat(),
                }

            if len(self._clients) >= _MOST_CLIENTS:
                self._clients.pop(next(iter(self._clients)), None)
            self._clients[key] = pages_client(
                self._settings, _HubProvider(fetch), patient=patient
            )
        return self._clients[key]


def of_credentials(error: CredentialError) -> CallError:
    """The answer when the hub gives no credentials: its own sentence, which says the mend."""
    if error.reason in {None, "unreachable"}:
        return CallError(503, str(error), reason="unreachable")
    return CallError(403, str(error), reason="login")
