"""A failure in the shape in which JupyterHub tells it."""

from __future__ import annotations

from jupyterhub.spawner import SpawnException

from taccuino.settings import Settings

from .admission import still_short
from .failures import Failure
from .metrics import ADMISSION_REFUSALS, START_FAILURES

__all__ = ["StartFailure", "find_room"]


class StartFailure(SpawnException):
    """A start that failed, as JupyterHub's pages and API tell it: words, and no trace."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(
            failure.message,
            reason=failure.reason,
            message_html=failure.html,
            status_code=failure.status,
        )
        self.failure = failure
        self.jupyterhub_message = failure.message
        self.jupyterhub_html_message = failure.html


def find_room(settings: Settings, memory: int | None, starting: int) -> None:
    """Look for room again when a start's turn comes: it may have waited for long.

    ``memory`` is its limit in bytes, ``starting`` how many others are under way.

    Raises
    ------
    StartFailure
        If the node has no room for it any more.
    """
    if short := still_short(settings, memory or 0, starting):
        failure = Failure("no_room", short.message, retryable=False, status=503)
        ADMISSION_REFUSALS.labels(short.cause).inc()
        START_FAILURES.labels(failure.reason).inc()
        raise StartFailure(failure)
