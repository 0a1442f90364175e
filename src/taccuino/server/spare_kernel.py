"""A kernel that waits for its notebook: it has imported what an IPython kernel imports.

Run by the interpreter of the kernel's own kernelspec, where nothing of Taccuino may be
installed: this file needs the standard library only. Whoever starts it writes an order to its
standard input and closes it (`Order`). Until then nothing of a kernel exists but imported
modules; then the process becomes that kernel, as ``python -m ipykernel_launcher`` would. Where
it can't be sure to be the same, it does just that, with ``exec``.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import site
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypedDict

LAUNCHER = "ipykernel_launcher"
# What a kernel has imported once it has answered; a test compares.
MODULES = (
    *("ipykernel.kernelapp", "ipykernel.debugger", "IPython.core.completerlib"),
    *("IPython.core.debugger", "IPython.core.debugger_backport", "IPython.core.logger"),
    *("IPython.core.oinspect", "IPython.extensions.storemagic", "IPython.utils.wildcard"),
    *("tornado.platform.asyncio", "tornado.queues", "psutil", "sqlite3", "gzip", "pdb"),
    *("encodings.ascii", "encodings.idna", "encodings.latin_1", "faulthandler"),
)
# No module above, nor the interpreter, reads these as it starts.
UNREAD = ("AWS_", "CPU_", "JPY_", "JUPYTERHUB_", "MEM_", "OIDC_", "TACCUINO_")
_PATIENCE = 0.25  # seconds that an order waits for imports that are under way
_LOWEST = 19


class Order(TypedDict):
    """The kernel that a spare is to become: what ``Popen`` would be called with."""

    argv: list[str]
    env: dict[str, str]
    cwd: str


def main() -> None:
    """Prepare, wait for the order, and become that kernel."""
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # this file's directory
    places = [*sys.path, site.getusersitepackages()]
    started, stamps = dict(os.environ), _stamps(places)
    failures: list[BaseException] = []
    # With a name: those that have none are numbered, and the kernel's count from one.
    imports = threading.Thread(target=_import, args=(failures,), name="imports", daemon=True)
    imports.start()
    order = _read_order()
    if order is None:
        os._exit(0)  # nobody will want it any more
    os.chdir(order["cwd"])
    imports.join(_PATIENCE)
    doubt = (
        (imports.is_alive() and "it was not ready")
        or (failures and f"{failures[0]!r}")
        or (threading.active_count() > 1 and "its imports left a thread behind")
        or (_stamps(places) != stamps and "packages were installed meanwhile")
        or decisive_changes(started, order["env"])
    )
    if doubt:
        with suppress(OSError):
            os.write(2, f"taccuino: this kernel starts the plain way: {doubt}\n".encode())
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606
    _become(order, started)


def decisive_changes(started: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """The names of variables that may have made a difference to what was imported."""
    changed = {name for name, _ in started.items() ^ wanted.items()}
    decisive = sorted(name for name in changed if not name.startswith(UNREAD))
    return f"another {', '.join(decisive)}" if decisive else ""


class _LaterStandardError:
    """What an import takes for standard error: the kernel's own, once there is one.

    In a kernel, most of these modules are imported when it has redirected the real one.
    """

    def write(self, text: str) -> int:
        return len(text) if sys.stderr is self else sys.stderr.write(text)

    def flush(self) -> None:
        if sys.stderr is not self:
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.__stderr__ if sys.stderr is self else sys.stderr, name)


def _import(failures: list[BaseException]) -> None:
    """In a thread, as a process could not take its priority back."""
    sys.stderr = _LaterStandardError()
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
        import_module(MODULES[0])
        for name in MODULES[1:]:
            with suppress(ImportError):  # of another version
                import_module(name)
    except BaseException as error:  # noqa: BLE001 - the plain way will tell it
        failures.append(error)
    finally:
        sys.stderr = sys.__stderr__


def _stamps(places: list[str]) -> list[int | None]:
    """When each directory of modules was changed: what Python's own finders go by."""
    stamps: list[int | None] = []
    for place in places:
        try:
            stamps.append(Path(place).stat().st_mtime_ns)
        except OSError:
            stamps.append(None)
    return stamps


def _read_order() -> Order | None:
    """The order, when standard input has ended; `None` if it ended without one."""
    text = b"".join(iter(lambda: os.read(0, 65536), b""))
    return json.loads(text) if text else None


def _become(order: Order, started: Mapping[str, str]) -> NoReturn:
    # Imports may set variables themselves (debugpy does).
    own = {name: value for name, value in os.environ.items() if started.get(name) != value}
    os.environ.clear()
    os.environ.update(order["env"] | own)
    time.tzset()
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `-m` does
    argv = order["argv"]
    sys.orig_argv[:] = argv
    sys.argv[:] = argv[argv.index("-m") + 1 :]
    _show(argv)
    runpy.run_module(LAUNCHER, run_name="__main__", alter_sys=True)
    sys.exit()


def _show(argv: list[str]) -> None:
    """Let ``ps`` show the kernel's command line, as far as there is room for it."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        begin, end = int(fields[45]), int(fields[46])  # arg_start, arg_end: see proc(5)
        room = end - begin
        text = b"\0".join(map(os.fsencode, argv))[: room - 1]
        ctypes.memmove(begin, text.ljust(room, b"\0"), room)


if __name__ == "__main__":
    main()
