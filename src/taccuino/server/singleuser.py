"""``python -m taccuino.server.singleuser``: JupyterHub's server for one user, started faster.

``jupyterhub.singleuser`` imports the hub's page handlers, and with them SQLAlchemy, Alembic and
the hub's database model: half of the CPU time of a start, and a notebook server uses none of
it. What JupyterHub 6.1 really wants of them is one class for an ``isinstance`` (``log``), one
exception for an ``except`` around the hub's own handlers (``utils``), and names in functions
that only the hub calls (``scopes``, ``metrics``). So these imports are deferred while
JupyterHub's modules are imported, and only then: before any configuration is read and before
any other extension is loaded.

With another series of JupyterHub, or when anything goes wrong here, this process becomes
``python -m jupyterhub.singleuser`` instead.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from . import schemas
from .deferred_imports import deferred, function, left_out

if TYPE_CHECKING:
    from .hub_extension import NotebookServer

__all__ = ["import_ahead", "main"]


def _functions(module: str, *names: str) -> Mapping[str, Any]:
    return {name: function(module, name) for name in names}


TESTED_SERIES = (6, 1)
"""The versions of JupyterHub whose use of `DEFERRED` was looked through."""
DEFERRED: Mapping[str, Mapping[str, Any]] = {
    # Used by the hub alone.
    "jupyterhub.handlers.pages": {"HealthCheckHandler": type("HealthCheckHandler", (), {})},
    "jupyterhub.orm": {},
    "jupyterhub.roles": {},
    "sqlalchemy": {},
    "sqlalchemy.exc": {"SQLAlchemyError": type("SQLAlchemyError", (Exception,), {})},
    # Used once the server listens, and then ours.
    "jupyterhub.httpclient": _functions("taccuino.server.hub_fetch", "fetch"),
    "aiohttp": {},
    # Used when somebody comes who is not logged in.
    "unittest.mock": {},
    # Used when JupyterLab is given lists of allowed or blocked extensions by address.
    "requests": {},
    # Used where JupyterLab may install extensions.
    "jupyterlab.extensions.pypi": _functions(
        "jupyterlab.extensions.pypi", "PyPIExtensionManager"
    ),
    # Used when extensions are listed.
    "jupyter_builder.jupyterlab_semver": _functions(
        "jupyter_builder.jupyterlab_semver",
        *("Range", "clean", "gt", "gte", "lt", "lte", "make_range", "make_semver"),
    ),
    # Used where kernels are another server's.
    "websocket": {},
    # Used by jsonschema for formats that no schema of Jupyter's has.
    "idna": {"IDNAError": UnicodeError},
    "isoduration": {"DurationParsingException": ValueError},
    "webcolors": {},
}
LEFT_OUT = ("rfc3986_validator",)
"""jsonschema checks ``format: uri`` where it finds this, which takes a tenth of the imports.

Jupyter's own schemas of events have it in one place, their names.
"""
_OTHER_SERVER = ("JUPYTERHUB_SINGLEUSER_APP", "JUPYTERHUB_SINGLEUSER_EXTENSION")


def main() -> None:
    """Run the server with the options of the command line."""
    server = import_ahead()
    if server is None:
        _become_jupyterhubs()
    server.launch_instance()


def import_ahead() -> type[NotebookServer] | None:
    """The server's class with all that it imports; `None` if it must be started the plain way.

    Garbage is not collected from then on, as nothing that is imported becomes any:
    `hub_extension` takes that up again.
    """
    if any(os.environ.get(variable) for variable in _OTHER_SERVER):
        return None
    gc.disable()
    try:
        return _import()
    except Exception as error:  # noqa: BLE001 - whatever it is, the plain way is there
        print(f"taccuino: imports cannot be deferred: {error!r}", file=sys.stderr)  # noqa: T201
        return None


def _import() -> type[NotebookServer] | None:
    """The server's class, or `None` if this JupyterHub is not of the tested series."""
    from jupyterhub._version import version_info

    if version_info[:2] != TESTED_SERIES:
        return None
    with deferred(DEFERRED), left_out(LEFT_OUT):
        from .hub_extension import NotebookServer

        with contextlib.suppress(ImportError):  # an image without JupyterLab
            import_module("jupyterlab.labapp")  # it is loaded later anyway
            schemas.remember()
    return NotebookServer


def _become_jupyterhubs() -> NoReturn:
    command = [sys.executable, "-m", "jupyterhub.singleuser", *sys.argv[1:]]
    os.execv(sys.executable, command)  # noqa: S606 - the same interpreter


if __name__ == "__main__":
    main()
