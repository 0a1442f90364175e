"""Work that must not be left half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["completed"]

T = TypeVar("T")


async def completed(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end, also when cancelled; only then is that raised.

    A thread goes on when nobody waits for it any more: what it does would happen while others
    believe that it was given up.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    raise cancelled from (None if task.cancelled() else task.exception())
