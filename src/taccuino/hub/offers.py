"""What a user is offered, and whether what they ask for is on offer.

Pure: no JupyterHub and no files. The same ``Offers.validate`` decides for the form, for links
with options and for the REST API.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from taccuino.errors import TaccuinoError
from taccuino.settings import FlavourSettings, ImageSettings, Settings, format_size, parse_size

__all__ = [
    "INTERFACES",
    "Interface",
    "NotebookOptions",
    "Offers",
    "OptionsError",
    "cpu_label",
    "memory_label",
]

Interface = Literal["lab", "notebook"]

INTERFACES: Mapping[Interface, str] = {
    "lab": "JupyterLab",
    "notebook": "Notebook",
}
"""What users may choose as their interface, and what the form calls it."""

_KEYS = ("image", "cpu", "memory", "interface")
_NUMBER = re.compile(r"^\d{1,6}(\.\d{1,6})?$")
_LONGEST_VALUE = 64  # characters; no offer's name or size is longer


class OptionsError(TaccuinoError):
    """A server option that is not on offer; the text names what is."""


@dataclass(frozen=True)
class NotebookOptions:
    """The options of one notebook server, each of them on offer to its user."""

    image: str
    """The offered image's name."""
    reference: str
    """The image in the engine."""
    cpu: float
    memory: str
    """In its shortest form, such as ``2G``."""
    interface: Interface

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return parse_size(self.memory)

    def as_user_options(self) -> dict[str, Any]:
        """The form that JupyterHub keeps in its database and shows in its API."""
        return {key: getattr(self, key) for key in _KEYS}


@dataclass(frozen=True)
class Offers:
    """The images and flavours that one user may choose from."""

    images: tuple[ImageSettings, ...]
    flavours: tuple[FlavourSettings, ...]

    @classmethod
    def of(
        cls, settings: Settings, groups: Iterable[str], offered: Iterable[ImageSettings] = ()
    ) -> Offers:
        """The offers to a member of ``groups``.

        ``offered`` are the images of ``taccuino image offer``; one with the name of an image in
        the settings takes its place.
        """
        mine = {_plain(group) for group in groups}
        by_name = {image.name: image for image in (*settings.images, *offered)}
        return cls(
            tuple(image for image in by_name.values() if _may_use(image.groups, mine)),
            tuple(item for item in settings.flavours if _may_use(item.groups, mine)),
        )

    @property
    def default_image(self) -> ImageSettings:
        """The image of a user who does not choose: the last one marked, else the first."""
        if not self.images:
            raise OptionsError(
                "No image is offered to you or your groups; ask the operators of this service"
            )
        return next((image for image in reversed(self.images) if image.default), self.images[0])

    @property
    def cpus(self) -> tuple[float, ...]:
        """Every number of CPUs on offer, in the settings' order."""
        return tuple(dict.fromkeys(cpus for item in self.flavours for cpus in item.cpus))

    @property
    def memory(self) -> tuple[str, ...]:
        """Every size of memory on offer, in the settings' order."""
        return tuple(dict.fromkeys(size for item in self.flavours for size in item.memory))

    def memory_with(self, cpus: float) -> tuple[str, ...]:
        """The memory that may be chosen together with so many CPUs."""
        sizes = (size for item in self.flavours if cpus in item.cpus for size in item.memory)
        return tuple(dict.fromkeys(sizes))

    def validate(self, options: object) -> NotebookOptions:
        """Check the options a user asks for; what is missing gets its default.

        Raises
        ------
        OptionsError
            If a key is unknown or a value is not on offer.
        """
        if options is None:
            options = {}
        if not isinstance(options, dict):
            raise OptionsError(f"The options must be an object with {_all(_KEYS)}")
        if unknown := [key for key in options if key not in _KEYS]:
            raise OptionsError(
                f"There is no option {_show(unknown[0])}; there are {_all(_KEYS)}"
            )
        image = self._image(options.get("image"))
        cpus = self._cpus(options.get("cpu"))
        memory = self._memory(options.get("memory"), cpus)
        interface = self._interface(options.get("interface"))
        return NotebookOptions(image.name, image.reference, cpus, memory, interface)

    def remembered(self, options: object) -> NotebookOptions:
        """What of an earlier choice is still on offer, with defaults for the rest.

        Raises
        ------
        OptionsError
            If nothing at all is offered.
        """
        kept: dict[str, Any] = {}
        for key in _KEYS:
            if isinstance(options, dict) and options.get(key) is not None:
                try:
                    self.validate({**kept, key: options[key]})
                except OptionsError:
                    continue
                kept[key] = options[key]
        return self.validate(kept)

    def _image(self, value: object) -> ImageSettings:
        if value is None:
            return self.default_image
        for image in self.images:
            if isinstance(value, str) and value == image.name:
                return image
        offered = _either(image.name for image in self.images)
        raise OptionsError(f"Image {_show(value)} is not offered to you; choose {offered}")

    def _cpus(self, value: object) -> float:
        if not self.flavours:
            raise OptionsError(
                "No CPUs and memory are offered to you or your groups; "
                "ask the operators of this service"
            )
        if value is None:
            return self.cpus[0]
        number = _number(value)
        for cpus in self.cpus:
            if number is not None and math.isclose(cpus, number, rel_tol=1e-9):
                return cpus
        offered = _either(f"{cpus:g}" for cpus in self.cpus)
        raise OptionsError(f"{_show(value)} CPUs are not offered to you; choose {offered}")

    def _memory(self, value: object, cpus: float) -> str:
        sizes = self.memory_with(cpus)
        if value is None:
            return sizes[0]
        wanted = _size(value)
        for size in sizes:
            if wanted is not None and parse_size(size) == wanted:
                return size
        raise OptionsError(
            f"{_show(value)} of memory is not offered to you with {cpu_label(cpus)}; "
            f"choose {_either(sizes)}"
        )

    def _interface(self, value: object) -> Interface:
        if value is None:
            return "lab"
        if isinstance(value, str) and value in INTERFACES:
            return cast("Interface", value)
        offered = _either(INTERFACES)
        raise OptionsError(f"There is no interface {_show(value)}; choose {offered}")


def _plain(group: str) -> str:
    """A group's name without the leading slash that some IAMs put."""
    return group.removeprefix("/")


def _may_use(groups: list[str], mine: set[str]) -> bool:
    return not groups or any(_plain(group) in mine for group in groups)


def _number(value: object) -> float | None:
    """A plain decimal number; ``None`` for NaN, infinity, booleans and everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 < value < 1e6 else None
    if isinstance(value, str) and _NUMBER.match(value.strip()[:_LONGEST_VALUE]):
        return float(value)
    return None


def _size(value: object) -> int | None:
    """Bytes of ``2G``, ``2048M`` or ``2147483648``; ``None`` for what is no size."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if 0 < value < 2**60 and int(value) == value else None
    if not isinstance(value, str) or len(value) > _LONGEST_VALUE:
        return None
    try:
        return parse_size(value)
    except ValueError:
        return None


def _show(value: object) -> str:
    """A value from outside, short and printable."""
    if isinstance(value, int) and abs(value) > 10**20:
        return "A number so huge"
    text = repr(value[:_LONGEST_VALUE] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _all(words: Iterable[str]) -> str:
    return _either(words, "and")


def _either(words: Iterable[str], last: str = "or") -> str:
    items = list(words)
    if len(items) < 2:
        return "".join(items) or "nothing"
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def cpu_label(cpus: float) -> str:
    """A number of CPUs as the pages show it: ``1 CPU``, ``0.5 CPUs``."""
    return f"{cpus:g} CPU" if cpus == 1 else f"{cpus:g} CPUs"


def memory_label(size: str) -> str:
    """A size of memory as the pages show it: ``2G`` is ``2 GiB``."""
    short = format_size(parse_size(size))
    return f"{short[:-1]} {short[-1]}iB" if short[-1].isalpha() else f"{short} bytes"
