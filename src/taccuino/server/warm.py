"""A warm server: everything is imported, and then it waits to be somebody's.

Two processes wait: Jupyter, which has imported what a start needs (`Prefork`), and the launcher
that it belongs to. The launcher says so over the `Link` and is told who it is to be. Nothing of
a user is there before; whatever is random is made anew after. The user's files are mounted
while Jupyter starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import chain

from . import launcher
from .link import Link
from .prefork import FilesGate, Prefork
from .singleuser import import_ahead

__all__ = ["import_what_a_start_needs", "main", "must_be_read_at_start"]

_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG")
"""What the interpreter or the C library reads once."""
_LATER = (
    "anyio._backends._asyncio",
    "encodings.ascii",
    "jinja2.ext",
    "jupyter_core.migrate",
    "jupyter_server.view.handlers",
    "notebook_shim.shim",
    "taccuino.server.contents",
    "taccuino.server.hub_fetch",
    "taccuino.server.kernels",
    "tornado.platform.asyncio",
)
"""Modules that Jupyter imports in functions."""


def main() -> int:
    """Wait in the pool, then be the launcher of the notebook server; its exit code."""
    path = os.environ.pop(launcher.LINK_VARIABLE)
    jupyter = Prefork(_prepare_jupyter)
    imported = jupyter.imported()
    _give_memory_back()
    link = Link(path)
    link.tell("warm")
    identity = link.identity()
    if identity is None:
        return 0
    before = dict(os.environ)
    os.environ.update(identity["environment"])
    if not imported or must_be_read_at_start(before, os.environ):
        jupyter.end()
        return launcher.run(identity["arguments"], link)
    return launcher.run(identity["arguments"], link, jupyter)


def _prepare_jupyter() -> Callable[[FilesGate], None] | None:
    """Import what a start needs; what starts the server, or `None` for the plain way."""
    server = import_ahead()
    if server is None:
        return None
    import_what_a_start_needs()
    _give_memory_back()
    return server.launch_with


def _give_memory_back() -> None:
    """Nobody knows for how long this process waits: what the imports left behind goes."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def must_be_read_at_start(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether the environments differ in what only a new process takes up."""
    return any(
        old.get(name) != new.get(name)
        for name in {*old, *new}
        if name.startswith(_READ_AT_START)
    )


def import_what_a_start_needs() -> None:
    """Import what Jupyter Server imports only once it knows its configuration.

    These are the extensions that the image enables, the handlers of Jupyter's own services,
    and `_LATER`. What an image does not have is left out: a start will say what is wrong.
    """
    from jupyter_core.paths import jupyter_config_path
    from jupyter_server.extension.config import ExtensionConfigManager
    from jupyter_server.extension.manager import ExtensionPackage
    from jupyter_server.serverapp import JUPYTER_SERVICE_HANDLERS

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    for name, enabled in manager.get_jpserver_extensions().items():
        if enabled:
            with contextlib.suppress(Exception):  # an extension may raise anything
                ExtensionPackage(name=name, enabled=True)
    services = [modules or () for modules in JUPYTER_SERVICE_HANDLERS.values()]
    for name in (*chain.from_iterable(services), *_LATER):
        with contextlib.suppress(Exception):
            import_module(name)


if __name__ == "__main__":
    sys.exit(main())
