"""Whether new servers may start: a note that an upgrade leaves for the hub, which reads it.

It says until when it holds, so that an upgrade that was killed keeps nobody out for long.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from .private_files import write_private

__all__ = ["Drain", "drain", "draining", "end_drain"]


@dataclass(frozen=True)
class Drain:
    """No new servers, for so many seconds at most, and why, in a sentence for users."""

    message: str
    seconds: float


def drain(state_dir: Path, wanted: Drain) -> None:
    """Have the instance's hub refuse starts; what starts already goes on."""
    until = time.time() + wanted.seconds
    write_private(_file(state_dir), json.dumps({"message": wanted.message, "until": until}))


def end_drain(state_dir: Path) -> None:
    """Let servers start again; idempotent."""
    _file(state_dir).unlink(missing_ok=True)


def draining(state_dir: Path) -> Drain | None:
    """What keeps new servers out at this moment, if anything does."""
    try:
        note = json.loads(_file(state_dir).read_text(encoding="utf-8"))
        left = float(note["until"]) - time.time()
        message = str(note["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Drain(message, left) if left > 0 else None


def _file(state_dir: Path) -> Path:
    return state_dir / "hub/draining.json"
