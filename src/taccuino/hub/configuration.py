"""Fill JupyterHub's configuration from the settings: the one place where all is joined."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from pathlib import Path
from typing import Any

from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from sqlalchemy import text

from taccuino import edge, engines, iam
from taccuino.edge import check as check_edge
from taccuino.engines import check as check_engine
from taccuino.engines.admission import check_disk
from taccuino.private_files import secret
from taccuino.settings import Settings
from taccuino.storage.pages.places import places_of

from .admission import Admission
from .application import HubRouteTable
from .database import HubDatabase
from .handlers.ready import ReadyHandler
from .handlers.server_requests import HubAuthenticator
from .handlers.servers import CULLING_SCOPE, server_handlers
from .handlers.sites import site_handlers
from .handlers.snapshots import SNAPSHOTS_SCOPE, snapshot_handlers
from .handlers.tokens import (
    SCOPES,
    SERVER_TOKEN_SCOPES,
    STORAGE_PAGES,
    USER_ROLE,
    mount_plane_role,
    storage_pages_role,
    token_handlers,
)
from .housekeeping import start_housekeeping
from .options import ServerOptions
from .readiness import Check, Readiness
from .request_log import log_without_secret
from .sites import SITES_SCOPE, Sites, sites_role
from .storage import HubStorage, StorageBackend
from .warm import warm_pool

__all__ = ["configure"]

_HERE = Path(__file__).parent
_DEFAULT_PORT = 8081  # JupyterHub's own
_SHOWN_FAILURE_SECONDS = 24 * 3600


def configure(c: Any, settings: Settings) -> None:
    """Make ``c``, the configuration object of a ``jupyterhub_config.py``, run this service.

    What an operator's own file sets after this call wins.

    Raises
    ------
    SettingsError
        If a setting is missing that the hub can't do without, or a secret's file can't be
        used.
    """
    backend, options = StorageBackend(settings), ServerOptions(settings)
    _configure_hub(c, settings)
    _configure_lifetimes(c)
    _configure_access(c, settings)
    _configure_storage_pages(c, settings)
    _configure_culling(c, settings)
    _configure_options(c, options)
    _configure_pages(c, settings, options)
    _configure_handlers(c, settings, backend, options)
    iam.configure(c, settings)
    c.JupyterHub.authenticator_class = HubAuthenticator
    edge.configure(c, settings)
    c.JupyterHub.proxy_class = HubRouteTable
    engines.configure(c, settings)
    c.NotebookSpawner.storage = lambda spawner: HubStorage(backend, spawner.user)
    pool = warm_pool(settings, backend)
    c.NotebookSpawner.warm_pool = lambda: pool
    c.NotebookSpawner.unroute = lambda one: app().proxy.delete_user(one.user, one.name)
    start_housekeeping(settings, backend, pool)


def _configure_hub(c: Any, settings: Settings) -> None:
    """Addresses, database, secrets and logs."""
    (settings.state_dir / "hub").mkdir(mode=0o700, parents=True, exist_ok=True)
    cookie_secret = settings.state_dir / "secrets/hub-cookie-secret"
    secret(cookie_secret)
    hub = c.JupyterHub
    hub.bind_url = f"http://:{settings.port}/"
    hub.public_url = f"{settings.url}/"
    hub.hub_bind_url = f"http://127.0.0.1:{settings.hub.port or _DEFAULT_PORT}"
    hub.db_url = settings.hub.database_url
    if str(settings.hub.database_url).startswith("sqlite"):
        hub.db_kwargs = {"connect_args": {"check_same_thread": False, "factory": HubDatabase}}
    hub.cookie_secret_file = str(cookie_secret)
    hub.log_level = settings.hub.log_level
    # As JupyterHub does with tornado's: what is logged goes where, and as, its own log goes.
    logging.getLogger("taccuino").parent = logging.getLogger("JupyterHub")
    hub.authenticate_prometheus = not settings.hub.metrics_public


def _configure_lifetimes(c: Any) -> None:
    """What outlives the hub, and how long JupyterHub waits for it."""
    hub = c.JupyterHub
    # Servers and routes live on while the hub restarts.
    hub.cleanup_servers = False
    hub.cleanup_proxy = False
    # For who runs plain JupyterHub with this configuration, which stops servers that it can't
    # reach: it answers after a second and gives them ten minutes. No start waits so long, as
    # our spawner returns once the server answers.
    hub.init_spawners_timeout = 1
    c.Spawner.http_timeout = 600
    # Starts are cheap, and waiting in line costs more: of 500 starts at once, 475 were
    # answered 429 with the default limit of 100.
    hub.concurrent_spawn_limit = 0
    c.Spawner.consecutive_failure_limit = 0
    hub.allow_named_servers = False
    hub.redirect_to_server = True
    hub.shutdown_on_logout = False


def _configure_access(c: Any, settings: Settings) -> None:
    """Scopes and roles of the users, their servers and the mount plane."""
    hub = c.JupyterHub
    hub.custom_scopes = {
        **SCOPES,
        CULLING_SCOPE: {"description": "Ask whether a notebook server is in use."},
        SITES_SCOPE: {"description": "Ask a site whose servers it runs."},
        SNAPSHOTS_SCOPE: {"description": "Make and restore snapshots of one's workarea."},
    }
    own = {**USER_ROLE, "scopes": [*USER_ROLE["scopes"], f"{SNAPSHOTS_SCOPE}!user"]}
    hub.load_roles = [own, mount_plane_role()]
    token = secret(settings.state_dir / "secrets/mount-plane-token")
    hub.services = [{"name": "mount-plane", "api_token": token, "display": False}]
    if settings.peers and settings.sites.secret_file:
        peers = secret(settings.sites.secret_file)
        hub.services.append({"name": "peers", "api_token": peers, "display": False})
        hub.load_roles.append(sites_role())
    c.Spawner.server_token_scopes = list(SERVER_TOKEN_SCOPES)


def _configure_storage_pages(c: Any, settings: Settings) -> None:
    """The storage pages: a service with a process of its own, whose users log in here."""
    port = settings.local.storage_pages_port
    if port is None:
        return
    c.JupyterHub.services.append(
        {
            "name": STORAGE_PAGES,
            "url": f"http://127.0.0.1:{port}",
            "api_token": secret(settings.state_dir / "secrets/storage-pages-token"),
            # It is a part of the service: there is nothing to ask the user.
            "oauth_no_confirm": True,
            "display": False,
        }
    )
    c.JupyterHub.load_roles.append(storage_pages_role())


def _configure_culling(c: Any, settings: Settings) -> None:
    """The idle culler, as a service that the hub runs; see `taccuino.hub.culling`."""
    culling = settings.culling
    if not culling.enabled:
        return
    command = [
        # It ends with its hub, also when that is killed: the next hub starts its own.
        *("setpriv", "--pdeathsig=TERM"),
        *(sys.executable, "-m", "jupyterhub_idle_culler"),
        f"--config={_HERE / 'idle_culler_config.py'}",
        f"--timeout={culling.idle_seconds}",
        f"--cull-every={culling.every_seconds}",
        f"--max-age={culling.max_age_seconds}",
    ]
    c.JupyterHub.services.append({"name": "idle-culler", "command": command, "display": False})
    c.JupyterHub.load_roles.append(
        {
            "name": "taccuino-idle-culler",
            "description": "Stop idle notebook servers",
            "scopes": [
                "list:users",
                "read:users:activity",
                "read:servers",
                "delete:servers",
                CULLING_SCOPE,
            ],
            "services": ["idle-culler"],
        }
    )


def _configure_options(c: Any, options: ServerOptions) -> None:
    """The server options, for the form and the REST API alike."""
    c.Spawner.options_form = options.form
    c.Spawner.options_from_form = options.from_form
    c.Spawner.apply_user_options = options.apply


def _configure_pages(c: Any, settings: Settings, options: ServerOptions) -> None:
    """Templates and what they are told."""
    hub = c.JupyterHub
    hub.template_paths = [str(path) for path in (*settings.hub.templates, _HERE / "templates")]
    hub.template_vars = {
        "service_name": settings.name,
        "iam_name": settings.iam.display_name,
        "registration_url": settings.iam.registration_url,
        "announcement": settings.hub.announcement,
        "asset_version": _asset_version(),
        # JupyterHub calls what can be called with the user of the page.
        "last_failure": _last_failure,
        "group_directories": lambda user: _group_directories(settings, user),
        "preload": options.preload,
        "snapshots": settings.snapshots.enabled,
        "storage_pages": settings.local.storage_pages_port is not None,
    }
    hub.logo_file = str(_HERE / "static/logo.svg")


def _asset_version() -> str:
    """Changes with the static files, so that browsers may keep them for good."""
    digest = hashlib.sha256()
    for path in sorted((_HERE / "static").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _last_failure(user: Any) -> str:
    """Why the user's last server ended, if it was not long ago; else nothing."""
    failure = getattr(user.spawner, "last_failure", None) if user else None
    if not failure or time.time() - failure.get("at", 0) > _SHOWN_FAILURE_SECONDS:
        return ""
    return str(failure["message"])


def _group_directories(settings: Settings, user: Any) -> list[str]:
    """The user's groups' buckets, as they are called in ``cloud_storage``."""
    groups = [group.name for group in user.groups] if user else []
    places = places_of(settings, user.name, groups) if user else []
    return [place.directory for place in places if place.kind == "group"]


def _configure_handlers(
    c: Any, settings: Settings, backend: StorageBackend, options: ServerOptions
) -> None:
    """The service's own calls, and the security headers of every answer."""
    readiness, admission = Readiness(_checks(settings, backend)), Admission(settings)
    sites = Sites(settings, readiness)
    c.JupyterHub.template_vars["sites"] = sites.page
    admission.publish(lambda: app().users)
    static = (
        r"/taccuino/static/(.*)",
        CacheControlStaticFilesHandler,
        {"path": str(_HERE / "static")},
    )
    c.JupyterHub.extra_handlers = [
        static,
        (r"/ready", ReadyHandler, {"readiness": readiness}),
        *server_handlers(settings, backend),
        *snapshot_handlers(backend),
        *token_handlers,
        *site_handlers,
    ]
    c.JupyterHub.tornado_settings = {
        "headers": _headers(),
        "log_function": log_without_secret,
        "taccuino_credentials": backend,
        "taccuino_options": options,
        "taccuino_admission": admission,
        "taccuino_sites": sites,
        # A request for a server is answered at once: its progress tells the rest.
        "slow_spawn_timeout": 0,
    }


def _headers() -> dict[str, str]:
    """Security headers; ``unsafe-inline`` is for JupyterHub's own pages, such as admin."""
    policy = {
        "default-src": "'self'",
        "script-src": "'self' 'unsafe-inline'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }


def _checks(settings: Settings, backend: StorageBackend) -> list[Check]:
    """What a start needs, and what it is poorer without."""

    async def database() -> None:
        app().db.execute(text("SELECT 1"))

    async def identity() -> None:
        await app().authenticator.discovery.check()

    async def object_storage() -> None:
        await backend.provisioner.check()

    return [
        Check("database", database, needed=True),
        Check("engine", lambda: check_engine(settings), needed=True),
        Check("mount-plane", backend.mount_plane.check, needed=True),
        Check("edge", lambda: check_edge(settings), needed=True),
        Check("disk", lambda: check_disk(settings), needed=True),
        Check("iam", identity, needed=False),
        Check("storage", object_storage, needed=False),
    ]


def app() -> Any:
    """The JupyterHub that runs."""
    from jupyterhub.app import JupyterHub

    return JupyterHub.instance()
