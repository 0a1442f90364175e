"""What the pages' calls answer when they can't: a status, a sentence and a reason."""

from __future__ import annotations

from taccuino.errors import TaccuinoError
from taccuino.storage.errors import StorageError

__all__ = ["CallError", "of_storage"]


class CallError(TaccuinoError):
    """A call that is answered with an error.

    ``reason`` is for programs: ``login`` means that logging in again mends it.
    """

    def __init__(self, status: int, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


_SENTENCES: dict[str, tuple[int, str]] = {
    "unreachable": (503, "The object storage does not answer at the moment. Try again soon."),
    "denied": (403, "The object storage does not let you do this."),
    "expired_token": (403, "The object storage does not take your login any more."),
}


def of_storage(error: StorageError, *, missing: bool = False) -> CallError:
    """The answer to a failure of the storage; its own text is for the log."""
    if missing:
        return CallError(404, "There is no such file.", reason="missing")
    status, sentence = _SENTENCES.get(
        error.reason, (502, "The object storage refused this; the administrators see why.")
    )
    return CallError(status, sentence, reason=error.reason)
