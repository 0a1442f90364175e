"""What ``taccuino status`` tells: a dictionary with a fixed shape, for people and programs."""

from __future__ import annotations

from typing import Any

from taccuino.settings import Settings

from .probe import http_status
from .secret_files import read_accounts
from .services import service_names
from .supervision import ServiceState, Supervision

__all__ = ["compose", "status"]


def status(settings: Settings) -> dict[str, Any]:
    """Ask for the state of the instance; it need not run."""
    states = Supervision(settings.state_dir).states()
    runs = any(state.name == "hub" and state.state == "running" for state in states)
    ready = runs and http_status(settings, "/hub/ready") == 200
    # Those of an earlier embedded IAM are no accounts of the one that is named now.
    accounts = read_accounts(settings.state_dir) if settings.embedded_iam else []
    return compose(settings, states, accounts, ready=ready)


def compose(
    settings: Settings,
    states: list[ServiceState],
    accounts: list[dict[str, object]],
    *,
    ready: bool,
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
    """
    known = {state.name: state for state in states}
    services = [
        known.get(name) or ServiceState(name, "stopped", None)
        for name in service_names(settings)
    ]
    return {
        "url": settings.url,
        "ready": ready,
        "state_dir": str(settings.state_dir),
        "sites": [{"name": settings.site, "url": settings.url, "ready": ready}],
        "services": [{"name": s.name, "state": s.state, "pid": s.pid} for s in services],
        "accounts": accounts,
        "s3": {"endpoint": settings.storage.endpoint, "region": settings.storage.region},
        "iam": {"issuer": settings.iam.issuer},
    }
