"""Which images' files are served, and where: one file, written by ``export``, read by all.

``<state_dir>/front-end/`` holds ``catalogue.json`` and, below ``static``, a directory for each
set of files, named by the hash of its content: images that have the same JupyterLab share it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from taccuino.settings import Settings

__all__ = [
    "URL_PREFIX",
    "Entry",
    "FrontEnd",
    "directory",
    "front_end_of",
    "front_end_of_reference",
    "load",
    "save",
    "tree",
]

URL_PREFIX = "/static/"
"""What the addresses begin with, at the service's own origin."""


class Entry(BaseModel):
    """What is known of one image."""

    references: list[str] = []
    """What it was called when it was exported."""
    trees: dict[str, str] = {}
    """The hash of each part; none where the image hands nothing out."""
    preload: dict[str, list[str]] = {}
    """By application, the paths (below ``URL_PREFIX``) of what its start loads."""


@dataclass(frozen=True)
class FrontEnd:
    """Where one image's files are served, as paths at the service's address."""

    addresses: Mapping[str, str]
    """By part: ``lab``, ``notebook``, ``extensions``, ``themes``."""
    preload: Mapping[str, list[str]]
    """By application: what its start loads, the first ones first."""


_CATALOGUE = TypeAdapter(dict[str, Entry])


def directory(settings: Settings) -> Path:
    """Where all of it lies."""
    return settings.state_dir / "front-end"


def tree(settings: Settings, digest: str) -> Path:
    """The directory of one set of files."""
    return directory(settings) / "static" / digest


def load(settings: Settings) -> dict[str, Entry]:
    """The catalogue by the images' ids; empty if there is none that can be read."""
    try:
        return _CATALOGUE.validate_json((directory(settings) / "catalogue.json").read_bytes())
    except (OSError, ValidationError):
        return {}  # servers hand out their own files, and the next `up` writes it anew


def save(settings: Settings, catalogue: Mapping[str, Entry]) -> None:
    """Write it in one step: hubs may be reading."""
    path = directory(settings) / "catalogue.json"
    partial = path.with_suffix(f".{os.getpid()}.new")
    partial.write_bytes(_CATALOGUE.dump_json(dict(catalogue), indent=1) + b"\n")
    partial.replace(path)


def front_end_of(settings: Settings, image_id: str) -> FrontEnd | None:
    """Where an image's files are served; nothing where its servers hand out their own."""
    return _served(settings, load(settings).get(image_id.removeprefix("sha256:")))


def front_end_of_reference(settings: Settings, reference: str) -> FrontEnd | None:
    """As `front_end_of`, for what was called so at its export: good enough to preload."""
    entries = load(settings).values()
    return _served(settings, next((e for e in entries if reference in e.references), None))


def _served(settings: Settings, entry: Entry | None) -> FrontEnd | None:
    if entry is None or not entry.trees or settings.local.front_end_port is None:
        return None
    if not all(tree(settings, digest).is_dir() for digest in entry.trees.values()):
        return None
    return FrontEnd(
        {part: f"{URL_PREFIX}{digest}" for part, digest in entry.trees.items()},
        {name: [URL_PREFIX + path for path in paths] for name, paths in entry.preload.items()},
    )
