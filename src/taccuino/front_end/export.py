"""Takes the static files out of images: each once, when it is offered or the service comes up.

The image hands them out itself, as a tar, from a container without a network or rights. Only
regular files with plain names are taken out of it. They are compressed here, so that nobody
compresses them again: brotli at quality 9 takes a sixth off the size that gzip gives
JupyterLab's core, for a second of CPU an image; quality 11 takes half a minute for another
twelfth.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import brotli

from taccuino.settings import Settings

from . import catalogue
from .boot_files import boot_files
from .catalogue import Entry

if TYPE_CHECKING:
    from taccuino.engines.images import ImageStore, Report

__all__ = ["export_images"]

_PROGRAM = ("/opt/taccuino/bin/python", "-m", "taccuino.server.front_end")
_MOST_BYTES = 512 * 1024**2
_MOST_FILES = 50_000
_PART = re.compile(r"^[a-z]{1,20}$")
_PLAIN = re.compile(r"^[A-Za-z0-9_@+~][A-Za-z0-9._@+~ -]{0,200}$")
_COMPRESSED = {".js", ".mjs", ".css", ".json", ".svg", ".ico", ".wasm", ".txt", ".xml"}
_COMPRESSED |= {".eot", ".ttf", ".otf"}
_SMALLEST = 256  # bytes; less fits into a packet anyway
_PRELOADED_EXTENSION = 1024 * 1024  # bytes; of a larger one, its entry alone
_APPLICATIONS = ("lab", "notebook")


class ExportError(ValueError):
    """What the image handed out can't be used."""


def export_images(
    store: ImageStore, references: Iterable[str], report: Report, *, in_use: Collection[str]
) -> None:
    """Export the images of these references that are new, and forget what nobody uses.

    An image that hands nothing out is no error: its servers serve their own files.

    Parameters
    ----------
    store
        Where the images are.
    references
        All that is offered.
    report
        Told of each export.
    in_use
        Ids of images that containers were made of: their open pages ask for more files.
    """
    settings = store.settings
    root = catalogue.directory(settings)
    with _only_one(root):
        before = catalogue.load(settings)
        offered: dict[str, list[str]] = {}
        for reference in dict.fromkeys(references):
            if image := store.identity(reference):
                offered.setdefault(image, []).append(reference)
        entries = {
            image: entry.model_copy(update={"references": offered.get(image, [])})
            for image, entry in before.items()
            if image in offered or image in in_use
        }
        for image, names in offered.items():
            known = entries.get(image)
            if known and all(
                catalogue.tree(settings, d).is_dir() for d in known.trees.values()
            ):
                continue
            report(f"Front end of {names[0]}: taking its static files out")
            try:
                entries[image] = _export(store, image)
            except (ExportError, OSError, tarfile.TarError) as error:
                report(f"Front end of {names[0]}: its servers serve it themselves ({error})")
                if not isinstance(error, ExportError):
                    continue  # may be better the next time
                entries[image] = Entry()
            entries[image].references = names
        catalogue.save(settings, entries)
        _remove_others(settings, entries)


def _export(store: ImageStore, image: str) -> Entry:
    """Take one image's files out; the trees are in place when it returns."""
    settings = store.settings
    static = catalogue.directory(settings) / "static"
    static.mkdir(mode=0o711, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=static) as temporary:
        parts = _unpacked(store, image, Path(temporary))
        trees: dict[str, str] = {}
        for part, files in parts.items():
            digest = _digest(files)
            trees[part] = digest
            target = catalogue.tree(settings, digest)
            if not target.is_dir():
                _compress(files.values())
                _make_readable(Path(temporary, part))
                with suppress(FileExistsError):
                    Path(temporary, part).rename(target)
    return Entry(trees=trees, preload=_preload(settings, trees))


def _unpacked(store: ImageStore, image: str, target: Path) -> dict[str, dict[str, Path]]:
    """The image's files by part and by their path in it."""
    command = store.popen(
        *("run", "--rm", "--network=none", "--user=1000:1000", "--cap-drop=all"),
        *("--security-opt=no-new-privileges", "--read-only", "--memory=1g", "--pids-limit=64"),
        *("--pull=never", f"--entrypoint={_PROGRAM[0]}", image, *_PROGRAM[1:]),
    )
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(store.environment),
    )
    assert process.stdout is not None
    try:
        parts = unpack(process.stdout, target)
    except BaseException:
        process.kill()
        raise
    finally:
        _, said = process.communicate()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise ExportError(lines[-1][:200])
    return parts


def unpack(stream: IO[bytes], target: Path) -> dict[str, dict[str, Path]]:
    """Write the regular files of a tar below ``target``; by part and path.

    Raises
    ------
    ExportError
        If a name is not ``<part>/<path>`` of plain names, or it is all too much.
    tarfile.TarError
        If it is no tar.
    """
    parts: dict[str, dict[str, Path]] = {}
    total = 0
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for count, member in enumerate(archive):
            part, *rest = PurePosixPath(member.name).parts or ("",)
            plain = _PART.match(part) and rest and all(map(_PLAIN.match, rest))
            if not member.isreg() or not plain:
                raise ExportError(f"{member.name[:80]!r} is no file with a plain name")
            total += member.size
            if total > _MOST_BYTES or count > _MOST_FILES:
                raise ExportError("it hands out more than a front end can be")
            content = archive.extractfile(member)
            assert content is not None
            path = target.joinpath(part, *rest)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
            parts.setdefault(part, {})["/".join(rest)] = path
    if not parts:
        raise ExportError("it hands nothing out")
    return parts


def _digest(files: Mapping[str, Path]) -> str:
    """The hash of names and contents: the same files have the same address in all images."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0".encode())
        total.update(hashlib.sha256(files[name].read_bytes()).digest())
    return total.hexdigest()[:32]


def _compress(files: Iterable[Path]) -> None:
    """Lay a ``.gz`` and a ``.br`` beside each file that becomes smaller by it."""
    with ThreadPoolExecutor() as pool:  # both compressors let go of the interpreter
        list(pool.map(_compress_one, files))


def _compress_one(path: Path) -> None:
    if path.suffix.lower() not in _COMPRESSED or path.stat().st_size < _SMALLEST:
        return
    content = path.read_bytes()
    for suffix, smaller in (
        (".gz", gzip.compress(content, 9, mtime=0)),
        (".br", brotli.compress(content, quality=9, lgwin=22)),
    ):
        if len(smaller) < len(content):
            path.with_name(path.name + suffix).write_bytes(smaller)


def _make_readable(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _preload(settings: Settings, trees: Mapping[str, str]) -> dict[str, list[str]]:
    """By application, what its start loads, as paths below the addresses' prefix."""
    extensions = trees.get("extensions")
    shared = _extensions(catalogue.tree(settings, extensions)) if extensions else []
    found = {}
    for application in _APPLICATIONS:
        if digest := trees.get(application):
            directory = catalogue.tree(settings, digest)
            names = [path.name for path in directory.iterdir()]
            mains = [name for name in names if re.fullmatch(r"main\.[0-9a-f]+\.js", name)]
            if len(mains) == 1:
                text = (directory / mains[0]).read_text(encoding="utf-8")
                loaded = mains + boot_files(text, names)
                found[application] = [f"{digest}/{_asked_for(name)}" for name in loaded]
                found[application] += [f"{extensions}/{one}" for one in shared]
    return found


def _extensions(directory: Path) -> list[str]:
    """The scripts of the extensions, which all of them are loaded at a start."""
    paths: list[str] = []
    for static in sorted(path for path in directory.rglob("static") if path.is_dir()):
        scripts = sorted(static.glob("*.js"))
        if sum(path.stat().st_size for path in scripts) > _PRELOADED_EXTENSION:
            scripts = [path for path in scripts if path.name.startswith("remoteEntry.")]
        where = static.relative_to(directory).as_posix()
        paths += [f"{where}/{_asked_for(path.name)}" for path in scripts]
    return paths


def _asked_for(name: str) -> str:
    """A script's name as the front end's loader asks for it: with its hash once more."""
    match = re.fullmatch(r"(?!remoteEntry)[\w-]+\.([0-9a-f]{16,})\.js", name)
    return f"{name}?v={match[1]}" if match else name


def _remove_others(settings: Settings, entries: Mapping[str, Entry]) -> None:
    """Remove the trees that no entry names."""
    wanted = {digest for entry in entries.values() for digest in entry.trees.values()}
    for path in (catalogue.directory(settings) / "static").iterdir():
        if path.name not in wanted:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """`taccuino up` and `taccuino image` export one after the other."""
    root.mkdir(mode=0o711, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
