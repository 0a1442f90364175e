"""Why a start failed, or a server died, in words for its user.

``explain_failure`` is pure: evidence in, a ``Failure`` out. The evidence is gathered before
the container is removed, since it is gone with it.
"""

from __future__ import annotations

import html
import re
import time
from dataclasses import dataclass
from typing import Any

from taccuino.errors import TaccuinoError
from taccuino.settings import format_size

from .errors import (
    EngineError,
    EngineUnreachableError,
    FirewallError,
    ImageMissingError,
    NetworkPoolExhaustedError,
    ServerFailedError,
    StartStalledError,
    StorageUnavailableError,
)

__all__ = ["Evidence", "Failure", "clean_log", "explain_failure", "memory_notice"]

_ASK = "Please tell the operators of this service."
_AGAIN = "Please try again in a minute; tell the operators if it happens again."

_LOG_LINES = 12
_LINE_LENGTH = 200
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_SECRETS = re.compile(r"((?:token|secret|password)\"?[=:]\s*\"?)[^\s&\"',;]{4,}", re.IGNORECASE)


@dataclass(frozen=True)
class Evidence:
    """What is known of a start that failed or a server that died."""

    error: BaseException | None = None
    """What the start raised; none where a running server died."""
    image: str = ""
    memory: int = 0
    """The server's limit in bytes."""
    phase: str = ""
    """What was being done, such as ``Creating your container``."""
    exit_code: int | None = None
    """The container's, where it ended."""
    oom_kills: int = 0
    log: str = ""
    """The last of what the container wrote."""
    was_ready: bool = False


@dataclass(frozen=True)
class Failure:
    """A failure that can be told."""

    reason: str
    """A short name, for metrics and tests."""
    message: str
    """Sentences for the user."""
    retryable: bool
    """Whether trying the same again can help."""
    log: str = ""
    """The last lines of the server's own log, cleaned."""
    status: int = 500
    """The HTTP status of a request that waits for the start."""
    exit_code: int | None = None
    """The container's, where it ended."""

    @property
    def html(self) -> str:
        """The message for a page, escaped, with the log's lines below it."""
        text = html.escape(self.message)
        if self.log:
            text += f'<pre class="taccuino-log">{html.escape(self.log)}</pre>'
        return text

    def as_state(self) -> dict[str, Any]:
        """What is kept with the server and shown on the home page."""
        return {"reason": self.reason, "message": self.message, "at": time.time()}


def explain_failure(evidence: Evidence) -> Failure:
    """What went wrong, from the surest sign to the weakest."""
    error = evidence.error
    if evidence.oom_kills and evidence.exit_code is not None:
        return _out_of_memory(evidence)
    if isinstance(error, ServerFailedError):
        return Failure(
            "server_failed",
            f"The notebook server could not start: {error}",
            retryable=True,
            log=clean_log(evidence.log),
            exit_code=evidence.exit_code,
        )
    if evidence.exit_code is not None:
        return _exited(evidence)
    if evidence.was_ready:
        return Failure(
            "gone",
            "Your server is gone: the machine or its engine was started again, or somebody "
            "removed it.",
            retryable=False,
        )
    if isinstance(error, StorageUnavailableError):
        return Failure(
            "storage_unreachable",
            f"Your storage can't be reached, so the server was not started: {error} {_AGAIN}",
            retryable=True,
            status=503,
        )
    if isinstance(error, EngineError):
        return _engine(error, evidence)
    if isinstance(error, StartStalledError):
        return Failure(
            "timeout",
            f"The start made no progress for too long and was given up while it was at "
            f'"{evidence.phase}". {_AGAIN}',
            retryable=True,
            log=clean_log(evidence.log),
            status=504,
        )
    if isinstance(error, TaccuinoError):
        return Failure("error", str(error), retryable=False)
    return Failure(
        "internal",
        f'An unforeseen error ended the start while it was at "{evidence.phase}". '
        f"It is in the hub's log. {_ASK}",
        retryable=False,
    )


def memory_notice(kills: int) -> dict[str, str]:
    """A notice that processes of a server which goes on were ended for want of memory."""
    what = "A process" if kills == 1 else f"{kills} processes"
    return {
        "id": f"oom-{kills}",
        "level": "warning",
        "message": f"{what} of your server, such as a notebook's kernel, needed more than the "
        "server's memory and was ended. Choose more memory, or work on less data at once.",
    }


def clean_log(text: str) -> str:
    """The last lines of a log, without control characters and secrets, each of them short."""
    lines = [_ESCAPES.sub("", line).rstrip() for line in text.splitlines()]
    lines = [_SECRETS.sub(r"\1[hidden]", line) for line in lines if line]
    return "\n".join(
        line if len(line) <= _LINE_LENGTH else f"{line[: _LINE_LENGTH - 1]}…"
        for line in lines[-_LOG_LINES:]
    )


def _out_of_memory(evidence: Evidence) -> Failure:
    size = format_size(evidence.memory)
    when = "was stopped" if evidence.was_ready else "could not start"
    return Failure(
        "out_of_memory",
        f"Your server {when} because it used more than its {size} of memory. "
        "Choose more memory, or work on less data at once.",
        retryable=False,
        log=clean_log(evidence.log),
        exit_code=evidence.exit_code,
    )


_SIGNALS = {134: "aborted", 137: "was killed", 139: "crashed", 143: "was asked to stop"}
_UNUSABLE = {126: "is not a program", 127: "is not in the image"}


def _exited(evidence: Evidence) -> Failure:
    """A container that ended by itself, by its exit code."""
    code, log = evidence.exit_code, clean_log(evidence.log)
    assert code is not None
    if code in _UNUSABLE:
        return Failure(
            "image_unusable",
            f"The image {evidence.image} can't be used as a notebook server: what it should "
            f"start {_UNUSABLE[code]}. Choose another image, or ask who made it.",
            retryable=False,
            log=log,
            exit_code=code,
        )
    how = f"{_SIGNALS[code]} (code {code})" if code in _SIGNALS else f"ended with code {code}"
    if evidence.was_ready:
        message = f"Your server {how}."
    else:
        message = f"The notebook server {how} while it was starting."
    return Failure("exited", message, retryable=not evidence.was_ready, log=log, exit_code=code)


_NO_PROGRAM = (
    *("executable file", "no command", "command that was not"),
    "unable to start container process: exec:",  # runc 1.1, as Docker hands it on
)


def _engine(error: EngineError, evidence: Evidence) -> Failure:
    """What the engine refused."""
    words = str(error).lower()
    if isinstance(error, ImageMissingError):
        return Failure(
            "image_missing",
            f"The image {evidence.image} is not on this machine. Choose another one. {_ASK}",
            retryable=False,
        )
    if isinstance(error, NetworkPoolExhaustedError):
        return Failure(
            "networks_exhausted",
            f"No network is left for another server on this machine. {_AGAIN}",
            retryable=False,
            status=503,
        )
    if isinstance(error, FirewallError):
        return Failure(
            "firewall",
            f"The rules that keep servers apart can't be set, so none is started. {_ASK}",
            retryable=False,
        )
    if isinstance(error, EngineUnreachableError):
        return Failure(
            "engine_unreachable",
            f"What runs the notebook servers does not answer. {_AGAIN}",
            retryable=True,
            status=503,
        )
    if "no space left" in words or "disk quota exceeded" in words:
        return Failure(
            "disk_full",
            f"The disk of the machine that runs the notebook servers is full. {_ASK}",
            retryable=False,
            status=503,
        )
    if any(sign in words for sign in _NO_PROGRAM):
        return Failure(
            "image_unusable",
            f"The image {evidence.image} can't be used as a notebook server: what it should "
            "start is not in the image. Choose another image, or ask who made it.",
            retryable=False,
        )
    return Failure(
        "engine_error",
        f"The container could not be made or started. {_AGAIN}",
        retryable=True,
    )
