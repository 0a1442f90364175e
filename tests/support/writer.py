"""A program that saves files without end, and notes what was saved; run inside a server.

Standard library only: its text is sent into the container. Each step is noted in a ledger, one
JSON object a line: ``begin`` before anything is touched, ``done`` when ``close()``, ``fsync()`` or
``rename()`` has returned, ``failed`` when the system refused. What is ``done`` must be kept; ``wrong`` is noted when it is not, already now.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, TextIO

SMALL, LARGE = 48 * 1024, 6 * 1024 * 1024


class Writer:
    """Saves files below ``folder`` in the ways in which programs save them."""

    def __init__(self, folder: Path, ledger: TextIO, seed: int) -> None:
        self.folder = folder
        self.ledger = ledger
        self.chance = random.Random(seed)
        self.known: dict[str, str] = {}
        self.held: list[Any] = []
        self.way = ""

    def note(self, step: str, **what: Any) -> None:
        self.ledger.write(json.dumps({"step": step, "at": time.time(), **what}) + "\n")
        self.ledger.flush()

    def content(self) -> bytes:
        size = self.chance.choice((1, SMALL, SMALL, SMALL, LARGE))
        return self.chance.randbytes(self.chance.randint(0, size))

    def turn(self, number: int) -> None:
        """Save one file, in a way that chance chooses."""
        way = self.chance.choice(
            (self.create, self.create, self.replace, self.rewrite, self.append, self.sync)
        )
        name = f"{number:05}"
        if way in (self.replace, self.rewrite, self.append) and self.known:
            name = self.chance.choice(list(self.known))
        before, self.way = self.known.pop(name, None), way.__name__
        try:
            self.known[name] = way(name, before)
        except OSError as error:
            self.note("failed", name=name, errno=error.errno, message=str(error))
            time.sleep(0.1)

    def create(self, name: str, _: str | None) -> str:
        """A new file, and its ``close()``."""
        return self._write(name, self.content(), "wb")

    def rewrite(self, name: str, _: str | None) -> str:
        """An existing file is truncated and written anew."""
        return self._write(name, self.content(), "wb")

    def append(self, name: str, known: str | None) -> str:
        """Something is added to the end of a file, which must be what was saved before."""
        path = self.folder / name
        there = path.read_bytes() if known else b""
        if known and _sha256(there) != known:
            self.note("wrong", name=name, sha256=known, found=_sha256(there))
        return self._write(name, self.content(), "ab", there)

    def replace(self, name: str, _: str | None) -> str:
        """As Jupyter and editors save: a file beside it is renamed over the old one."""
        data = self.content()
        beside = self.folder / f".~{name}"
        self.note("begin", name=name, way=self.way, sha256=_sha256(data), atomic=True)
        beside.write_bytes(data)
        beside.replace(self.folder / name)
        return self._done(name, data)

    def sync(self, name: str, _: str | None) -> str:
        """A new file that stays open after its ``fsync()``."""
        data = self.content()
        self.note("begin", name=name, way=self.way, sha256=_sha256(data), atomic=False)
        file = (self.folder / name).open("wb")
        self.held.append(file)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if len(self.held) > 4:
            self.held.pop(0).close()
        return self._done(name, data)

    def _write(self, name: str, data: bytes, mode: str, before: bytes = b"") -> str:
        whole = before + data
        self.note("begin", name=name, way=self.way, sha256=_sha256(whole), atomic=False)
        with (self.folder / name).open(mode) as file:
            file.write(data)
        return self._done(name, whole)

    def _done(self, name: str, data: bytes) -> str:
        self.note("done", name=name, way=self.way, sha256=_sha256(data), size=len(data))
        return _sha256(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(folder: str, ledger: str, seed: str, seconds: str, pause: str) -> None:
    """Save files for as many seconds, with a pause between two."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with Path(ledger).open("a", encoding="utf-8") as file:
        writer = Writer(Path(folder), file, int(seed))
        end, number = time.monotonic() + float(seconds), 0
        while time.monotonic() < end:
            writer.turn(number)
            number += 1
            time.sleep(float(pause))
        for held in writer.held:
            held.close()
        writer.note("end")


if __name__ == "__main__":
    main(*sys.argv[1:])
