"""One spawner's claim on a warm server: made before its turn, used or given back after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .pool import WarmPool
from .server import WarmServer

__all__ = ["Claim"]


class Claim:
    """What a start may take from the pool.

    Parameters
    ----------
    pool
        The pool, if there is one.
    fault
        Why no server of the pool would be as the one that is asked for; empty if it would.
    """

    def __init__(self, pool: Callable[[], WarmPool | None], fault: Callable[[], str]) -> None:
        self._pool = pool
        self._fault = fault
        self._server: WarmServer | None = None
        self._taken: list[WarmServer] = []

    def begin(self, image: str) -> bool:
        """A start begins: claim a server of the image, if one waits."""
        if pool := self._pool():
            pool.starts += 1
            pool.note_start(image)
        return self.ask(image)

    def ask(self, image: str) -> bool:
        """Claim a server of the image, if one waits and there is no claim yet."""
        pool = self._pool()
        if pool is None:
            return False
        if self._server is None:
            if fault := self._fault():
                pool.switch_off(fault)
            else:
                self._server = pool.claim(image)
        return self._server is not None

    def take(self, image: str) -> WarmServer | None:
        """The server, for good; one may have come to wait since the claim was asked for."""
        self.ask(image)
        server, self._server = self._server, None
        if server is not None:
            self._taken.append(server)
        return server

    def end(self) -> None:
        """The start has ended: let somebody else have what was not needed after all."""
        if pool := self._pool():
            if self._server is not None:
                pool.give_back(self._server)
                self._server = None
            for server in self._taken:
                pool.settled(server)
            self._taken.clear()
            pool.starts -= 1
            pool.wake()

    @contextmanager
    def making(self) -> Iterator[None]:
        """While a server is made the cold way, the pool makes none."""
        pool = self._pool()
        if pool is None:
            yield
            return
        pool.cold_starts += 1
        try:
            yield
        finally:
            pool.cold_starts -= 1
            pool.wake()
