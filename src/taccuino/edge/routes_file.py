"""The file that keeps the routes, changed in place where it is large.

With 5,000 routes the file has a megabyte: to write it anew for each of them cost more than all
else of a change, and wrote a megabyte to the disk for each server that started or stopped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from .routemap import HEADER, OFF, ON, Route, format_map, parse_map
from .runtime import EdgeError

__all__ = ["RoutesFile"]

_LARGE_CHANGE = 0.1
"""A change of more than this part of the routes writes the whole file."""


class RoutesFile:
    """The routes by their keys, in memory and in the file.

    An entry of the file is *switched* by one byte: the line that HAProxy takes begins with a
    space, and with ``#``, as a comment does, where the route is no more. A new route is
    appended switched off, then switched on. One byte can't be written in part, so whoever is
    killed at any moment leaves each route as it was or as it was to be, and whoever reads at
    any moment finds no half line. What is switched off is cleared away when it takes more than
    what is on: then, as for a large change or a file that somebody else wrote, the whole file
    is written and takes the old one's place in one step.

    Nothing is synced to the disk: after a power cut there are no servers to route to.

    Parameters
    ----------
    path
        The file; it need not be there.
    complain
        Told of each line that could not be used.
    """

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain
        self._routes: dict[str, Route] | None = None
        self._switches: dict[str, int] = {}
        """Where in the file each route's switch is."""
        self._identity: tuple[int, int, int] | None = None
        """Device, inode and size of the file as it was left here; None: write it anew."""
        self._live = 0
        """Bytes of the entries that are switched on."""
        # Called in threads; the thread of a call that was cancelled goes on.
        self._lock = threading.Lock()

    @property
    def known(self) -> list[Route]:
        """The routes as far as they were read or set here; waits for nothing."""
        return list((self._routes or {}).values())

    def routes(self) -> Mapping[str, Route]:
        """The routes; the file is read once.

        Raises
        ------
        EdgeError
            If it can't be read.
        """
        with self._lock:
            return self._load()

    def change(self, changes: Mapping[str, Route | None]) -> dict[str, Route | None]:
        """Set routes, remove those that are None; the changes that undo it.

        Raises
        ------
        EdgeError
            If the file can't be written; then nothing has changed.
        """
        with self._lock:
            routes = self._load()
            real = {key: route for key, route in changes.items() if routes.get(key) != route}
            undo = {key: routes.get(key) for key in real}
            try:
                if real and not self._change_in_place(routes, real):
                    self._write_all(_apply(dict(routes), real))
            except OSError as error:
                self._identity = None
                raise EdgeError(
                    f"{self._path}: {error.strerror}; no route was changed"
                ) from error
            _apply(routes, real)
            return undo

    def _load(self) -> dict[str, Route]:
        if self._routes is None:
            try:
                text = self._path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                text = ""
            except OSError as error:
                raise EdgeError(f"{self._path}: {error.strerror}") from error
            self._routes, faults = parse_map(text)
            for line in faults:
                self._complain(f"{self._path}: not understood: {line:.200}")
        return self._routes

    def _change_in_place(
        self, routes: Mapping[str, Route], changes: Mapping[str, Route | None]
    ) -> bool:
        """Append and switch; false if the whole file must or had better be written."""
        if self._identity is None or len(changes) > _LARGE_CHANGE * len(routes):
            return False
        size = self._identity[2]
        added, switches = _switched_off(changes, size)
        gone = [key for key in changes if key in routes]
        live = self._live + len(added) - sum(len(routes[key].entry) for key in gone)
        if size + len(added) > 2 * live + len(HEADER):
            return False
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if _identity(descriptor) != self._identity:
                return False
            off = [self._switches[key] for key in gone]
            _append_and_switch(descriptor, size, added, off, list(switches.values()))
            self._identity = _identity(descriptor)
        finally:
            os.close(descriptor)
        for key in gone:
            del self._switches[key]
        self._switches |= switches
        self._live = live
        return True

    def _write_all(self, routes: Mapping[str, Route]) -> None:
        """Write the whole file, mode 0600, in one step."""
        text = format_map(routes.values()).encode()
        new = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(descriptor, text, 0)
            new.replace(self._path)
            self._identity = _identity(descriptor)
        finally:
            os.close(descriptor)
        place, self._switches = len(HEADER), {}
        for key, route in routes.items():
            self._switches[key] = place + route.switch
            place += len(route.entry)
        self._live = place - len(HEADER)


def _switched_off(
    changes: Mapping[str, Route | None], place: int
) -> tuple[bytes, dict[str, int]]:
    """The entries to be appended at this place of the file, and where their switches are."""
    text, switches = bytearray(), {}
    for key, route in changes.items():
        if route is not None:
            switches[key] = place + len(text) + route.switch
            text += route.entry.encode()
            text[switches[key] - place] = ord(OFF)
    return bytes(text), switches


def _append_and_switch(
    descriptor: int, size: int, text: bytes, off: list[int], on: list[int]
) -> None:
    """Change a file of this size, or leave it as it was and raise OSError."""
    try:
        _write(descriptor, text, size)
        # Old entries first: of two with one key, HAProxy would serve the old one.
        for place in off:
            _write(descriptor, OFF, place)
        for place in on:
            _write(descriptor, ON, place)
    except OSError:
        os.ftruncate(descriptor, size)
        for place in off:
            _write(descriptor, ON, place)
        raise


def _identity(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size


def _write(descriptor: int, text: bytes, place: int) -> None:
    """Write all of it: a disk that is almost full takes a part, and refuses the next."""
    while text:
        written = os.pwrite(descriptor, text, place)
        text, place = text[written:], place + written


def _apply(routes: dict[str, Route], changes: Mapping[str, Route | None]) -> dict[str, Route]:
    for key, route in changes.items():
        if route is None:
            routes.pop(key, None)
        else:
            routes[key] = route
    return routes
