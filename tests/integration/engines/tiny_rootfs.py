"""A small image made of the host's own Python: no registry, no network, two seconds."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PYTHON = "/usr/bin/python3"
_DIRECTORIES = ("dev", "etc", "proc", "root", "run", "srv", "sys", "workarea")
_LEFT_OUT = {
    *("dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "sqlite3"),
    *("test", "tests", "tkinter", "turtledemo", "unittest", "wsgiref", "xmlrpc", "__pycache__"),
}
_PASSWD = "root:x:0:0::/root:/bin/sh\njovyan:x:1000:1000::/workarea:/bin/sh\n"


def write_rootfs(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a tar with the host's Python, a shell, ``sleep`` and further files."""
    with tarfile.open(path, "w") as archive:
        for name in _DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        entry = tarfile.TarInfo("tmp")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(entry)
        for name, content in {"etc/passwd": _PASSWD.encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for target, source in sorted(_host_files().items()):
            archive.add(source.resolve(), target)


def _host_files() -> dict[str, Path]:
    """Paths in the image and the host's files that lie there."""
    programs = {
        "usr/bin/python3": Path(PYTHON),
        "bin/sh": Path("/bin/dash"),
        "bin/sleep": Path("/bin/sleep"),
    }
    library = Path(
        subprocess.run(
            [PYTHON, "-c", "import os; print(os.path.dirname(os.__file__))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    files = dict(programs)
    binaries = list(programs.values())
    for path in library.rglob("*"):
        relative = path.relative_to(library)
        if path.is_file() and not _LEFT_OUT & set(relative.parts):
            files[str(path).lstrip("/")] = path
            if path.suffix == ".so":
                binaries.append(path)
    for binary in binaries:
        for shared in _libraries(binary):
            files[shared.lstrip("/")] = Path(shared)
    return files


def _libraries(binary: Path) -> Iterator[str]:
    out = subprocess.run(["ldd", str(binary)], capture_output=True, text=True).stdout
    for word in out.split():
        if word.startswith("/"):
            yield word.rstrip(":")
