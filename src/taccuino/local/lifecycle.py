"""Bringing an instance up and taking it down, from whatever state it is in."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from taccuino.engines.base_image import BASE_IMAGE, ensure_base_image
from taccuino.engines.images import export_front_ends
from taccuino.errors import Fault, ServiceError, SettingsError
from taccuino.settings import Settings

from .checks import check
from .mounts import release_loop_devices, unmount_below
from .order import Task, run_in_order
from .release import release_servers, remove_firewall, renew_credentials
from .resolve import keep, make_directories, resolve, resolved_file
from .service import Service
from .services import service_names, services_of
from .sites import down_sites, up_sites
from .supervision import Supervision

__all__ = [
    "Report",
    "down",
    "exclusive",
    "image_tasks",
    "prepared",
    "purge",
    "start_task",
    "up",
]

Report = Callable[[str], None]
"""Takes a line about what was done, for a person."""


def up(settings: Settings, report: Report, *, image: bool = True) -> Settings:
    """Bring the instance up, and wait until it can be used.

    Whatever runs as it should is left alone: a second run changes nothing. What a killed
    supervisord left is replaced; notebook servers keep running.

    Parameters
    ----------
    settings
        As they were read from the file.
    report
        Told of each service that is ready.
    image
        Whether the base image is built meanwhile, if it is offered and its recipe changed.

    Returns
    -------
    Settings
        The resolved settings.

    Raises
    ------
    SettingsError
        If the settings can't be used on this machine.
    ServiceError
        If a service can't be started.
    """
    resolved = prepared(settings)
    supervision = Supervision(resolved.state_dir)
    with exclusive(resolved.state_dir):
        services = services_of(resolved)
        supervision.apply(services)
        tasks = [start_task(supervision, service, report) for service in services]
        if not resolved.local.sites:
            tasks += image_tasks(resolved, report, build=image)
        run_in_order(tasks)
        up_sites(resolved, report, image=image)
    return resolved


def prepared(settings: Settings) -> Settings:
    """The resolved settings of a machine that can run the instance, which are kept.

    Raises
    ------
    SettingsError
        If it can't; then what runs keeps the settings that it has.
    """
    resolved = resolve(settings)
    if faults := [fault for fault in check(resolved) if fault.mend]:
        raise SettingsError("this machine", faults)
    return keep(resolved)


def start_task(supervision: Supervision, service: Service, report: Report) -> Task:
    """Start a service, or restart it if it does not run as it is described; wait for it."""

    def start(given_up: Callable[[], bool]) -> None:
        began = time.monotonic()
        service.prepare()
        current = supervision.is_current(service)
        if current:
            supervision.reload(service)
        else:
            supervision.start(service)
        supervision.wait_ready(service, given_up)
        if given_up():
            return
        service.after_start()
        what = "runs" if current else f"ready after {time.monotonic() - began:.1f} s"
        report(f"{service.name:<13} {what}")

    return Task(service.name, start, service.after)


def image_tasks(settings: Settings, report: Report, *, build: bool = True) -> list[Task]:
    """Build the base image, if it is offered and its recipe changed; export the front ends."""

    def base_image(_: Callable[[], bool]) -> None:
        ensure_base_image(settings, report)

    def export(_: Callable[[], bool]) -> None:
        export_front_ends(settings, report)

    tasks = [Task("front-ends", export, after=("engine", "base-image"))]
    if build and any(offer.reference == BASE_IMAGE for offer in settings.images):
        # Not before the engine: its start may empty podman's run directory.
        tasks.append(Task("base-image", base_image, after=("engine",)))
    return tasks


def down(settings: Settings, report: Report) -> None:
    """Stop the instance: the hub, users' servers, their mounts, then everything else.

    Uploads are drained first, and snapshots of workareas made; what can't be uploaded stays in
    the mount plane's cache and is uploaded after the next ``up``.

    Raises
    ------
    ServiceError
        If something can't be stopped.
    """
    state = settings.state_dir
    if not resolved_file(state).is_file():
        report(f"nothing runs: {state} is not the state directory of an instance")
        return
    make_directories(state)
    supervision = Supervision(state)
    with exclusive(state):
        down_sites(settings, report)
        if not settings.local.sites:
            renew_credentials(settings)
            supervision.stop("hub")
            report("hub           stopped")
            release_servers(settings, report)
        for name in reversed(service_names(settings)):
            supervision.stop(name)
        supervision.shutdown()
        remove_firewall(settings)
        report("services      stopped")


def purge(settings: Settings, report: Report) -> None:
    """Delete the state directory of an instance that was taken down: users' data too.

    A disk of its own stays mounted, with nothing on it.

    Raises
    ------
    SettingsError
        If the directory is not that of an instance.
    ServiceError
        If something below it stays mounted.
    """
    state = settings.state_dir
    if not state.exists():
        return
    if not resolved_file(state).is_file():
        problem = (
            f"{state} has no settings.json, so it is not a state directory of this service"
        )
        fault = Fault("state_dir", problem, "look at what is in it, and remove it by hand")
        raise SettingsError("purge", [fault])
    make_directories(state)  # an interrupted purge may have taken the lock's
    with exclusive(state):
        unmount_below(state, itself=False)
        release_loop_devices(state)
        # The settings go last: a purge that is interrupted can be begun again.
        for path in sorted(state.iterdir(), key=lambda path: path == resolved_file(state)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if not state.is_mount():
            state.rmdir()
    report(f"{state} deleted")


@contextlib.contextmanager
def exclusive(state_dir: Path) -> Iterator[None]:
    """Keep a second ``up``, ``upgrade`` or ``down`` of the same instance out."""
    with (state_dir / "supervisor/lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"another `taccuino up`, `upgrade` or `down` works on {state_dir}; "
                "wait until it ends"
            ) from None
        yield
