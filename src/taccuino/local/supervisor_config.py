"""supervisord's configuration, as text: a pure function of the services."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from taccuino.errors import ServiceError

from .service import Service

__all__ = ["log_file", "supervisor_config"]

LOG_BYTES = 10 * 1024**2
"""Size at which a log is put aside; three of them are kept."""


def log_file(state_dir: Path, name: str) -> Path:
    """Where a service's output goes."""
    return state_dir / "logs" / f"{name}.log"


def supervisor_config(
    state_dir: Path,
    services: Sequence[Service],
    environment: Mapping[str, str],
    *,
    open_files: int = 1024,
) -> str:
    """The configuration for these services.

    Nothing is started by supervisord itself (``autostart=false``): ``up`` does, in order; but
    what ended is started again. Only the program's own process is signalled unless the
    service says ``stop_group``: containers and mounts outlive the hub, engine and mount plane.

    Parameters
    ----------
    state_dir
        The instance's state directory.
    services
        What is supervised.
    environment
        Variables that every service gets.
    open_files
        The limit of open files that the services inherit.

    Raises
    ------
    ServiceError
        If a value can't be written in supervisord's format.
    """
    directory = state_dir / "supervisor"
    sections = [
        _section(
            "unix_http_server",
            {"file": str(directory / "supervisor.sock"), "chmod": "0700"},
        ),
        _section(
            "supervisord",
            {
                "user": "root",
                "logfile": str(log_file(state_dir, "supervisor")),
                "logfile_maxbytes": str(LOG_BYTES),
                "logfile_backups": "3",
                "pidfile": str(directory / "supervisor.pid"),
                "childlogdir": str(state_dir / "logs"),
                "directory": str(state_dir),
                "minfds": str(open_files),
            },
        ),
        _section(
            "rpcinterface:supervisor",
            {
                "supervisor.rpcinterface_factory": (
                    "supervisor.rpcinterface:make_main_rpcinterface"
                )
            },
        ),
    ]
    sections += [_program(state_dir, service, environment) for service in services]
    return "\n".join(sections)


def _program(state_dir: Path, service: Service, environment: Mapping[str, str]) -> str:
    variables = {**environment, **service.environment, "TACCUINO_SERVICE": service.name}
    group = "true" if service.stop_group else "false"
    return _section(
        f"program:{service.name}",
        {
            "command": shlex.join(service.command),
            "environment": ",".join(f"{k}={_quoted(k, v)}" for k, v in variables.items()),
            "directory": str(service.directory or state_dir),
            **({"user": service.user} if service.user else {}),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "5",
            "stopsignal": service.stop_signal,
            "stopwaitsecs": f"{service.stop_timeout:.0f}",
            "stopasgroup": group,
            "killasgroup": group,
            "redirect_stderr": "true",
            "stdout_logfile": str(log_file(state_dir, service.name)),
            "stdout_logfile_maxbytes": str(LOG_BYTES),
            "stdout_logfile_backups": "3",
        },
    )


def _section(name: str, values: Mapping[str, str]) -> str:
    lines = [f"[{name}]"]
    for key, value in values.items():
        # supervisord's parser cuts comments off lines and has no way to escape them.
        if "\n" in value or " ;" in value or " #" in value:
            raise ServiceError(
                f"{name}: {key} has a line break or a comment sign in it, which supervisord's "
                f"configuration can't hold: {value[:80]!r}; take it out of the settings"
            )
        lines.append(f"{key}={value.replace('%', '%%')}")
    return "\n".join(lines) + "\n"


def _quoted(key: str, value: str) -> str:
    # supervisord has no escapes, and strips quotes of both kinds off a value's ends.
    if value.strip("\"'") == value:
        for quote in ('"', "'"):
            if quote not in value:
                return f"{quote}{value}{quote}"
    raise ServiceError(
        f"the variable {key} has quotes in it that supervisord's configuration can't hold"
    )
