"""The image's static files: written out for the edge, and referred to where it serves them.

JupyterLab's scripts, those of its extensions and the themes are the same for all users of an
image. ``taccuino up`` runs this module in a container of each offered image, which writes them
to its standard output as a tar; the edge serves them, and tells the servers of that image where
(``TACCUINO_FRONT_END``). What a user has installed themselves comes from their own server.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["ADDRESSES_VARIABLE", "addresses", "install", "public_files", "shared_page_config"]

ADDRESSES_VARIABLE = "TACCUINO_FRONT_END"
"""JSON: the address of each part that the edge serves, such as ``{"lab": "/static/1f..."}``."""
LAB, NOTEBOOK, EXTENSIONS, THEMES = "lab", "notebook", "extensions", "themes"

_LEFT_OUT = {".html", ".htm", ".xhtml", ".map"}
"""Pages come from the server, which fills them in; maps serve those who debug the front end."""
_UP = "../" * 16
"""More steps than any address has: a browser stops at the top."""

PageConfig = dict[str, Any]


# -- out of the image


def write_files(stream: BinaryIO) -> None:
    """Write the public files of this image as a tar; names are ``<part>/<path>``."""
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, file in sorted(public_files(*_installed()).items()):
            entry = tarfile.TarInfo(name)
            entry.size = file.stat().st_size
            with file.open("rb") as content:
                archive.addfile(entry, content)


def public_files(
    statics: Mapping[str, Path], extensions: Mapping[str, Path], themes: Path | None
) -> dict[str, Path]:
    """The files by their names in the archive.

    Parameters
    ----------
    statics
        The directory of each application's own files, by the application's name.
    extensions
        The image's extensions by name: each one's directory, with ``static`` and maybe
        ``themes`` in it.
    themes
        The directory of the application's own themes.
    """
    found: dict[str, Path] = {}
    for part, directory in statics.items():
        found |= dict(_below(directory, part))
    if themes:
        found |= dict(_below(themes, THEMES))
    for name, directory in extensions.items():
        found |= dict(_below(directory / "static", f"{EXTENSIONS}/{name}/static"))
        for theme in sorted(directory.rglob("themes")):
            found |= dict(_below(theme, THEMES))  # they win, as they do on the server
    return found


def _below(directory: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The regular files below a directory; no link is followed, nothing hidden is taken."""
    for folder, folders, files in os.walk(directory):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for one in files:
            path = Path(folder, one)
            if one.startswith(".") or path.suffix.lower() in _LEFT_OUT or path.is_symlink():
                continue
            if path.is_file():
                yield f"{name}/{path.relative_to(directory).as_posix()}", path


def _installed() -> tuple[dict[str, Path], dict[str, Path], Path | None]:
    """What `public_files` takes, as this image has it."""
    from jupyter_core.paths import jupyter_path
    from jupyterlab.commands import get_app_dir

    app = Path(get_app_dir())
    statics = {LAB: app / "static"}
    try:
        import notebook
    except ImportError:
        pass
    else:
        statics[NOTEBOOK] = Path(notebook.__file__).parent / "static"
    paths = jupyter_path("labextensions")
    extensions: dict[str, Path] = {}
    for path in paths:
        for pattern in ("[!@]*/package.json", "@*/*/package.json"):
            for package in sorted(Path(path).glob(pattern)):
                name = package.parent.relative_to(path).as_posix()
                if name not in extensions and is_of_the_image(paths, name):
                    extensions[name] = package.parent
    return statics, extensions, app / "themes"


def is_of_the_image(labextensions_path: Iterable[str], name: str) -> bool:
    """Whether an extension belongs to the image, and is no user's own.

    It is the user's if its directory is not there by that name, is a link (``jupyter
    labextension develop``), or can be written to: what is the image's is root's.
    """
    for path in labextensions_path:
        directory = Path(path, name)
        if (directory / "package.json").is_file():
            places = [directory, directory / "static"]
            return not any(place.is_symlink() or os.access(place, os.W_OK) for place in places)
    return False


# -- into the pages


def addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Where the edge serves this image's files, by part; nothing where it does not."""
    try:
        told = json.loads(environment.get(ADDRESSES_VARIABLE) or "{}")
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    return {
        part: address.rstrip("/")
        for part, address in told.items()
        if isinstance(address, str) and address.startswith("/")
    }


def shared_page_config(
    config: PageConfig,
    application: str,
    shared: Mapping[str, str],
    is_shared: Callable[[str], bool],
    themes_of_their_own: bool,
) -> PageConfig:
    """The configuration of a page whose files come from the edge where it has them.

    JupyterLab makes an extension's address of one address for all, a name and the file's
    path; the path of a user's own extension leads out of there and back to their server.

    Parameters
    ----------
    config
        JupyterLab's page configuration; it is not changed.
    application
        ``lab`` or ``notebook``.
    shared
        The edge's address of each part.
    is_shared
        Whether an extension, by name, is the image's.
    themes_of_their_own
        Whether the user has installed a theme: all themes have one address.
    """
    changed = dict(config)
    if application in shared:
        changed["fullStaticUrl"] = shared[application]
    if THEMES in shared and not themes_of_their_own:
        changed["fullThemesUrl"] = shared[THEMES]
        changed["themesUrl"] = _UP + shared[THEMES].lstrip("/")  # is joined to the base URL
    if EXTENSIONS in shared:
        own = str(config.get("fullLabextensionsUrl", ""))
        changed["fullLabextensionsUrl"] = shared[EXTENSIONS]
        changed["federated_extensions"] = [
            extension
            if is_shared(extension["name"])
            else extension
            | {"load": f"{_UP}{own.lstrip('/')}/{extension['name']}/{extension['load']}"}
            for extension in config.get("federated_extensions", [])
        ]
    return changed


def install(settings: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Have JupyterLab's and Notebook's pages refer to the edge; ``settings`` are tornado's."""
    shared = addresses(environment)
    if not shared:
        return
    before = settings.get("page_config_hook")

    def hook(handler: Any, config: PageConfig) -> PageConfig:
        if before:
            config = before(handler, config)
        app = handler.extensionapp
        paths: Sequence[str] = [*app.extra_labextensions_path, *app.labextensions_path]
        names = [extension["name"] for extension in config.get("federated_extensions", [])]
        of_the_image = {name for name in names if is_of_the_image(paths, name)}
        own = [name for name in names if name not in of_the_image]
        return shared_page_config(
            config,
            app.name,
            shared,
            of_the_image.__contains__,
            any(_has_themes(paths, name) for name in own),
        )

    settings["page_config_hook"] = hook


def _has_themes(paths: Iterable[str], name: str) -> bool:
    return any(any(Path(path, name).rglob("themes")) for path in paths)


if __name__ == "__main__":
    write_files(sys.stdout.buffer)
