"""Changing: uploads, folders, moves, deletions, versions."""

from __future__ import annotations

from typing import Any

from taccuino.storage.pages import changes, uploads, versions
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.keys import check_folder, check_key, check_prefix

from .base import Call

__all__ = [
    "DeleteCall",
    "DeletedCall",
    "FoldersCall",
    "MoveCall",
    "PurgeCall",
    "RestoreCall",
    "UndoCall",
    "UploadCompleteCall",
    "UploadUrlsCall",
    "UploadsCall",
    "VersionsCall",
]

_MOST_KEYS = 10_000


class _UploadCall(Call):
    def upload(self) -> tuple[str, str, str]:
        """Bucket, key and id of the upload that the body names."""
        key = check_key(self.field("key", str))
        place = self.writable(self.field("bucket", str), key)
        return place.bucket, key, self.field("upload_id", str)


class UploadsCall(_UploadCall):
    """``uploads``: begin one, see how far it is, give it up."""

    async def post(self) -> None:
        """Begin an upload."""
        key = check_key(self.field("key", str))
        place = self.writable(self.field("bucket", str), key)
        if key.endswith("/"):
            raise CallError(400, "key: a file's name does not end with a slash.")
        size, media_type = self.field("size", int), self.field("type", str)
        if_absent = self.body.get("if_absent") is True
        settings = self.parts.settings
        uploads.part_size(size)

        def begin(client: Any) -> dict[str, Any]:
            if if_absent and uploads.exists(client, place.bucket, key):
                raise CallError(409, "There is a file of this name already.", reason="exists")
            kind = media_type if media_type.isascii() and media_type.isprintable() else ""
            return uploads.begin(
                settings, client, place.bucket, key, size, kind or "application/octet-stream"
            )

        self.answer(await self.parts.clients.call(self.username, "begin an upload", begin))

    async def get(self) -> None:
        """Tell which parts have arrived."""
        bucket, key, upload_id = self._asked()
        size = self.get_argument("size", "")
        found = await self.parts.clients.call(
            self.username,
            "list an upload's parts",
            lambda client: uploads.parts(client, bucket, key, upload_id),
        )
        if size.isdecimal():
            each: int | None = uploads.part_size(int(size))
        else:
            each = found[0]["size"] if found else None
        self.answer({"parts": found, "part_size": each})

    async def delete(self) -> None:
        """Give the upload up."""
        bucket, key, upload_id = self._asked()
        await self.parts.clients.call(
            self.username,
            "give an upload up",
            lambda client: uploads.abort(client, bucket, key, upload_id),
        )
        self.answer()

    def _asked(self) -> tuple[str, str, str]:
        key = check_key(self.get_argument("key", "", strip=False))
        place = self.writable(self.get_argument("bucket", None), key)
        upload_id = self.get_argument("upload_id", "")
        if not upload_id:
            raise CallError(400, "upload_id: name an upload.")
        return place.bucket, key, upload_id


class UploadUrlsCall(_UploadCall):
    """``POST uploads/urls``: where parts are put."""

    async def post(self) -> None:
        """Answer with an address for each number."""
        bucket, key, upload_id = self.upload()
        numbers = self.field("numbers", list)
        if len(numbers) > uploads.MOST_URLS or not all(_is_part(number) for number in numbers):
            raise CallError(400, f"numbers: up to {uploads.MOST_URLS} of 1 to 10000.")
        settings = self.parts.settings
        urls = await self.parts.clients.call(
            self.username,
            "sign an upload",
            lambda client: uploads.urls(settings, client, bucket, key, upload_id, numbers),
        )
        self.answer({"urls": urls})


class UploadCompleteCall(_UploadCall):
    """``POST uploads/complete``: join the parts."""

    async def post(self) -> None:
        """Answer with the file's key and ETag; may be repeated."""
        bucket, key, upload_id = self.upload()
        etags = {}
        for part in self.field("parts", list):
            match part:
                case {"number": int(number), "etag": str(etag)} if _is_part(number):
                    etags[number] = etag.strip('"')
                case _:
                    raise CallError(400, 'parts: a list of {"number", "etag"}.')
        if not etags:
            raise CallError(400, "parts: none are named.")
        etag = await self.parts.clients.long_call(
            self.username,
            "complete an upload",
            lambda client: uploads.complete(client, bucket, key, upload_id, etags),
        )
        self.answer({"key": key, "etag": etag})


def _is_part(number: object) -> bool:
    return type(number) is int and 1 <= number <= uploads.MOST_PARTS


class FoldersCall(Call):
    """``POST folders``: make one."""

    async def post(self) -> None:
        """Answer with its key."""
        key = check_folder(self.field("key", str))
        place = self.writable(self.field("bucket", str), key)
        await self.parts.clients.call(
            self.username,
            "make a folder",
            lambda client: changes.make_folder(client, place.bucket, key),
        )
        self.answer({"key": key}, status=201)


class MoveCall(Call):
    """``POST move``: move or rename a file or a folder."""

    async def post(self) -> None:
        """Answer with the number of objects that moved."""
        source = check_key(self.field("from", str), what="from")
        target = check_key(self.field("to", str), what="to")
        place = self.writable(self.field("bucket", str), source, target)
        if_absent = self.body.get("if_absent") is not False
        moved = await self.parts.clients.long_call(
            self.username,
            "move files",
            lambda client: changes.move(
                client, place.bucket, source, target, if_absent=if_absent
            ),
        )
        self.answer({"moved": moved})


class DeleteCall(Call):
    """``POST delete``: delete files, and folders with what is in them."""

    async def post(self) -> None:
        """Answer with how many are gone, and what an undo takes."""
        keys = [check_key(key, what="keys") for key in self.field("keys", list)]
        if not 0 < len(keys) <= _MOST_KEYS:
            raise CallError(400, f"keys: name 1 to {_MOST_KEYS} files or folders.")
        place = self.writable(self.field("bucket", str), *keys)
        gone, failed = await self.parts.clients.long_call(
            self.username,
            "delete files",
            lambda client: changes.delete(client, place.bucket, keys),
        )
        markers = {key: marker for key, marker in gone.items() if marker}
        undo = None
        if markers:
            records = self.parts.records
            undo = await self.parts.clients.in_thread(
                lambda: records.add_deletion(self.username, place.bucket, markers)
            )
        self.answer({"deleted": len(gone), "undo": undo, "failed": failed[:100]})


class UndoCall(Call):
    """``POST undo``: bring back what was deleted within the hour."""

    async def post(self) -> None:
        """Answer with how many are back."""
        token, records = self.field("token", str), self.parts.records
        deletion = await self.parts.clients.in_thread(
            lambda: records.deletion(token, self.username)
        )
        if deletion is None:
            raise CallError(404, "This can't be undone any more; look among deleted files.")
        place = self.writable(deletion.bucket, *deletion.markers)
        restored = await self.parts.clients.long_call(
            self.username,
            "undo a deletion",
            lambda client: changes.undelete(client, place.bucket, deletion.markers),
        )
        await self.parts.clients.in_thread(lambda: records.drop_deletion(token))
        self.answer({"restored": restored})


class VersionsCall(Call):
    """``GET versions``: earlier versions of a file."""

    async def get(self) -> None:
        """Answer with them, the newest first."""
        place = self.place(self.get_argument("bucket", None))
        key = check_key(self.get_argument("key", "", strip=False))
        found = await self.parts.clients.call(
            self.username,
            "list a file's versions",
            lambda client: versions.versions_of(client, place.bucket, key),
        )
        self.answer({"versions": found})


class RestoreCall(Call):
    """``POST restore``: make an earlier version the current one."""

    async def post(self) -> None:
        """Answer with the file's key."""
        key = check_key(self.field("key", str))
        place, version = (
            self.writable(self.field("bucket", str), key),
            self.field("version", str),
        )
        await self.parts.clients.long_call(
            self.username,
            "restore a version",
            lambda client: versions.restore(client, place.bucket, key, version),
        )
        self.answer({"key": key})


class DeletedCall(Call):
    """``GET deleted``: files that were deleted and can be had back."""

    async def get(self) -> None:
        """Answer with them, the last deleted first."""
        place = self.place(self.get_argument("bucket", None))
        prefix = check_prefix(self.get_argument("prefix", "", strip=False))
        found = await self.parts.clients.call(
            self.username,
            "list deleted files",
            lambda client: versions.deleted_files(client, place.bucket, prefix),
        )
        self.answer(found)


class PurgeCall(Call):
    """``POST purge``: drop all earlier versions, to make room."""

    async def post(self) -> None:
        """Answer with the bytes that it freed."""
        place = self.place(self.field("bucket", str))
        self.writable(place.bucket, place.write_prefix)
        freed = await self.parts.clients.long_call(
            self.username,
            "drop earlier versions",
            lambda client: versions.purge(client, place.bucket, place.write_prefix),
        )
        self.answer({"freed_bytes": freed})
