"""``taccuino image``: build, check, list, offer and withdraw images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from taccuino import local, offers_file
from taccuino.engines.base_image import MIRROR, ensure_base_image
from taccuino.engines.image_check import check_image
from taccuino.engines.images import (
    ImageError,
    ImageStore,
    build_arguments,
    check_name,
    check_own_name,
    export_front_ends,
    reference_of,
)
from taccuino.errors import Fault, SettingsError
from taccuino.settings import ImageSettings, Settings

__all__ = ["app"]

app = typer.Typer(help="Images for notebook servers.", no_args_is_help=True)
_console = Console(highlight=False, soft_wrap=True)


def _say(line: str) -> None:
    _console.print(line, markup=False)


SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", help="The settings file; without it, the running instance's."),
]
Title = Annotated[str, typer.Option(help="What the form calls it.")]
Description = Annotated[str, typer.Option(help="What is in it, in a sentence.")]
Groups = Annotated[
    list[str] | None, typer.Option("--group", help="A group that may use it; repeat for more.")
]
Default = Annotated[bool, typer.Option("--default", help="Make it the form's first choice.")]


@app.command()
def build(
    path: Annotated[
        Path, typer.Argument(help="A directory with a Containerfile, or the file.")
    ],
    name: Annotated[str, typer.Option(help="The image's name, such as my-analysis.")],
    build_arg: Annotated[
        list[str] | None, typer.Option(help="NAME=value for an ARG; repeat for more.")
    ] = None,
    offer: Annotated[
        bool, typer.Option("--offer", help="Offer it if the check passes.")
    ] = False,
    title: Title = "",
    description: Description = "",
    group: Groups = None,
    default: Default = False,
    settings: SettingsFile = None,
) -> None:
    """Build an image, check it, and offer it if asked to."""
    check_own_name(name)
    arguments = build_arguments(build_arg or [])
    configured = _settings(settings)
    reference = reference_of(name)
    context, containerfile = _recipe(path)
    store = ImageStore(configured)
    _say(f"Building {reference}")
    store.build(context, reference, containerfile=containerfile, arguments=arguments)
    _check(store, reference)
    store.deliver(reference, _say)
    if offer:
        image = ImageSettings(
            name=name,
            reference=reference,
            title=title,
            description=description,
            groups=group or [],
            default=default,
        )
        _offer(configured, image)
    else:
        _say(f"To offer it: taccuino image offer {name}")


@app.command()
def check(
    image: Annotated[str, typer.Argument(help="An image's name, or a whole reference.")],
    settings: SettingsFile = None,
) -> None:
    """Start an image for real and prove that server, agent and mounts work in it."""
    configured = _settings(settings)
    _check(ImageStore(configured), _reference(configured, image) or reference_of(image))


@app.command("list")
def list_images(settings: SettingsFile = None) -> None:
    """List the images in the engine's store, and which are offered."""
    configured = _settings(settings)
    added = offers_file.load_offers(offers_file.offers_path(configured))
    offered = {image.reference: image for image in (*configured.images, *added)}
    table = Table("Image", "Size", "Offered as", "To", box=None, pad_edge=False)
    store = ImageStore(configured)
    for image in store.images():
        entry = offered.pop(image.reference, None)
        size = f"{image.size / 1e9:.2f} GB"
        table.add_row(image.reference, size, *_offer_columns(entry))
    for reference, entry in offered.items():
        state = "present" if store.in_engine(reference) else "[red]missing[/red]"
        table.add_row(reference, state, *_offer_columns(entry))
    _console.print(table)


@app.command()
def offer(
    name: Annotated[str, typer.Argument(help="The image's name, as it was built.")],
    reference: Annotated[
        str | None, typer.Option(help="The image in the engine, if it has another reference.")
    ] = None,
    title: Title = "",
    description: Description = "",
    group: Groups = None,
    default: Default = False,
    settings: SettingsFile = None,
) -> None:
    """Offer an image to users; the form shows it at once."""
    configured = _settings(settings)
    image = ImageSettings(
        name=check_name(name),
        reference=reference_of(reference or name),
        title=title,
        description=description,
        groups=group or [],
        default=default,
    )
    store = ImageStore(configured)
    store.deliver(image.reference, _say)
    if not store.in_engine(image.reference):
        raise ImageError(
            f"there is no image {image.reference} in the engine's store, so it is not offered; "
            f"build it: taccuino image build PATH --name {name}"
        )
    _offer(configured, image)


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(help="The offer's name.")],
    settings: SettingsFile = None,
) -> None:
    """Stop offering an image; servers that run with it go on. To undo, offer it again."""
    configured = _settings(settings)
    path = offers_file.offers_path(configured)
    if offers_file.withdraw(path, check_name(name)):
        _export(configured)
        _say(f"{name} is no longer offered. To undo: taccuino image offer {name}")
        return
    if any(image.name == name for image in configured.images):
        raise ImageError(
            f"{name!r} is offered by the settings (images): take it out there and run "
            "'taccuino up'"
        )
    names = ", ".join(image.name for image in offers_file.load_offers(path)) or "none"
    raise ImageError(f"{name!r} is not offered; offered with this command: {names}")


@app.command()
def base(
    source: Annotated[
        str | None,
        typer.Option(
            "--from", help="The image of Debian or Ubuntu to start from, or 'mirror'."
        ),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Make the base image if its recipe changed (`taccuino up` does the same)."""
    if source and source != MIRROR:
        reference_of(source)  # refuses what is none
    configured = _settings(settings)
    ensure_base_image(configured, _say, source=source)
    _export(configured)


def _settings(path: Path | None) -> Settings:
    """The running instance's resolved settings, unless a file is named."""
    settings = local.as_resolved(Settings.load(path))
    if settings.local.sites:
        mend = f"set TACCUINO_STATE={settings.state_dir}/sites/<name> for one of them"
        fault = Fault(
            "image", "this machine runs several sites, with images of their own", mend
        )
        raise SettingsError("image", [fault])
    return settings


def _recipe(path: Path) -> tuple[Path, Path]:
    """The context and the Containerfile.

    Raises
    ------
    ImageError
        If there is none.
    """
    if path.is_file():
        return path.parent.absolute(), path.absolute()
    for name in ("Containerfile", "Dockerfile"):
        if (path / name).is_file():
            return path.absolute(), (path / name).absolute()
    raise ImageError(
        f"{path}: there is no Containerfile; name its directory, or the file itself"
    )


def _reference(settings: Settings, name: str) -> str | None:
    """The reference of an offer by its name."""
    for image in (
        *offers_file.load_offers(offers_file.offers_path(settings)),
        *settings.images,
    ):
        if image.name == name:
            return image.reference
    return None


def _check(store: object, reference: str) -> None:

    assert isinstance(store, ImageStore)
    proofs = check_image(store, reference, _say)
    table = Table("", "Proof", "What was found", box=None, pad_edge=False)
    for proof in proofs:
        mark = "[green]passed[/green]" if proof.passed else "[red]FAILED[/red]"
        table.add_row(mark, proof.name, proof.detail)
    _console.print(table)
    failed = [proof.name for proof in proofs if not proof.passed and proof.name != "log"]
    if failed:
        raise ImageError(f"{reference} does not work as a notebook server: {', '.join(failed)}")


def _offer(settings: Settings, image: ImageSettings) -> None:

    offers_file.offer(offers_file.offers_path(settings), image)
    _export(settings)
    whom = f"members of {', '.join(image.groups)}" if image.groups else "everyone"
    _say(f"{image.name} is offered to {whom}. To undo: taccuino image withdraw {image.name}")


def _export(settings: Settings) -> None:
    """Bring what the edge serves in line with what is offered."""
    if settings.local.front_end_port is not None:
        export_front_ends(settings, _say)


def _offer_columns(image: ImageSettings | None) -> tuple[str, str]:
    if image is None:
        return "", ""
    name = f"{image.name} (default)" if image.default else image.name
    return name, ", ".join(image.groups) or "everyone"
