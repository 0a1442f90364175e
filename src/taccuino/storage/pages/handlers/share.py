"""Sharing: links for anybody, and copies in scratch for other users."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import quote

from taccuino.storage.names import scratch_prefix
from taccuino.storage.pages import changes
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.keys import check_key, name_of
from taccuino.storage.pages.records import Share

from .base import Call, PageHandler

__all__ = ["ScratchCall", "ShareCall", "SharedDownload", "SharedPage", "SharesCall"]


class SharesCall(Call):
    """``shares``: make a link; list one's own."""

    async def post(self) -> None:
        """Make a link to a file."""
        key = check_key(self.field("key", str))
        place = self.place(self.field("bucket", str))
        if key.endswith("/"):
            raise CallError(400, "key: a link shares a file, not a folder.")
        share = await self.parts.sharing.share(
            self.username, place.bucket, key, self.field("seconds", int)
        )
        self.answer(self._json(share), status=201)

    async def get(self) -> None:
        """Answer with the user's links that have not ended."""
        shares = await asyncio.to_thread(self.parts.records.shares_of, self.username)
        self.answer({"shares": [self._json(share) for share in shares]})

    def _json(self, share: Share) -> dict[str, object]:
        return {
            "id": share.id,
            "url": self.parts.sharing.url(share),
            "bucket": share.bucket,
            "key": share.key,
            "name": name_of(share.key),
            "created": int(share.created),
            "expires": int(share.expires),
        }


class ShareCall(Call):
    """``DELETE shares/<id>``: end a link now."""

    async def delete(self, id_: str) -> None:
        """End it, if it is one's own."""
        if not await asyncio.to_thread(self.parts.records.revoke, id_, self.username):
            raise CallError(404, "There is no such link among yours.")
        self.answer()


class SharedPage(PageHandler):
    """``s/<id>``, or ``s/<site>/<id>``: what a link shares, for anybody who has it."""

    needs_login = False

    async def get(self, site: str | None, id_: str) -> None:
        """Answer with a page that offers the download."""
        self.parts.sharing.check_site(site)
        file = await self.parts.sharing.look(id_)
        # The address is the secret: it goes nowhere from here.
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Robots-Tag", "noindex")
        self.finish(
            self.parts.presentation.page(
                "shared.html",
                name=name_of(file.share.key),
                size=file.size,
                size_text=_size_text(file.size),
                modified=_moment(file.modified),
                expires=_moment(file.share.expires),
                shared_by=file.share.username,
                changed=file.changed,
                download=f"{self.request.path}/download",
            )
        )


class SharedDownload(PageHandler):
    """``download`` below a link: the file."""

    needs_login = False

    async def get(self, site: str | None, id_: str) -> None:
        """Go to where it is downloaded, for a minute."""
        self.parts.sharing.check_site(site)
        self.set_header("Referrer-Policy", "no-referrer")
        self.redirect(await self.parts.sharing.download(id_))


class ScratchCall(Call):
    """``POST scratch``: copy to the user's part of scratch, where all users can read it."""

    async def post(self) -> None:
        """Answer with the copy's key, and a link that opens it in anybody's own server."""
        key = check_key(self.field("key", str))
        place, settings = self.place(self.field("bucket", str)), self.parts.settings
        scratch, prefix = settings.storage.scratch_bucket, scratch_prefix(self.username)
        copied = await self.parts.clients.long_call(
            self.username,
            "copy to scratch",
            lambda client: changes.copy_aside(client, place.bucket, key, scratch, prefix),
        )
        # JupyterHub decodes what it redirects to: encoded once more than an address is.
        path = quote(quote(f"cloud_storage/scratch/{copied}".rstrip("/")))
        link = f"{settings.url}/hub/user-redirect/lab/tree/{path}"
        self.answer({"key": copied, "link": link})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _size_text(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
