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
from .release import release_servers, remove_firewall
from .resolve import make_directories, resolve, resolved_file
from .service import Service
from .services import service_names, services_of
from .sites import down_sites, up_sites
from .supervision import Supervision

__all__ = ["Report", "down", "purge", "up"]

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
    resolved = resolve(settings)
    if faults := [fault for fault in check(resolved) if fault.mend]:
        raise SettingsError("this machine", faults)
    supervision = Supervision(resolved.state_dir)
    with _exclusive(resolved.state_dir):
        services = services_of(resolved)
        supervision.apply(services)
        tasks = [_start_task(supervision, service, report) for service in services]
        if not resolved.local.sites:
            if image and any(offer.reference == BASE_IMAGE for offer in resolved.images):
                tasks.append(_image_task(resolved, report))
            tasks.append(_front_end_task(resolved, report))
        run_in_order(tasks)
        up_sites(resolved, report, image=image)
    return resolved


def _start_task(supervision: Supervision, service: Service, report: Report) -> Task:
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


def _image_task(settings: Settings, report: Report) -> Task:
    def build(_: Callable[[], bool]) -> None:
        ensure_base_image(settings, report)

    # Not before the engine: its start may empty podman's run directory.
    return Task("base-image", build, after=("engine",))


def _front_end_task(settings: Settings, report: Report) -> Task:
    def export(_: Callable[[], bool]) -> None:
        export_front_ends(settings, report)

    return Task("front-ends", export, after=("engine", "base-image"))


def down(settings: Settings, report: Report) -> None:
    """Stop the instance: the hub, users' servers, their mounts, then everything else.

    Uploads are drained first; what can't be uploaded stays in the mount plane's cache and is
    uploaded after the next ``up``.

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
    with _exclusive(state):
        down_sites(settings, report)
        if not settings.local.sites:
            supervision.stop("hub")
            report("hub           stopped")
            release_servers(settings, report)
        for name in reversed(service_names(settings)):
            supervision.stop(name)
        supervision.shutdown({})
        remove_firewall(settings)
        report("services      stopped")


def purge(settings: Settings, report: Report) -> None:
    """Delete the state directory of an instance that was taken down: users' data too.

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
    unmount_below(state)
    release_loop_devices(state)
    shutil.rmtree(state)
    report(f"{state} deleted")


@contextlib.contextmanager
def _exclusive(state_dir: Path) -> Iterator[None]:
    """Keep a second ``up`` or ``down`` of the same instance out."""
    with (state_dir / "supervisor/lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"another `taccuino up` or `down` works on {state_dir}; wait until it ends"
            ) from None
        yield
