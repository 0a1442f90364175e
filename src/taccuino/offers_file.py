"""``offers.json``: the images that ``taccuino image offer`` added to those of the settings.

The command writes it and the hub reads it whenever it shows the form, so an offer needs no
restart. It stands beside `settings` since both sides use it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from .errors import Fault, SettingsError
from .settings import ImageSettings, Settings

__all__ = ["load_offers", "offer", "offers_path", "withdraw"]

_IMAGES = TypeAdapter(list[ImageSettings])


def offers_path(settings: Settings) -> Path:
    """Where the file is."""
    return settings.state_dir / "offers.json"


def load_offers(path: Path) -> list[ImageSettings]:
    """The images offered; none if the file is not there.

    Raises
    ------
    SettingsError
        If it can't be read or is no list of images.
    """
    try:
        return _IMAGES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        fault = Fault("file", str(error.strerror), "mend its mode")
        raise SettingsError(str(path), [fault]) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        mend = "mend it, or remove the file and offer the images again"
        raise SettingsError(str(path), [Fault(key, first["msg"], mend)]) from None


def offer(path: Path, image: ImageSettings) -> None:
    """Add an image, or replace the offer of its name.

    An image that is the default takes that from the other ones in the file.
    """
    with _locked(path):
        others = [other for other in load_offers(path) if other.name != image.name]
        if image.default:
            others = [other.model_copy(update={"default": False}) for other in others]
        _save(path, [*others, image])


def withdraw(path: Path, name: str) -> bool:
    """Take an offer away; whether there was one."""
    with _locked(path):
        images = load_offers(path)
        rest = [image for image in images if image.name != name]
        if len(rest) == len(images):
            return False
        _save(path, rest)
        return True


def _save(path: Path, images: list[ImageSettings]) -> None:
    """Write in one step: the hub may be reading."""
    partial = path.with_suffix(f".{os.getpid()}.new")
    partial.write_bytes(_IMAGES.dump_json(images, indent=2) + b"\n")
    partial.chmod(0o644)
    partial.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands change the file one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
