"""Whether this hub can start servers: every part it needs is asked, all at once, briefly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from taccuino.errors import TaccuinoError

__all__ = ["Check", "CheckResult", "Readiness", "Report"]

LIMIT_SECONDS = 2.0
KEPT_SECONDS = 2.0
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Check:
    """One part, and how it is asked.

    ``needed`` tells what no start can do without from what makes a start poorer: with the
    object storage away, servers start without it and say so.
    """

    name: str
    probe: Callable[[], Awaitable[object]]
    needed: bool


@dataclass(frozen=True)
class CheckResult:
    """What a part answered."""

    state: Literal["ok", "failed"]
    latency_ms: float
    message: str = ""


@dataclass(frozen=True)
class Report:
    """What all parts answered."""

    ready: bool
    checks: Mapping[str, CheckResult]

    def as_json(self) -> dict[str, Any]:
        """The answer of ``GET /hub/ready``."""
        checks = {
            name: {"state": result.state, "latency_ms": round(result.latency_ms, 1)}
            | ({"message": result.message} if result.message else {})
            for name, result in self.checks.items()
        }
        return {"ready": self.ready, "checks": checks}


class Readiness:
    """Asks the parts, and keeps the answer a moment: many probes ask no more than one does."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = tuple(checks)
        self._asking: asyncio.Task[Report] | None = None
        self._asked_at = 0.0

    async def report(self) -> Report:
        """The parts' states, at most `KEPT_SECONDS` old."""
        if self._asking is None or (
            self._asking.done() and time.monotonic() - self._asked_at > KEPT_SECONDS
        ):
            self._asked_at = time.monotonic()
            self._asking = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Report:
        results = await asyncio.gather(*(_result(check) for check in self._checks))
        by_name = {
            check.name: result for check, result in zip(self._checks, results, strict=True)
        }
        ready = all(by_name[check.name].state == "ok" for check in self._checks if check.needed)
        self._asked_at = time.monotonic()
        return Report(ready, by_name)


async def _result(check: Check) -> CheckResult:
    began = time.perf_counter()
    message = ""
    try:
        await asyncio.wait_for(check.probe(), LIMIT_SECONDS)
    except TimeoutError:
        message = f"no answer within {LIMIT_SECONDS:g} s"
    except TaccuinoError as error:
        message = " ".join(str(error).split())[:_LONGEST_MESSAGE]
    except Exception as error:  # noqa: BLE001 - any fault of a part is its state
        # Its text is not ours, and may hold an address with a password.
        message = f"{type(error).__name__}; see the hub's log"
    latency = 1000 * (time.perf_counter() - began)
    return CheckResult("failed" if message else "ok", latency, message)
