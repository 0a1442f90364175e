"""Questions to the object storage in a user's name, on the same way as their rclone's."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from taccuino.errors import ServiceError
from taccuino.settings import Settings

from .credentials import StorageCredentials
from .kept import USER_HEADER

__all__ = ["AskError", "StorageQuestions"]

_SECONDS = 15.0


class AskError(ServiceError):
    """The storage gave no answer, or another than was asked for."""


class StorageQuestions:
    """Asks through the relay's socket for names, so that what is answered is kept there too."""

    def __init__(self, settings: Settings, socket: Path) -> None:
        self._endpoint = settings.storage.endpoint or ""
        self._region = settings.storage.region
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session:
            await self._session.close()

    async def get(self, slug: str, target: str, credentials: StorageCredentials) -> bytes:
        """The body of what the storage answers to a GET, signed with a user's credentials.

        Raises
        ------
        AskError
            If there is no answer or one with another status than 200.
        """
        request = AWSRequest("GET", self._endpoint + target)
        keys = Credentials(
            credentials.access_key, credentials.secret_key, credentials.session_token or None
        )
        S3SigV4Auth(keys, "s3", self._region).add_auth(request)
        headers = {**request.headers, USER_HEADER: slug}
        status, _, body = await self.forward(target, headers)
        if status != 200:
            raise AskError(f"the object storage answered {status}")
        return body

    async def forward(
        self, target: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Hand a request that is signed already on; its status, headers and body.

        Raises
        ------
        AskError
            If there is no answer.
        """
        url = urlsplit(self._endpoint)
        self._session = self._session or aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(self._socket)),
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )
        try:
            async with self._session.get(
                URL(f"http://{url.netloc}{target}", encoded=True),
                headers={"Host": url.netloc, **headers},
                allow_redirects=False,
            ) as response:
                return response.status, dict(response.headers), await response.read()
        except TimeoutError:
            raise AskError("the object storage gave no answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise AskError(f"the object storage gave no answer ({error})") from error
