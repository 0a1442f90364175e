"""``taccuino up``, ``upgrade``, ``down``, ``status``, ``check``, ``logs`` and ``hub``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from taccuino import local
from taccuino.errors import Fault, ServiceError, SettingsError
from taccuino.settings import Settings

__all__ = ["check", "down", "hub", "logs", "status", "up", "upgrade"]

_console = Console(highlight=False, soft_wrap=True)


def _as_root(what: str) -> None:
    if os.geteuid() != 0:
        raise ServiceError(
            f"taccuino {what} must be run by root, as it mounts and runs containers"
        )


def _say(line: str) -> None:
    _console.print(f"  {line}", markup=False)


def up(
    image: Annotated[
        bool, typer.Option(help="Build the base image, if its recipe changed.")
    ] = True,
) -> None:
    """Start the service, or mend what does not run of it, and wait until it is ready."""
    _as_root("up")
    began = time.monotonic()
    settings = local.up(Settings.load(), _say, image=image)
    answer = local.status(settings)
    lines = [f"[bold]{settings.url}[/bold]"]
    for account in answer["accounts"]:
        role = "administrator" if account["admin"] else "user"
        lines.append(f"{account['username']:<8} {account['password']}   {role}")
    title = f"{settings.name} is ready after {time.monotonic() - began:.0f} s"
    _console.print(Panel.fit("\n".join(lines), title=title, padding=(1, 2)))


def upgrade() -> None:
    """Bring the running service to the code and settings that are there now.

    Notebook servers run on. New ones are refused for a moment, what changed is restarted in
    order, the hub last, and the service is tried afterwards.
    """
    _as_root("upgrade")
    began = time.monotonic()
    settings = local.upgrade(Settings.load(), _say)
    _console.print(f"{settings.name} is upgraded after {time.monotonic() - began:.0f} s")


def down(
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete all state too: users' files and buckets.")
    ] = False,
) -> None:
    """Stop the service; servers are stopped and their uploads drained first."""
    _as_root("down")
    settings = local.load()
    local.down(settings, _say)
    if purge:
        local.purge(settings, _say)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the address, the services' states and, to root, the demo accounts."""
    settings = local.load()
    answer = local.status(settings)
    if as_json:
        print(json.dumps(answer, indent=2))  # noqa: T201
        return
    ready = "[green]ready[/green]" if answer["ready"] else "[red]not ready[/red]"
    _console.print(f"{answer['url']}  {ready}")
    _console.print(f"state in {answer['state_dir']}")
    if len(answer["sites"]) > 1:
        rows = [
            {**one, "state": "running" if one["ready"] else "not ready"}
            for one in answer["sites"]
        ]
        _console.print(_table(rows, ("name", "url", "state")))
    _console.print(_table(answer["services"], ("name", "state", "pid")))
    if answer["accounts"]:
        _console.print(_table(answer["accounts"], ("username", "password", "admin")))
    for fault in local.disk_faults(settings):
        _console.print(f"warning: {fault}", markup=False)


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(*columns)
    colours = {"running": "green", "starting": "yellow"}
    for row in rows:
        style = colours.get(row.get("state", "running"), "red")
        cells = ["" if row[name] is None else str(row[name]) for name in columns]
        if "state" in row:
            cells[columns.index("state")] = f"[{style}]{row['state']}[/{style}]"
        table.add_row(*cells)
    return table


def check(
    file: Annotated[Path | None, typer.Argument(help="A settings file (TOML).")] = None,
) -> None:
    """Check the settings and this machine; each fault is named with its mend.

    What others run (the IAM, the object storage) is asked too: a doubt about that is a
    warning, since the service starts without them.
    """
    settings = Settings.load(file)
    try:
        resolved = local.resolve(settings)
        faults = local.check(resolved)
    except SettingsError as error:
        resolved, faults = settings, error.faults
    for warning in asyncio.run(local.warnings(resolved)):
        _console.print(f"warning: {warning}", markup=False)
    if faults:
        raise SettingsError(str(file or "this machine"), faults)
    _console.print("no faults")


def logs(
    service: Annotated[str, typer.Argument(help="Such as hub, edge or radosgw.")],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new lines.")
    ] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines.")] = 50,
) -> None:
    """Show the end of a service's log."""
    logs = _logs(local.load())
    path = logs.get(service)
    if path is None:
        fault = Fault("logs", f"no service {service[:40]!r}", f"one of {', '.join(logs)}")
        raise ServiceError(str(fault))
    if not path.is_file():
        raise ServiceError(f"{path} is not there (yet); `taccuino up` starts the service")
    if follow:
        command = ["tail", "-n", str(lines), "-F", str(path)]
        os.execvp(command[0], command)  # noqa: S606
    if text := local.log_tail(path, lines):
        print(text)  # noqa: T201


def _logs(settings: Settings) -> dict[str, Path]:
    """Each service's log; those of several sites have the site's name before them."""
    found = {
        name: local.log_file(settings.state_dir, name)
        for name in (*local.service_names(settings), "supervisor")
    }
    for site in settings.local.sites:
        for name, path in _logs(local.site_of(settings, site)).items():
            found[f"{site}/{name}"] = path
    return found


def hub() -> None:
    """Run the hub alone, in the foreground, with the settings that ``up`` resolved."""
    settings = local.load()
    import taccuino.hub

    config = Path(taccuino.hub.__file__).with_name("jupyterhub_config.py")
    resolved = settings.state_dir / "settings.json"
    if resolved.is_file():
        os.environ["TACCUINO_SETTINGS"] = str(resolved)
    command = [sys.executable, "-m", "taccuino.hub", "-f", str(config)]
    os.execv(command[0], command)  # noqa: S606
