"""What a user is told of their mounts: pure, a report in and notices out.

A notice's ``id`` stays the same while it means the same: one that was dismissed is not shown
again, and one whose numbers change is changed in place.
"""

from __future__ import annotations

import re
import zlib
from pathlib import PurePosixPath
from typing import Any

from .status_file import MountReport

__all__ = ["FROM_THE_STATUS_FILE", "notice", "storage_notices", "storage_summary"]

FROM_THE_STATUS_FILE = ("storage-", "upload-", "uploads-pending")
"""What the hub's notices on the same matters begin with: the file is fresher."""

_SHOWN_ERRORS = 4
_LISTED = 20
_SAFE = "It is safe on this machine, and the upload is tried again."
_ADVICE = (
    ("quota", "Delete what you no longer need, also earlier versions, in the storage pages."),
    ("refuses", "Save it in a directory of your own, such as cloud_storage/{user}."),
)


def notice(
    name: str, level: str, message: str, *, banner: bool = False, **more: Any
) -> dict[str, Any]:
    """As the front end gets it: a banner stays in sight, what is none is a notification."""
    level = level if level in ("info", "warning", "error") else "info"
    return {"id": name, "level": level, "message": message, "banner": banner, **more}


def storage_notices(report: MountReport) -> list[dict[str, Any]]:
    """What a mount's report means for its user."""
    found = []
    if report.away:
        fault = report.fault or "Your cloud_storage is not mounted."
        text = f"{fault} It is tried again by itself."
        if report.uploads_pending:
            text += f" {_waiting(report.uploads_pending)}"
        found.append(notice(f"storage-{_mark(fault)}", "error", text, banner=True))
    errors = report.upload_errors
    for error in errors[:_SHOWN_ERRORS]:
        text = f"Not uploaded: {_reason(error)}"
        found.append(notice(f"upload-{_mark(error)}", "error", text))
    if len(errors) > _SHOWN_ERRORS:
        text = f"{len(errors) - _SHOWN_ERRORS} more files could not be uploaded either."
        found.append(notice("upload-more", "error", text))
    for conflict in report.conflicts:
        path, copy = PurePosixPath(conflict["path"]), PurePosixPath(conflict["copy"])
        text = (
            f"{path.name} was also changed elsewhere: the other version is kept as {copy.name}."
        )
        found.append(notice(f"conflict-{_mark(str(copy))}", "warning", text, open=str(copy)))
    return found


def storage_summary(
    report: MountReport | None, usage: dict[str, Any], username: str
) -> dict[str, Any]:
    """The numbers for the status bar and the panel; ``usage`` is the hub's ``storage``."""
    quota, used = usage.get("quota_bytes"), usage.get("used_bytes")
    summary: dict[str, Any] = {
        "known": report is not None,
        "used_bytes": used if isinstance(used, int) else None,
        "quota_bytes": quota if isinstance(quota, int) and quota > 0 else None,
    }
    if report is None:
        return summary
    return summary | {
        "away": report.away,
        "fault": report.fault,
        "uploads_pending": report.uploads_pending,
        "upload_errors": [
            {"message": _reason(error), "advice": _advice(error, username)}
            for error in report.upload_errors[:_LISTED]
        ],
        "failed": len(report.upload_errors),
        "conflicts": report.conflicts[:_LISTED],
    }


def _reason(error: str) -> str:
    """The file and why, without how often it was tried: a notification has 140 characters."""
    return re.sub(r"^Not uploaded[^:]*: ", "", error)


def _advice(error: str, username: str) -> str:
    advice = next((text for sign, text in _ADVICE if sign in error), "")
    return f"{_SAFE} {advice.format(user=username)}".strip()


def _waiting(uploads: int) -> str:
    return "1 saved file waits." if uploads == 1 else f"{uploads} saved files wait."


def _mark(text: str) -> str:
    """Short, and the same for the same matter, however often it was tried."""
    return f"{zlib.crc32(_reason(text).encode()):08x}"
