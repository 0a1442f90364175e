"""What ``taccuino status`` tells: a dictionary with a fixed shape, for people and programs."""

from __future__ import annotations

from typing import Any

from taccuino.settings import Settings

from .probe import http_status
from .resolve import as_resolved
from .secret_files import read_accounts
from .services import service_names
from .sites import sites_of
from .supervision import ServiceState, Supervision

__all__ = ["compose", "status"]


def status(settings: Settings) -> dict[str, Any]:
    """Ask for the state of the instance; it need not run."""
    states = Supervision(settings.state_dir).states()
    # Those of an earlier embedded IAM are no accounts of the one that is named now.
    accounts = read_accounts(settings.state_dir) if settings.embedded_iam else []
    if settings.local.sites:
        return compose(settings, states, accounts, sites=_sites(settings))
    runs = any(state.name == "hub" and state.state == "running" for state in states)
    ready = runs and http_status(settings, "/hub/ready") == 200
    return compose(settings, states, accounts, ready=ready)


def compose(
    settings: Settings,
    states: list[ServiceState],
    accounts: list[dict[str, object]],
    *,
    ready: bool = False,
    sites: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The status, from what was asked.

    Parameters
    ----------
    settings
        The settings, resolved if the instance was ever up.
    states
        What the supervisor says; a service it does not know is stopped.
    accounts
        The demo accounts, as far as the caller may read them.
    ready
        Whether the service can be used.
    sites
        What was composed of each site on this machine, if there are several: with one that is
        ready the service can be used.
    """
    known = {state.name: state for state in states}
    names = service_names(settings)
    found = [known.get(name) or ServiceState(name, "stopped", None) for name in names]
    services = [{"name": one.name, "state": one.state, "pid": one.pid} for one in found]
    own = [{"name": settings.site, "url": settings.edge_url, "ready": ready}]
    for site in sites or []:
        (one,) = site["sites"]
        services += [
            {**service, "name": f"{one['name']}/{service['name']}"}
            for service in site["services"]
        ]
    places = own if sites is None else [one for site in sites for one in site["sites"]]
    return {
        "url": settings.url,
        "ready": any(place["ready"] for place in places),
        "state_dir": str(settings.state_dir),
        "sites": places,
        "services": services,
        "accounts": accounts,
        "s3": {"endpoint": settings.storage.endpoint, "region": settings.storage.region},
        "iam": {"issuer": settings.iam.issuer},
    }


def _sites(shared: Settings) -> list[dict[str, Any]]:
    """What is said of each site; one that was never up has no services that run."""
    return [status(as_resolved(site)) for site in sites_of(shared)]
