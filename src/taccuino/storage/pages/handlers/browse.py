"""Reading: the buckets, their folders, downloads."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from tornado.iostream import StreamClosedError

from taccuino.errors import TaccuinoError
from taccuino.storage.pages import listing
from taccuino.storage.pages.archive import Archive
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.keys import check_key, check_prefix, name_of
from taccuino.storage.pages.places import Place
from taccuino.storage.pages.presigned import disposition, download_url
from taccuino.storage.pages.preview import notebook_preview, preview

from .base import Call, PageHandler

__all__ = [
    "BucketsCall",
    "DownloadHandler",
    "ListCall",
    "PreviewCall",
    "SearchCall",
    "ZipHandler",
]

log = logging.getLogger(__name__)

_USAGE_SECONDS = 3.0


class BucketsCall(Call):
    """``GET buckets``: the user's buckets, and how full they are."""

    async def get(self) -> None:
        """Answer with all of them; what can't be asked in time is null."""
        self.answer({"buckets": await asyncio.gather(*map(self._bucket, self.places))})

    async def _bucket(self, place: Place) -> dict[str, Any]:
        usage = None if place.kind == "scratch" else await self._usage(place.bucket)
        return {
            "name": place.bucket,
            "directory": place.directory,
            "kind": place.kind,
            "writable": place.writable,
            "write_prefix": place.write_prefix,
            "versioned": self.parts.settings.storage.keep_versions_days > 0,
            "used_bytes": usage.bytes if usage else None,
            "quota_bytes": usage.quota_bytes if usage else None,
            "objects": usage.objects if usage else None,
        }

    async def _usage(self, bucket: str) -> Any:
        ask = getattr(self.parts.provisioner, "usage", None)
        if ask is None:
            return None
        try:
            return await asyncio.wait_for(ask(bucket), _USAGE_SECONDS)
        except (TaccuinoError, TimeoutError):
            return None


class ListCall(Call):
    """``GET list?bucket&prefix&token``: a page of a folder."""

    async def get(self) -> None:
        """Answer with folders, files and the token of the next page."""
        place = self.place(self.get_argument("bucket", None))
        prefix = check_prefix(self.get_argument("prefix", "", strip=False))
        token = self.get_argument("token", None)
        page = await self.parts.clients.call(
            self.username,
            "list a folder",
            lambda client: listing.list_page(client, place.bucket, prefix, token),
        )
        self.answer(page)


class SearchCall(Call):
    """``GET search?bucket&prefix&q``: files by a part of their name."""

    async def get(self) -> None:
        """Answer with what was found in the time there is."""
        place = self.place(self.get_argument("bucket", None))
        prefix = check_prefix(self.get_argument("prefix", "", strip=False))
        words = self.get_argument("q", "")
        if not words:
            self.answer({"files": [], "complete": True})
            return
        found = await self.parts.clients.call(
            self.username,
            "search",
            lambda client: listing.search(client, place.bucket, prefix, words),
        )
        self.answer(found)


class PreviewCall(Call):
    """``GET preview?bucket&key``: a look at a file."""

    async def get(self) -> None:
        """Answer with its kind, and what is shown of it."""
        place = self.place(self.get_argument("bucket", None))
        key = check_key(self.get_argument("key", "", strip=False))
        settings = self.parts.settings
        shown = await self.parts.clients.call(
            self.username,
            "read a file",
            lambda client: preview(settings, client, place.bucket, key),
        )
        if isinstance(shown, bytes):
            shown = await notebook_preview(self.username, shown)
        self.answer(shown)


class DownloadHandler(PageHandler):
    """``GET download?bucket&key[&inline=1][&version]``: a browser goes there itself."""

    async def get(self) -> None:
        """Go to where the file is downloaded."""
        place = self.place(self.get_argument("bucket", None))
        key = check_key(self.get_argument("key", "", strip=False))
        inline = self.get_argument("inline", "") == "1"
        version = self.get_argument("version", None)
        settings = self.parts.settings

        def sign(client: Any) -> str:
            named = {"VersionId": version} if version else {}
            client.head_object(Bucket=place.bucket, Key=key, **named)
            return download_url(
                settings, client, place.bucket, key, inline=inline, version=version
            )

        self.redirect(await self.parts.clients.call(self.username, "sign a download", sign))


class ZipHandler(PageHandler):
    """``GET zip?bucket&prefix``: a folder, or the whole bucket, as a zip file."""

    async def get(self) -> None:
        """Send it while it is made; no more than one piece is in memory."""
        place = self.place(self.get_argument("bucket", None))
        prefix = check_prefix(self.get_argument("prefix", "", strip=False))
        if prefix and not prefix.endswith("/"):
            raise CallError(400, "prefix: a folder's path ends with a slash.")
        try:
            archive = await self.parts.clients.long_call(
                self.username,
                "list a folder",
                lambda client: Archive(client, place.bucket, prefix),
            )
        except FileNotFoundError:
            raise CallError(404, "There is nothing in this folder.", reason="missing") from None
        name = f"{name_of(prefix) if prefix else place.directory}.zip"
        self.set_header("Content-Type", "application/zip")
        self.set_header("Content-Disposition", disposition(name, "attachment"))
        if archive.size is not None:
            self.set_header("Content-Length", str(archive.size))
        pieces = archive.pieces()
        try:
            while piece := await self.parts.clients.in_long_thread(
                self.username, lambda: next(pieces, b"")
            ):
                self.write(piece)
                await self.flush()
        except StreamClosedError:
            log.info("%s gave the download of a folder up", self.username)
        except (ClientError, BotoCoreError, RuntimeError, ValueError) as error:
            # Half a zip file must not look like a whole one: the connection is cut.
            log.warning("%s: a zip file broke off: %s", self.username, error)
            connection: Any = self.request.connection
            connection.stream.close()
        finally:
            await self.parts.clients.in_long_thread(self.username, pieces.close)
