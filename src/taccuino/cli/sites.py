"""``taccuino maintenance``: a site that takes no new servers, and empties itself."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from taccuino import local
from taccuino.errors import Fault, SettingsError
from taccuino.settings import Settings
from taccuino.sites.maintenance import MaintenanceFile

__all__ = ["maintenance"]

_console = Console(highlight=False, soft_wrap=True)


class Switch(StrEnum):
    """What to do."""

    ON = "on"
    OFF = "off"
    STATUS = "status"


def maintenance(
    switch: Annotated[Switch, typer.Argument(help="Begin, end or show it.")] = Switch.STATUS,
    site: Annotated[
        str, typer.Option(help="Which site, where this machine runs several.")
    ] = "",
    message: Annotated[
        str, typer.Option("--message", "-m", help="What the site's users are told besides.")
    ] = "",
) -> None:
    """Let a site take no new servers: its users are told, and can go on at another one.

    Servers that run go on; with another site to go to, those that nobody uses are stopped.
    """
    if len(message) > 500:
        fault = Fault("--message", f"{len(message)} characters", "say it in 500")
        raise SettingsError("maintenance", [fault])
    settings = _settings(site)
    file = MaintenanceFile(settings.state_dir)
    if switch is Switch.ON:
        file.begin(message)
        _console.print(f"{settings.site} takes no new servers; `off` ends it")
    elif switch is Switch.OFF:
        ended = file.end()
        _console.print(
            f"{settings.site} " + ("takes servers again" if ended else "was not in it")
        )
    else:
        current = file.current
        words = f"in maintenance. {current.message}".strip() if current else "takes servers"
        _console.print(f"{settings.site}: {words}", markup=False)


def _settings(site: str) -> Settings:
    settings = local.load()
    names = settings.local.sites
    if not names:
        if site not in ("", settings.site):
            fault = Fault("--site", f"this is the site {settings.site}", "leave it out")
            raise SettingsError("maintenance", [fault])
        return settings
    if site not in names:
        problem = f"no site {site[:40]!r}" if site else "this machine runs several sites"
        raise SettingsError(
            "maintenance", [Fault("--site", problem, f"one of {', '.join(names)}")]
        )
    return local.site_of(settings, site)
