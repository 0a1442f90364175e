"""The processes of an instance, also those that its supervisor no longer knows.

Every service has ``TACCUINO_INSTANCE`` and ``TACCUINO_SERVICE`` in its environment, and so
have its children: conmon, rclone, HAProxy's workers. What tells the service itself from
these is its command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from taccuino.errors import ServiceError

__all__ = ["end", "instance_processes", "is_program", "listener", "orphans"]


def instance_processes(state_dir: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Every process of the instance with the name of the service that it descends from."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
            continue
        if environment.get("TACCUINO_INSTANCE") == str(state_dir):
            yield process, environment.get("TACCUINO_SERVICE", "")


def is_program(command_line: Sequence[str], command: Sequence[str]) -> bool:
    """Whether a process's command line is that of a service.

    A script runs as ``[interpreter, script, ...]``, so the command may be the line's end; its
    first word may have become a full path.
    """
    if not command or len(command_line) < len(command):
        return False
    tail = command_line[-len(command) :]
    return list(tail[1:]) == list(command[1:]) and Path(tail[0]).name == Path(command[0]).name


def orphans(
    state_dir: Path, commands: Mapping[str, Sequence[str]], supervisor: int | None
) -> list[psutil.Process]:
    """What a killed supervisord left: services without it, and supervisors without a socket.

    Parameters
    ----------
    state_dir
        The instance's state directory.
    commands
        The services' commands by name.
    supervisor
        Process id of the supervisor that answers, if one does.
    """
    found = []
    for process, name in instance_processes(state_dir):
        try:
            if name == "supervisor":
                stray = process.pid != supervisor and "supervisord" in " ".join(
                    process.cmdline()
                )
            else:
                # HAProxy's workers have their master's command line: any ancestor counts.
                # The hub's children (its services) are of no use without it.
                program = is_program(process.cmdline(), commands.get(name, ()))
                stray = (program or name == "hub") and (
                    supervisor not in {parent.pid for parent in process.parents()}
                )
        except psutil.Error:
            continue
        if stray:
            found.append(process)
    return found


def end(processes: Sequence[psutil.Process], timeout: float = 15.0) -> None:
    """End processes: ask them, and kill those that are still there after ``timeout`` seconds.

    Raises
    ------
    ServiceError
        If one can't be killed: it waits in the kernel, for a disk or a dead mount.
    """
    left = list(processes)
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                ask(process)
        _, left = psutil.wait_procs(left, timeout=timeout)
    if left:
        names = ", ".join(str(process.pid) for process in left)
        raise ServiceError(
            f"process {names} can't be killed; look at its state with ps, or restart"
        )


def listener(port: int) -> tuple[str, Path | None] | None:
    """Who listens on a TCP port of this machine: a description, and the instance it is of.

    ``None`` if nobody does, as far as this user may see.
    """
    for connection in psutil.net_connections(kind="tcp"):
        if (
            connection.status != psutil.CONN_LISTEN
            or getattr(connection.laddr, "port", 0) != port
        ):
            continue
        if connection.pid is None:
            return "another user's process", None
        try:
            process = psutil.Process(connection.pid)
            owner = process.environ().get("TACCUINO_INSTANCE")
            text = f"{process.name()} (process {process.pid})"
        except psutil.Error:
            return f"process {connection.pid}", None
        return text, Path(owner) if owner else None
    return None
