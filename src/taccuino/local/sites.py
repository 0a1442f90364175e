"""Several sites on one machine, as data centres would be: each an instance of its own.

What they share is the IAM, the object storage and the address, which an instance without a hub
serves: its edge passes requests on to the sites' edges, as a load balancer would. Each site
lies in ``<state_dir>/sites/<name>`` and is brought up by the same ``taccuino up`` as a lone
one, from a settings file that is made here; with ``local.namespaces``, in a network namespace
of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from taccuino.errors import ServiceError
from taccuino.settings import PeerSettings, Settings

from .namespaces import SiteNetwork, ensure_networks, remove_networks
from .resolve import resolved_file
from .secret_files import sites_secret

__all__ = ["down_sites", "site_of", "sites_of", "up_sites", "upgrade_sites"]

_PORTS_OF_A_SITE = 10
_UIDS_OF_A_SITE = 1_000_000_000
_UP_SECONDS = 3600.0
"""A base image may take long to make; all else has limits of its own."""
_DOWN_SECONDS = 600.0

Report = Callable[[str], None]


def sites_of(shared: Settings) -> list[Settings]:
    """The settings of each site, as its ``up`` takes them: not resolved yet."""
    return [site_of(shared, name) for name in shared.local.sites]


def site_of(shared: Settings, name: str) -> Settings:
    """The settings of one site.

    Parameters
    ----------
    shared
        The resolved settings of the instance that has what the sites share.
    """
    names = shared.local.sites
    index = names.index(name)
    data = shared.model_dump()
    edge, local = data["edge"], data["local"]
    data |= {
        "site": name,
        "state_dir": _state_dir(shared, name),
        "host": _host(shared, index),
        "port": _port(shared, index),
        "address": shared.url,
        "peers": [
            PeerSettings(name=other, url=_edge_url(shared, names.index(other))).model_dump()
            for other in names
            if other != name
        ],
    }
    data["sites"]["secret_file"] = sites_secret(shared.state_dir)
    for key in ("admin_socket", "routes_file", "peers_file"):
        edge[key] = None
    edge["proxy_port"] = _port(shared, index) + 1
    if shared.local.namespaces:
        edge["proxy_networks"] = [SiteNetwork(shared.port).shared]
    for key in ("socket", "network_pool"):
        data["engine"][key] = None
    data["engine"]["uid_base"] += index * _UIDS_OF_A_SITE
    for key in ("socket", "directory", "cache_directory"):
        data["mount_plane"][key] = None
    data["workarea"]["directory"] = None
    data["hub"] |= {"port": None, "database_url": None}
    # The IAM and the object storage are elsewhere, as seen from the site.
    data["local"] = {
        "iam_token_seconds": local["iam_token_seconds"],
        "storage_size": local["storage_size"],
    }
    return Settings.parse(data, f"the settings of the site {name}")


def up_sites(shared: Settings, report: Report, *, image: bool = True) -> None:
    """Bring each site up, one after the other: the first one makes the base image for all.

    Raises
    ------
    ServiceError
        If a site can't be brought up.
    """
    if shared.local.namespaces:
        ensure_networks(SiteNetwork(shared.port), len(shared.local.sites))
    _each(shared, ["up"] if image else ["up", "--no-image"], report)


def upgrade_sites(shared: Settings, report: Report) -> None:
    """Upgrade each site, one after the other, so that the others serve meanwhile.

    Raises
    ------
    ServiceError
        If one does not work afterwards; the sites after it are left as they are.
    """
    _each(shared, ["upgrade"], report)


def _each(shared: Settings, arguments: list[str], report: Report) -> None:
    for site in sites_of(shared):
        file = _settings_file(shared, site.site)
        file.parent.mkdir(parents=True, exist_ok=True)
        site.save(file)
        _run(shared, site.site, arguments, report, _UP_SECONDS)


def down_sites(shared: Settings, report: Report) -> None:
    """Stop each site; what of it does not run is no error.

    Raises
    ------
    ServiceError
        If a site can't be stopped.
    """
    names = shared.local.sites
    if shared.local.namespaces:
        # Each is stopped in its own, which a `down` before this, or a reboot, took away.
        ensure_networks(SiteNetwork(shared.port), len(names))
    for name in names:
        if resolved_file(_state_dir(shared, name)).is_file():
            _run(shared, name, ["down"], report, _DOWN_SECONDS)
    if shared.local.namespaces:
        remove_networks(SiteNetwork(shared.port), len(names))


def _run(
    shared: Settings, name: str, arguments: list[str], report: Report, seconds: float
) -> None:
    """Run ``taccuino`` for one site, and pass on what it says.

    Raises
    ------
    ServiceError
        If it fails, or goes on for longer than ``seconds``: it is killed then.
    """
    command = [sys.executable, "-m", "taccuino.cli", *arguments]
    if shared.local.namespaces:
        index = shared.local.sites.index(name)
        command = [*SiteNetwork(shared.port).enter(index), *command]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("TACCUINO_")
    }
    process = subprocess.Popen(
        command,
        env=environment | {"TACCUINO_SETTINGS": str(_settings_file(shared, name))},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    assert process.stdout is not None
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        process.kill()

    limit = threading.Timer(seconds, end)
    limit.start()
    try:
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith("  "):  # a line of progress, not the panel of the end
                report(f"{name}: {line.strip()}")
        failed = process.wait() != 0
    finally:
        limit.cancel()
    if failed:
        how = f"took longer than {seconds:.0f} s" if overdue.is_set() else "failed"
        raise ServiceError(f"site {name}: `taccuino {arguments[0]}` {how}:\n" + "\n".join(said))


def _state_dir(shared: Settings, name: str) -> Path:
    return shared.state_dir / "sites" / name


def _settings_file(shared: Settings, name: str) -> Path:
    return shared.state_dir / "sites" / f"{name}.json"


def _host(shared: Settings, index: int) -> str:
    if shared.local.namespaces:
        return SiteNetwork(shared.port).address(index)
    return shared.host


def _port(shared: Settings, index: int) -> int:
    if shared.local.namespaces:
        return shared.port
    return shared.port + _PORTS_OF_A_SITE * (index + 1)


def _edge_url(shared: Settings, index: int) -> str:
    scheme = "https" if shared.edge.certificate else "http"
    return f"{scheme}://{_host(shared, index)}:{_port(shared, index)}"
