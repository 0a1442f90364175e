"""What people do in cloud_storage, each a function over a directory; run as the user.

Each returns the seconds that it took, from the first call until the last one returned.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1 << 20
LARGE = 256
"""MiB of the large file."""
SMALL_FILES = 1000
SMALL = 4096
"""Bytes of a small file."""
SAVES = 20
NOTEBOOKS = 10
"""That are opened one after the other; one alone is over before a busy machine is even."""


class Clock:
    """The seconds between the beginning and the end of a `with` block."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    """Measure a block."""
    clock = Clock()
    began = time.perf_counter()
    yield clock
    clock.seconds = time.perf_counter() - began


def block(number: int) -> bytes:
    """A MiB that does not compress, the same at each call."""
    seed = hashlib.sha256(str(number).encode()).digest()
    return hashlib.shake_256(seed).digest(MIB)


BLOCKS = [block(number) for number in range(8)]


def write_large(directory: Path) -> float:
    """Write the large file from the beginning to the end."""
    with timed() as clock, (directory / "large.bin").open("wb", buffering=0) as file:
        for number in range(LARGE):
            file.write(BLOCKS[number % len(BLOCKS)])
    return clock.seconds


def read_large(directory: Path) -> float:
    """Read it from the beginning to the end, and see that it is what was written."""
    buffer = bytearray(MIB)
    with timed() as clock, (directory / "large.bin").open("rb", buffering=0) as file:
        for number in range(LARGE):
            view = memoryview(buffer)
            while view:
                got = file.readinto(view)
                if not got:
                    raise AssertionError(f"large.bin ends within MiB {number}")
                view = view[got:]
            if buffer != BLOCKS[number % len(BLOCKS)]:
                raise AssertionError(f"MiB {number} of large.bin is not what was written")
    return clock.seconds


def create_small(directory: Path) -> float:
    """Create the small files, one after the other."""
    folder = directory / "small"
    with timed() as clock:
        folder.mkdir()
        for number in range(SMALL_FILES):
            (folder / f"{number:04}.dat").write_bytes(BLOCKS[number % 8][:SMALL])
    return clock.seconds


def stat_small(directory: Path) -> float:
    """List their directory with each file's size and time, as ``ls -l`` does."""
    with timed() as clock:
        entries = list(os.scandir(directory / "small"))
        sizes = [entry.stat().st_size for entry in entries]
    if sizes != [SMALL] * SMALL_FILES:
        raise AssertionError(f"{len(sizes)} small files of sizes {sorted(set(sizes))[:5]}")
    return clock.seconds


def read_small(directory: Path) -> float:
    """Read each of them."""
    folder = directory / "small"
    with timed() as clock:
        for number in range(SMALL_FILES):
            if (folder / f"{number:04}.dat").read_bytes() != BLOCKS[number % 8][:SMALL]:
                raise AssertionError(f"small file {number} is not what was written")
    return clock.seconds


def make_repository(directory: Path, files: int = 200) -> None:
    """A repository of some commits to clone."""
    subprocess.run(["git", "init", "--quiet", directory], check=True)
    for number in range(files):
        path = directory / f"part{number % 10}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(f"value_{number}_{line} = {line}" for line in range(120)))
        if number % 40 == 39:
            author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
            subprocess.run(["git", "-C", directory, "add", "."], check=True)
            words = ["git", "-C", directory, *author, "commit", "--quiet", "-m", str(number)]
            subprocess.run(words, check=True)


def clone(source: Path, directory: Path) -> float:
    """Clone it over git's own protocol, and look at the result."""
    target = directory / "clone"
    safe = ["-c", "safe.directory=*"]
    git = ["git", *safe]
    upload = f"git {' '.join(safe)} upload-pack"
    words = [*git, "clone", "--quiet", "--upload-pack", upload, f"file://{source}", str(target)]
    with timed() as clock:
        done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"git clone: {done.stderr.strip()[-300:]}")
    words = [*git, "-C", str(target), "fsck", "--full"]
    subprocess.run(words, check=True, capture_output=True)
    return clock.seconds


def notebook(cells: int, version: int = 0) -> str:
    """A notebook of about 1 kB a cell."""
    output = {"output_type": "stream", "name": "stdout", "text": ["0.123456789 " * 60]}
    cell = {
        "cell_type": "code",
        "execution_count": version,
        "metadata": {},
        "outputs": [output],
        "source": ["import numpy as np\n", f"np.random.default_rng({version})\n"],
    }
    items = [cell | {"id": f"cell-{number}"} for number in range(cells)]
    return json.dumps({"cells": items, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def save_notebook(path: Path, text: str) -> None:
    """Save as Jupyter does when the user presses Ctrl-S.

    jupyter_server's ``atomic_writing`` (services/contents/fileio.py) copies the old file aside,
    writes in place, syncs, and removes the copy; then the checkpoint is copied from the file.
    """
    aside = path.with_name(f".~{path.name}")
    if path.exists():
        copy(path, aside)
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if aside.exists():
        aside.unlink()
    path.stat()
    checkpoints = path.parent / ".ipynb_checkpoints"
    checkpoints.mkdir(exist_ok=True)
    checkpoint = checkpoints / f"{path.stem}-checkpoint{path.suffix}"
    copy(path, checkpoint)
    checkpoint.stat()


def copy(source: Path, target: Path) -> None:
    """Copy a file, and what can be of its times and mode (its ``copy2_safe``)."""
    shutil.copyfile(source, target)
    with suppress(OSError):
        shutil.copystat(source, target)


def save_notebooks(directory: Path) -> float:
    """Save one notebook again and again."""
    path = directory / "work.ipynb"
    texts = [notebook(60, version) for version in range(SAVES)]
    with timed() as clock:
        for text in texts:
            save_notebook(path, text)
    if path.read_text() != texts[-1]:
        raise AssertionError("the notebook is not what was saved last")
    return clock.seconds


def open_notebooks(directory: Path) -> float:
    """Open notebooks of a megabyte as Jupyter does: look, then read all of it."""
    cells = []
    with timed() as clock:
        for number in range(NOTEBOOKS):
            path = directory / f"large{number}.ipynb"
            os.access(path, os.W_OK)
            path.stat()
            with path.open(encoding="utf-8") as file:
                cells.append(len(json.load(file)["cells"]))
    if cells != [1000] * NOTEBOOKS:
        raise AssertionError(f"the notebooks have {cells} cells")
    return clock.seconds


def write_notebooks(directory: Path) -> float:
    """Make the notebooks that are opened later."""
    text = notebook(1000)
    with timed() as clock:
        for number in range(NOTEBOOKS):
            (directory / f"large{number}.ipynb").write_text(text)
    return clock.seconds
