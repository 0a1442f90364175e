"""The subcommands, put together."""

from __future__ import annotations

import typer

from taccuino import __version__

from . import image, service, sites

__all__ = ["app"]

app = typer.Typer(
    help="Notebooks as a Service: JupyterHub with institute login and mounted object storage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"taccuino {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_version,
        is_eager=True,
        help="Show the version.",
    ),
) -> None:
    """Notebooks as a Service."""


for command in (
    service.up,
    service.upgrade,
    service.down,
    service.status,
    service.check,
    service.logs,
    service.hub,
    sites.maintenance,
):
    app.command()(command)
app.add_typer(image.app, name="image")
