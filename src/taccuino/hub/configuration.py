"""Fill JupyterHub's configuration from the settings: the one place where all is joined."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taccuino.settings import Settings

from .options import ServerOptions
from .secret_files import secret

__all__ = ["configure"]

_HERE = Path(__file__).parent
_DEFAULT_PORT = 8081  # JupyterHub's own

CUSTOM_SCOPES = {
    "custom:taccuino:tokens": {
        "description": "Ask for fresh access tokens and storage credentials of one's own",
    },
    "custom:taccuino:credentials": {
        "description": "Ask for the storage credentials of every user",
    },
    "custom:taccuino:culling": {
        "description": "Ask whether a notebook server is in use",
    },
}


def configure(c: Any, settings: Settings) -> None:
    """Make ``c``, the configuration object of a ``jupyterhub_config.py``, run this service.

    What an operator's own file sets after this call wins.

    Raises
    ------
    SettingsError
        If a secret's file can't be used.
    """
    _configure_hub(c, settings)
    _configure_lifetimes(c, settings)
    _configure_access(c, settings)
    _configure_options(c, settings)
    _configure_culling(c, settings)
    _configure_pages(c, settings)
    _configure_parts(c, settings)


def _configure_hub(c: Any, settings: Settings) -> None:
    """Addresses, database, secrets and logs."""
    secrets = settings.state_dir / "secrets"
    (settings.state_dir / "hub").mkdir(mode=0o700, parents=True, exist_ok=True)
    hub = c.JupyterHub
    hub.bind_url = f"http://:{settings.port}/"
    hub.public_url = f"{settings.url}/"
    hub.hub_bind_url = f"http://127.0.0.1:{settings.hub.port or _DEFAULT_PORT}"
    hub.db_url = settings.hub.database_url
    secret(secrets / "hub-cookie-secret")
    hub.cookie_secret_file = str(secrets / "hub-cookie-secret")
    c.CryptKeeper.keys = [secret(secrets / "hub-crypt-key")]
    hub.log_level = settings.hub.log_level
    hub.authenticate_prometheus = not settings.hub.metrics_public


def _configure_lifetimes(c: Any, settings: Settings) -> None:
    """What outlives the hub, and how long JupyterHub waits for it."""
    hub = c.JupyterHub
    # Servers and routes live on while the hub restarts.
    hub.cleanup_servers = False
    hub.cleanup_proxy = False
    # The hub answers after a second at most; servers are looked at in the background, and one
    # that can't be reached is given ten minutes before it counts as gone: plain JupyterHub
    # removes healthy servers when it restarts during a short fault of the network. A start does
    # not wait this long: our spawner returns once the server answers.
    hub.init_spawners_timeout = 1
    c.Spawner.http_timeout = 600
    engine = settings.engine
    c.Spawner.start_timeout = int(engine.start_timeout) * engine.start_attempts
    # Starts are cheap: waiting in line costs more (475 of 500 starts answered 429 with the
    # default limit of 100).
    hub.concurrent_spawn_limit = 0
    c.Spawner.consecutive_failure_limit = 0
    hub.allow_named_servers = False
    hub.redirect_to_server = True
    hub.shutdown_on_logout = False


def _configure_access(c: Any, settings: Settings) -> None:
    """Scopes and roles of the users, their servers and the mount plane."""
    hub = c.JupyterHub
    hub.custom_scopes = CUSTOM_SCOPES
    hub.services = [
        {
            "name": "mount-plane",
            "api_token": secret(settings.state_dir / "secrets/mount-plane-token"),
            "display": False,
        }
    ]
    hub.load_roles = [
        {"name": "user", "scopes": ["self", "custom:taccuino:tokens"]},
        {
            "name": "mount-plane",
            "description": "Fetches users' storage credentials for their mounts",
            "scopes": ["custom:taccuino:credentials"],
            "services": ["mount-plane"],
        },
    ]
    c.Spawner.server_token_scopes = [
        "users:activity!user",
        "access:servers!server",
        "custom:taccuino:tokens",
    ]


def _configure_options(c: Any, settings: Settings) -> None:
    """The server options, for the form and the REST API alike."""
    options = ServerOptions(settings)
    c.Spawner.options_form = options.form
    c.Spawner.options_from_form = options.from_form
    c.Spawner.apply_user_options = options.apply


def _configure_culling(c: Any, settings: Settings) -> None:
    """The idle culler, as a service that the hub runs."""
    culling = settings.culling
    if not culling.enabled:
        return
    c.JupyterHub.services.append(
        {
            "name": "idle-culler",
            "command": [
                sys.executable,
                "-m",
                "jupyterhub_idle_culler",
                f"--config={_HERE / 'idle_culler_config.py'}",
                f"--timeout={culling.idle_seconds}",
                f"--cull-every={culling.every_seconds}",
                f"--max-age={culling.max_age_seconds}",
            ],
            "display": False,
        }
    )
    c.JupyterHub.load_roles.append(
        {
            "name": "idle-culler",
            "description": "Stops idle notebook servers",
            "scopes": [
                "list:users",
                "read:users:activity",
                "read:servers",
                "delete:servers",
                "custom:taccuino:culling",
            ],
            "services": ["idle-culler"],
        }
    )


def _configure_pages(c: Any, settings: Settings) -> None:
    """Templates, static files and security headers."""
    hub = c.JupyterHub
    own = [*settings.hub.templates, _HERE / "templates"]
    hub.template_paths = [str(path) for path in own]
    hub.template_vars = {
        "service_name": settings.name,
        "iam_name": settings.iam.display_name,
        "registration_url": settings.iam.registration_url,
        "announcement": settings.hub.announcement,
    }
    hub.logo_file = str(_HERE / "static/logo.svg")
    hub.tornado_settings = {"headers": _headers(settings)}


def _headers(settings: Settings) -> dict[str, str]:
    """Security headers of every answer of the hub.

    ``unsafe-inline`` is what JupyterHub's own pages (admin, token) still need.
    """
    policy = {
        "default-src": "'self'",
        "script-src": "'self' 'unsafe-inline'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    if settings.edge.certificate:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def _configure_parts(c: Any, settings: Settings) -> None:
    """The other rooms."""
    for name in ("iam", "edge", "engines"):
        if part := _configure_of(name):
            part(c, settings)


def _configure_of(name: str) -> Callable[[Any, Settings], None] | None:
    try:
        module = __import__(f"taccuino.{name}", fromlist=["configure"])
        function: Callable[[Any, Settings], None] = module.configure
    except (ImportError, AttributeError):
        return None
    return function
