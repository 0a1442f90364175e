"""What a build needs to reach package indexes as this machine does: its pip settings and CAs.

They are mounted while a build runs; nothing of them stays in the image.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["BuildNetwork"]

_CONF = "/etc/pip.conf"
_MOUNTED = "/run/taccuino-build"
_SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_TAKEN = ("index-url", "trusted-host", "proxy", "timeout", "retries")
_LOCATIONS = ("extra-index-url", "find-links")


@dataclass(frozen=True)
class BuildNetwork:
    """The pip settings of a machine, as a build can use them."""

    settings: dict[str, str] = field(default_factory=dict)
    certificates: Path | None = None
    directories: tuple[str, ...] = ()
    """Local indexes: directories that are mounted at their own path."""

    @classmethod
    def of_this_machine(cls) -> BuildNetwork:
        """Ask this interpreter's pip; without a pip, there is nothing to take."""
        command = [sys.executable, "-m", "pip", "config", "list"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return cls.parse(done.stdout.splitlines())

    @classmethod
    def parse(cls, lines: Iterable[str]) -> BuildNetwork:
        """Take what a container can use out of the lines of ``pip config list``.

        The environment's settings come first in them and win, as they do for pip.
        """
        found: dict[str, str] = {}
        for line in lines:
            key, equals, text = line.partition("=")
            section, _, name = key.rpartition(".")
            if not equals or section not in (":env:", "global", "install"):
                continue
            try:
                value = str(ast.literal_eval(text))
            except (SyntaxError, ValueError):
                continue
            name = name.removeprefix("default-")
            if section == ":env:" or name not in found:
                found[name] = value
        settings = {name: found[name] for name in _TAKEN if name in found}
        directories: list[str] = []
        for name in _LOCATIONS:
            usable = [
                item for item in found.get(name, "").split() if _usable(item, directories)
            ]
            if usable:
                settings[name] = "\n    ".join(usable)
        certificates = Path(found["cert"]) if "cert" in found else None
        if certificates and not certificates.is_file():
            certificates = None
        return cls(settings, certificates, tuple(dict.fromkeys(directories)))

    def options(self, directory: Path, *, bare: bool) -> list[str]:
        """The options of ``podman build``; files that they name are written to ``directory``.

        A recipe that starts from a ``bare`` image declares ``ARG PIP_CONFIG_FILE``; one that is
        derived from the base image need not, since the files it has are mounted over.
        """
        settings = dict(self.settings)
        options: list[str] = []
        for path in self.directories:
            options += _mount(path, path)
        if self.certificates:
            settings["cert"] = f"{_MOUNTED}/ca.crt"
            copy = directory / "ca.crt"
            copy.write_bytes(self.certificates.read_bytes())
            if not bare:
                options += _mount(str(copy), _SYSTEM_CERTIFICATES)
        if not settings:
            return options
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        conf = directory / "pip.conf"
        conf.write_text(f"[global]\n{text}disable-pip-version-check = true\n", encoding="utf-8")
        # The steps of a build may run as the image's user.
        directory.chmod(0o711)
        options += _mount(str(directory), _MOUNTED)
        if bare:
            return [*options, "--build-arg", f"PIP_CONFIG_FILE={_MOUNTED}/pip.conf"]
        return options + _mount(str(conf), _CONF)


def _mount(source: str, target: str) -> list[str]:
    return ["-v", f"{source}:{target}:ro"]


def _usable(location: str, directories: list[str]) -> bool:
    """Whether a container can use a location; a local one is noted for being mounted."""
    parts = urlsplit(location)
    if parts.scheme in ("http", "https"):
        return True
    path = Path(parts.path if parts.scheme == "file" else location)
    if path.is_dir() and path.is_absolute():
        # The pages of a local index link to files beside it ("../../files/...").
        directories.append(str(path.parent if path.name == "simple" else path))
        return True
    return False
