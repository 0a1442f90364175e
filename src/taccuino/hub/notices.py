"""What a user is told inside their notebook server: storage, memory, idleness, a failure.

Pure: facts in, notices out. A notice's ``id`` stays the same while it means the same, so that a
notice that was dismissed is not shown again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from taccuino.settings import CullingSettings
from taccuino.storage.admin_ops import BucketUsage
from taccuino.storage.snapshots import SnapshotState

__all__ = ["Notice", "ServerFacts", "notices", "seconds_until_culled"]

_RECENT_FAILURE_SECONDS = 24 * 3600
_NEARLY_FULL = 0.9
_FULL = 0.99
_UPLOADS_WORTH_TELLING = 100  # files; fewer are uploaded within seconds


@dataclass(frozen=True)
class Notice:
    """One thing to tell."""

    id: str
    level: Literal["info", "warning", "error"]
    message: str

    def as_json(self) -> dict[str, str]:
        """As the API answers it."""
        return asdict(self)


@dataclass(frozen=True)
class ServerFacts:
    """What is known of a running server; times in seconds since the epoch."""

    now: float
    started: float
    last_activity: float
    busy: bool | None = None
    """Whether a kernel runs; ``None`` if the server could not be asked."""
    fault: str | None = None
    """What the mount plane says is wrong, in sentences for the user."""
    upload_errors: Sequence[str] = ()
    uploads_pending: int = 0
    last_failure: Mapping[str, Any] | None = field(default=None)
    """Why the server before this one ended: ``message`` and ``at``."""
    usage: BucketUsage | None = None
    """How full the user's bucket is, where that is known."""
    snapshots: SnapshotState | None = None
    """How the snapshots of the user's workarea are, where that is known."""
    told: Sequence[Notice] = ()
    """What the spawner has to say, such as that a process was ended for want of memory."""


def seconds_until_culled(
    culling: CullingSettings,
    *,
    now: float,
    started: float,
    last_activity: float,
    busy: bool | None,
) -> float | None:
    """When the server will be stopped, if nothing happens in it; ``None`` is never."""
    if not culling.enabled:
        return None
    ends = []
    # A server that can't be asked might be busy, and is left alone as well.
    if culling.cull_busy or busy is False:
        ends.append(last_activity + culling.idle_seconds)
    if culling.max_age_seconds:
        ends.append(started + culling.max_age_seconds)
    return min(ends) - now if ends else None


def notices(facts: ServerFacts, culling: CullingSettings) -> list[Notice]:
    """What to tell the user of a server, the gravest first."""
    found = [
        *_uploads(facts),
        *_storage(facts),
        *_quota(facts.usage),
        *_snapshots(facts.snapshots),
        *facts.told,
        *_stopping(facts, culling),
        *_failure(facts),
    ]
    order = ("error", "warning", "info")
    return sorted(found, key=lambda notice: order.index(notice.level))


def _stopping(facts: ServerFacts, culling: CullingSettings) -> list[Notice]:
    left = seconds_until_culled(
        culling,
        now=facts.now,
        started=facts.started,
        last_activity=facts.last_activity,
        busy=facts.busy,
    )
    if left is None or left > culling.warn_seconds:
        return []
    when = _duration(left)
    idle_ends = facts.last_activity + culling.idle_seconds
    if culling.max_age_seconds and facts.started + culling.max_age_seconds <= idle_ends:
        text = f"This server has run for its longest time and stops {when}. Save your work."
        return [Notice(f"age-{facts.started:.0f}", "warning", text)]
    text = f"This server is idle and stops {when}. Whatever you do in it keeps it running."
    return [Notice(f"idle-{facts.last_activity:.0f}", "warning", text)]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "within a minute"
    return "in 1 minute" if minutes == 1 else f"in {minutes} minutes"


def _uploads(facts: ServerFacts) -> list[Notice]:
    found = []
    if facts.upload_errors:
        more = len(facts.upload_errors) - 1
        text = (
            f"Not uploaded to the object storage: {facts.upload_errors[0]}"
            + (f" (and {more} more)" if more else "")
            + ". The file is safe on this machine, and the upload is tried again."
        )
        found.append(Notice(f"upload-{_mark(*facts.upload_errors)}", "error", text))
    if facts.uploads_pending >= _UPLOADS_WORTH_TELLING:
        text = f"{facts.uploads_pending} files are being uploaded to the object storage."
        found.append(Notice("uploads-pending", "info", text))
    return found


def _storage(facts: ServerFacts) -> list[Notice]:
    if not facts.fault:
        return []
    text = f"{facts.fault} It is tried again by itself; your server need not be restarted."
    return [Notice(f"storage-{_mark(facts.fault)}", "error", text)]


def _quota(usage: BucketUsage | None) -> list[Notice]:
    """A bucket that is nearly full; the last hundredth is too little for most files."""
    if not usage or not usage.quota_bytes:
        return []
    full = usage.bytes / usage.quota_bytes
    if full < _NEARLY_FULL:
        return []
    text = (
        f"Your bucket is {full:.0%} full ({_size(usage.bytes)} of {_size(usage.quota_bytes)})."
        + (" What does not fit is not uploaded." if full >= _FULL else "")
        + " Delete what you do not need any more, and earlier versions of files, which count"
        " too: the storage pages free them."
    )
    if full >= _FULL:
        return [Notice("quota-full", "error", text)]
    return [Notice("quota-nearly-full", "warning", text)]


def _snapshots(state: SnapshotState | None) -> list[Notice]:
    """What was restored where, and that no snapshot can be made."""
    if state is None:
        return []
    found = [Notice(f"snapshots-{_mark(text)}", "warning", text) for text in state.notices]
    if state.fault:
        text = f"No snapshot of your workarea can be made. {state.fault} It is tried again."
        found.append(Notice(f"snapshots-{_mark(state.fault)}", "warning", text))
    return found


def _size(number: int) -> str:
    """A size for people: ``184 GiB``, ``1.5 GiB``."""
    size, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"


def _failure(facts: ServerFacts) -> list[Notice]:
    failure = facts.last_failure or {}
    at, message = failure.get("at", 0), failure.get("message")
    if not message or facts.now - at > _RECENT_FAILURE_SECONDS:
        return []
    return [Notice(f"failure-{at:.0f}", "info", f"Your last server: {message}")]


def _mark(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
