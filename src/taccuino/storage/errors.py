"""The storage's errors; ``reason`` is what programs ask for, the text is for a person."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from taccuino.errors import TaccuinoError

__all__ = ["StorageError", "StorageReason", "http_status", "is_missing", "storage_error"]

StorageReason = Literal[
    "denied", "expired_token", "unreachable", "issuer", "conflict", "refused"
]
"""``denied``: the storage knows the request and says no. ``expired_token``: a newer access
token may help. ``unreachable``: trying again may help. ``issuer``: the IAM can't be asked.
``conflict``: a bucket or role of that name belongs to someone else. ``refused``: any other."""

_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "InvalidIdentityToken",
}
_EXPIRED = {"ExpiredTokenException", "ExpiredToken"}
_CONFLICT = {"BucketAlreadyExists", "EntityAlreadyExists", "EntityAlreadyExistsException"}
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout"}


class StorageError(TaccuinoError):
    """The object storage refused something or could not be reached."""

    def __init__(self, message: str, *, reason: StorageReason = "refused") -> None:
        super().__init__(message)
        self.reason: StorageReason = reason


def http_status(error: ClientError) -> int:
    """The HTTP status of an answer; RadosGW names the code of some errors only."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing(error: ClientError) -> bool:
    """Whether what was asked for is not there."""
    return http_status(error) == HTTPStatus.NOT_FOUND


def storage_error(
    error: ClientError | BotoCoreError, action: str, endpoint: str | None
) -> StorageError:
    """Our error for one of boto's; ``action`` says what was tried, such as ``make a role``.

    The text holds what the storage said, never what was sent: a token could be in it.
    """
    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        status = http_status(error)
        code = str(answer.get("Code", "")) or str(status)
        reason: StorageReason = "refused"
        if code in _EXPIRED:
            reason = "expired_token"
        elif code in _DENIED or status in {401, 403}:
            reason = "denied"
        elif code in _CONFLICT:
            reason = "conflict"
        elif code in _BUSY or status >= 500:
            reason = "unreachable"
        said = str(answer.get("Message") or "")[:200]
        text = f"{code} ({status})" + (f": {said}" if said and said != "Unknown" else "")
        return StorageError(
            f"the object storage at {endpoint} did not {action}: {text}", reason=reason
        )
    if isinstance(error, BotoConnectionError | HTTPClientError):
        return StorageError(
            f"the object storage at {endpoint} can't be reached to {action}; is it running?",
            reason="unreachable",
        )
    return StorageError(f"can't {action} at {endpoint}: {error}")
