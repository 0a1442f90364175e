"""What this site knows of its peers: asked all the time, and remembered when one is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from taccuino.errors import TaccuinoError
from taccuino.private_files import write_private
from taccuino.settings import PeerSettings

from .placement import Place
from .state import ServerState, SiteState

__all__ = ["Ask", "Elsewhere", "Peer", "PeerError", "Peers"]

log = logging.getLogger(__name__)

_States = TypeAdapter(list[SiteState])
_WAIT_SECONDS = 2.0
"""How long a peer waits for something new before it answers that there is nothing."""
_PAUSE_SECONDS = 1.0


class PeerError(TaccuinoError):
    """A peer could not be asked, or answered what can't be understood."""


Ask = Callable[[PeerSettings, str, float], Awaitable[bytes | None]]
"""Asks a peer for its state, given the version that is known and how many seconds it may wait
for another; JSON, or None if nothing changed. Raises `PeerError`."""
Tell = Callable[[dict[str, str]], Awaitable[None]]
"""Takes the routes of all peers, by the path, with the site's name."""


@dataclass
class Peer:
    """One peer, as it was known last."""

    settings: PeerSettings
    state: SiteState | None = None
    reachable: bool = False
    changed_at: float = field(default_factory=time.time)
    """When it was last seen to come or go, in seconds since the epoch."""

    @property
    def name(self) -> str:
        """Its site's name."""
        return self.settings.name

    @property
    def takes_servers(self) -> bool:
        """Whether new servers may be started there, as far as is known."""
        state = self.state
        return bool(self.reachable and state and state.ready and not state.maintenance)


@dataclass(frozen=True)
class Elsewhere:
    """A user's server at a peer, as it was told last."""

    site: str
    reachable: bool
    """Whether the peer can be asked now; if not, nobody knows whether the server runs."""
    since: float
    """When the peer was last seen to come or go, in seconds since the epoch."""
    server: ServerState


class Peers:
    """Asks every peer for its state and waits for the next, for as long as `run` runs.

    Parameters
    ----------
    peers
        The peers.
    ask
        How one is asked.
    tell
        Called with everybody's routes when they changed: puts them into the edge's map. The
        routes of a peer that is away stay: only the edge knows whether it can be reached.
    kept
        Where what was told last is kept, so that a hub that restarts knows it too.
    """

    def __init__(
        self, peers: Sequence[PeerSettings], ask: Ask, tell: Tell, kept: Path | None = None
    ) -> None:
        self.peers = {peer.name: Peer(peer) for peer in peers}
        self._ask = ask
        self._tell = tell
        self._kept = kept
        if peers:
            self._remember()
        self._telling = asyncio.Lock()

    def _remember(self) -> None:
        """Take what was told to the hub before this one; anything else is asked for anyway."""
        try:
            known = _States.validate_json(self._kept.read_bytes() if self._kept else b"[]")
        except (OSError, ValidationError):
            return
        for state in known:
            if state.site in self.peers:
                self.peers[state.site].state = state

    def _keep(self) -> None:
        if self._kept:
            states = [peer.state for peer in self.peers.values() if peer.state]
            write_private(self._kept, _States.dump_json(states).decode())

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            for peer in self.peers.values():
                group.create_task(self._follow(peer))

    def servers_of(self, username: str) -> list[Elsewhere]:
        """The user's servers at peers, the newest first; also at those that are away."""
        found = [
            Elsewhere(peer.name, peer.reachable, peer.changed_at, server)
            for peer in self.peers.values()
            for server in (peer.state.servers if peer.state else ())
            if server.user == username
        ]
        return sorted(found, key=lambda one: one.server.started, reverse=True)

    def places(self) -> list[Place]:
        """The peers that take new servers."""
        return [
            Place(peer.name, peer.settings.weight)
            for peer in self.peers.values()
            if peer.takes_servers
        ]

    async def _follow(self, peer: Peer) -> None:
        logged = ""
        while True:
            try:
                await self._look(peer)
                continue
            except TaccuinoError as error:
                why = str(error)
            except Exception as error:
                why = repr(error)
                if why != logged:  # each once: it is asked again every second
                    log.exception("The site %s can't be followed", peer.name)
                    logged = why
            self._seen(peer, reachable=False, why=why)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self, peer: Peer) -> None:
        # Whoever was away is asked what is, not what is new.
        version = peer.state.version if peer.state and peer.reachable else ""
        answer = await self._ask(peer.settings, version, _WAIT_SECONDS)
        if answer is not None:
            try:
                state = SiteState.model_validate_json(answer)
            except ValidationError as error:
                raise PeerError(f"{peer.name}: its state is not understood: {error}") from error
            if state.site != peer.name:
                raise PeerError(f"{peer.settings.url} is the site {state.site}")
            peer.state = state
            async with self._telling:
                await self._tell(self._routes())
            try:
                await asyncio.to_thread(self._keep)
            except OSError as error:  # a full disk: it is known all the same
                log.warning("What %s told could not be kept: %s", peer.name, error)
        self._seen(peer, reachable=True)

    def _routes(self) -> dict[str, str]:
        """The newest server's site for each path."""
        servers = [
            (server.started, server.route, peer.name)
            for peer in self.peers.values()
            for server in (peer.state.servers if peer.state else ())
        ]
        return {route: name for _, route, name in sorted(servers)}

    def _seen(self, peer: Peer, *, reachable: bool, why: str = "") -> None:
        if peer.reachable == reachable:
            return
        peer.reachable, peer.changed_at = reachable, time.time()
        if reachable:
            log.info("The site %s can be reached", peer.name)
        else:
            log.warning("The site %s can't be reached: %s", peer.name, why)
