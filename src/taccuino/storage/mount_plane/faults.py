"""What went wrong, in sentences for the user and the operator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["explain_storage_error", "upload_errors"]

_API_ERROR = re.compile(r"api error ([A-Za-z]+)(?:: ([^\n\"]{0,200}))?")
_CREDENTIALS = ("credential", "no EC2 IMDS role", "process provider")
_REFUSED = {"AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "RequestExpired"}
_MISSING = {"NoSuchBucket", "NotFound"}
_UNREACHABLE = (
    "connection refused",
    "connection reset",
    "i/o timeout",
    "no such host",
    "no route to host",
    "network is unreachable",
    "deadline exceeded",
    "tls: ",
    "EOF",
    "StatusCode: 502",
    "StatusCode: 503",
    "StatusCode: 504",
)


def explain_storage_error(text: str, what: str, endpoint: str) -> str:
    """A sentence for an error of the object storage as rclone tells it.

    ``what`` is what could not be reached, in the user's words: ``cloud_storage/alice``.
    """
    found = _API_ERROR.search(text)
    code = found[1] if found else ""
    if code in _EXPIRED:
        return f"{what}: the storage credentials have expired ({code})."
    if code in _REFUSED:
        return f"{what}: the object storage refuses access ({code})."
    if code in _MISSING or "directory not found" in text:
        return f"{what}: its bucket does not exist in the object storage."
    if any(sign in text for sign in _UNREACHABLE):
        return f"{what}: the object storage at {endpoint} can't be reached."
    if any(sign in text for sign in _CREDENTIALS):
        return f"{what}: there are no storage credentials."
    if code == "QuotaExceeded":
        return (
            f"{what}: the bucket is full ({code}). Delete what you do not need any more, and "
            "earlier versions of files, which count too: the storage pages free them."
        )
    detail = f"{code}: {found[2]}" if found and found[2] else code or _last(text)
    return f"{what}: the object storage answered with an error ({detail})."


def _last(text: str) -> str:
    """The end of a chain of errors, which is its cause."""
    return text.strip().splitlines()[-1][-160:] if text.strip() else "no text"


def upload_errors(
    failing: Iterable[tuple[str, str, int]], reasons: Mapping[str, str], endpoint: str
) -> list[str]:
    """A sentence for each file whose upload fails: ``(directory, name, tries)`` each.

    ``reasons`` are rclone's own texts by the file's name. A refused write appears to succeed
    to the program that wrote it, so this is where a user learns of it.
    """
    sentences = []
    for directory, name, tries in failing:
        path = f"{directory}/{name}"
        if name in reasons:
            reason = explain_storage_error(reasons[name], path, endpoint)
        else:
            reason = f"{path}: the upload failed."
        sentences.append(
            f"Not uploaded after {tries} attempt(s), will be tried again: {reason}"
        )
    return sentences
