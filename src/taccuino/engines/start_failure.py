"""A failure in the shape in which JupyterHub tells it."""

from __future__ import annotations

from jupyterhub.spawner import SpawnException

from .failures import Failure

__all__ = ["StartFailure"]


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
