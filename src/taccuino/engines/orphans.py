"""What no server owns is removed: after a crash of the hub, and now and then."""

from __future__ import annotations

from collections.abc import Callable, Collection

from taccuino.settings import Settings

from . import firewall
from .container import CONTAINER_LABEL, INSTANCE_LABEL
from .engine import engine_for
from .networks import bridge_prefix
from .server import instance_label

__all__ = ["reconcile"]


async def reconcile(settings: Settings, live: Callable[[], Collection[str]]) -> list[str]:
    """Remove this instance's containers, networks and bridges that no server owns; their names.

    ``live`` gives the ``object_name`` of every spawner that is active or starting. It is
    asked after the engine: a server that starts meanwhile is not taken for an orphan. Also
    puts the firewall in place again, in case somebody flushed the host's rules.

    Raises
    ------
    EngineError
        If the engine can't be asked; nothing more is removed then.
    """
    await firewall.ensure(settings)
    engine = engine_for(settings.engine)
    label = f"{INSTANCE_LABEL}={instance_label(settings)}"
    containers = await engine.containers(label)
    networks = await engine.networks(label)
    owned = set(live())
    removed = []
    for container in containers:
        name = str(container["Names"][0]).removeprefix("/")
        if name not in owned and await engine.remove(str(container["Id"])):
            removed.append(name)
    for network in networks:
        orphan = network.labels.get(CONTAINER_LABEL) not in owned
        if orphan and await engine.remove_network(network.name):
            removed.append(network.name)
    removed += await engine.remove_stray_bridges(bridge_prefix(settings.port))
    return removed
