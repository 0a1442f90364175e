"""Images in the instance's engine: run podman against its store, build, list.

Images are made with podman whatever the engine is; where that is Docker, they are handed to its
daemon afterwards (`ImageStore.deliver`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from taccuino.errors import TaccuinoError
from taccuino.offers_file import load_offers, offers_path
from taccuino.settings import Settings

from .build_network import BuildNetwork
from .docker_images import DockerImages, DockerImagesError

__all__ = [
    "Image",
    "ImageError",
    "ImageStore",
    "Report",
    "check_name",
    "export_front_ends",
    "reference_of",
]

Report = Callable[[str], None]
BuildKind = Literal["derived", "bare", "offline"]

_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9]|[._-](?=[a-z0-9])){0,62}$")
_REFERENCE = re.compile(r"^[a-z0-9][a-z0-9._/:@-]{0,254}$")
_ARGUMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
INTERMEDIATE = ("localhost/taccuino/environment:", "localhost/taccuino/debian:")
_RESERVED = ("base", "environment", "debian")
_TAIL = 15  # lines of a failed command that are shown


class ImageError(TaccuinoError):
    """An image could not be made, found or used."""


@dataclass(frozen=True)
class Image:
    """One image in the store."""

    reference: str
    size: int
    """Bytes."""
    created: int
    """Unix seconds."""


def check_name(name: str) -> str:
    """Return ``name`` if an image may be called so.

    Raises
    ------
    ImageError
        If not; the name becomes a part of a reference and of file names.
    """
    if not _NAME.fullmatch(name):
        raise ImageError(
            f"{name[:80]!r} cannot be an image's name: use 1 to 63 lower-case letters, digits, "
            "and single dots, hyphens or underscores between them, such as 'my-analysis'"
        )
    return name


def check_own_name(name: str) -> str:
    """Return ``name`` if an image may be built under it.

    Raises
    ------
    ImageError
        If it is no name, or one of Taccuino's own.
    """
    if check_name(name) in _RESERVED:
        raise ImageError(f"the image {name!r} is Taccuino's own; choose another name")
    return name


def reference_of(name_or_reference: str) -> str:
    """The reference of an image by its name (``base``), or a reference as it is.

    Raises
    ------
    ImageError
        If it is neither.
    """
    if "/" in name_or_reference or ":" in name_or_reference:
        if not _REFERENCE.fullmatch(name_or_reference):
            raise ImageError(
                f"{name_or_reference[:80]!r} is no image reference: write it such as "
                "localhost/taccuino/base:latest"
            )
        return name_or_reference
    return f"localhost/taccuino/{check_name(name_or_reference)}:latest"


class ImageStore:
    """podman with the instance's own store."""

    def __init__(self, settings: Settings) -> None:
        # Imported here: `local` supervises engines, and imports this module for its own ends.
        from taccuino.local.podman import (
            podman_command,
            podman_environment,
            write_podman_files,
        )

        write_podman_files(settings)
        self._command = podman_command(settings)
        self._environment = {**os.environ, **podman_environment(settings)}
        self._temporary = Path(self._environment.get("TMPDIR", tempfile.gettempdir()))
        engine = settings.engine
        self._docker = (
            DockerImages(engine.socket) if engine.kind == "docker" and engine.socket else None
        )
        self.settings = settings
        self.log = settings.state_dir / "logs/images.log"

    def podman(self, *arguments: str, what: str, stdin: str | None = None) -> str:
        """Run podman and return its standard output.

        Raises
        ------
        ImageError
            If it fails; the text says ``what`` failed and holds the end of its output.
        """
        return self.run([*self._command, *arguments], what, stdin)

    def popen(self, *arguments: str) -> Sequence[str]:
        """The whole command line, for a caller that runs it itself in `environment`."""
        return [*self._command, *arguments]

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment for `popen`."""
        return self._environment

    def run(self, command: Sequence[str], what: str, stdin: str | None = None) -> str:
        """Run any command as `podman` does, and keep its output in the log."""
        try:
            done = subprocess.run(
                command,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                env=self._environment,
                check=False,
            )
        except FileNotFoundError:
            raise ImageError(
                f"{what}: the program {command[0]!r} is not installed; install Debian's "
                f"package {command[0]}"
            ) from None
        self._keep(command, done)
        if done.returncode != 0:
            raise ImageError(_failure(what, done.stdout, done.stderr, self.log))
        return done.stdout

    def labels(self, reference: str) -> dict[str, str] | None:
        """The labels of an image; `None` if the store does not have it."""
        try:
            text = self.podman("image", "inspect", reference, what=f"looking at {reference}")
        except ImageError:
            return None
        return json.loads(text)[0].get("Labels") or {}

    def images(self) -> list[Image]:
        """The images with a name, newest first."""
        text = self.podman("images", "--format", "json", what="listing the images")
        items: list[dict[str, Any]] = json.loads(text or "[]")
        found = [
            Image(name, int(item["Size"]), int(item["Created"]))
            for item in items
            for name in item.get("Names") or []
        ]
        # What the base image is made from is no image for a notebook server.
        found = [image for image in found if not image.reference.startswith(INTERMEDIATE)]
        return sorted(found, key=lambda image: (-image.created, image.reference))

    def build(
        self,
        context: Path,
        reference: str,
        *,
        containerfile: Path | None = None,
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        kind: BuildKind = "derived",
    ) -> None:
        """Build an image, with the machine's own pip settings during the build only.

        Our own recipes have a ``kind`` of theirs: ``bare`` starts from an image with nothing in
        it, and its steps reach what the machine reaches; ``offline`` needs no network at all.

        Raises
        ------
        ImageError
            If the build fails; the text holds the end of its output.
        """
        options = ["--tag", reference, "--layers", "--force-rm"]
        if containerfile:
            options += ["--file", str(containerfile)]
        if kind == "bare":
            options += ["--network", "host"]
        for name, value in (labels or {}).items():
            options += ["--label", f"{name}={value}"]
        with tempfile.TemporaryDirectory(prefix="build-", dir=self._temporary) as directory:
            if kind == "offline":
                options += ["--network", "none"]
            else:
                machine = BuildNetwork.of_this_machine()
                options += machine.options(Path(directory), bare=kind == "bare")
            for name, value in (arguments or {}).items():
                options += ["--build-arg", f"{name}={value}"]
            what = f"building the image {reference}"
            self.podman("build", *options, str(context), what=what)

    def identity(self, reference: str) -> str | None:
        """The id of an image, the hash of all that it is; `None` if the store has none."""
        what = f"looking at {reference}"
        try:
            return self.podman(
                "image", "inspect", "--format={{.Id}}", reference, what=what
            ).strip()
        except ImageError:
            return None

    def in_use(self) -> set[str]:
        """The ids of the images that the engine's containers were made of.

        Raises
        ------
        ImageError
            If the engine can't be asked.
        """
        if self._docker is None:
            arguments = ("ps", "--all", "--no-trunc", "--format={{.ImageID}}")
            return set(self.podman(*arguments, what="listing the containers").split())
        try:
            return self._docker.in_use()
        except DockerImagesError as error:
            raise ImageError(str(error)) from error

    def in_engine(self, reference: str) -> bool:
        """Whether the engine can start servers from an image: Docker's own, where it is that.

        Raises
        ------
        ImageError
            If Docker can't be asked.
        """
        if self._docker is None:
            return self.labels(reference) is not None
        try:
            return self._docker.identity(reference) is not None
        except DockerImagesError as error:
            raise ImageError(str(error)) from error

    def deliver(self, reference: str, report: Report) -> None:
        """Hand an image of this store to Docker, if that is the engine and has another.

        Raises
        ------
        ImageError
            If the daemon does not take it.
        """
        if self._docker is None or self.labels(reference) is None:
            return
        own = self.identity(reference)
        try:
            if self._docker.identity(reference) == own:
                return
            report(f"Handing {reference} to Docker")
            with tempfile.TemporaryDirectory(prefix="image-", dir=self._temporary) as directory:
                archive = Path(directory, "image.tar")
                what = f"saving {reference}"
                self.podman("save", "-q", "-o", str(archive), reference, what=what)
                self._docker.load(archive)
        except DockerImagesError as error:
            raise ImageError(str(error)) from error

    def _keep(self, command: Sequence[str], done: subprocess.CompletedProcess[str]) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command[:1])} ... -> {done.returncode}\n{done.stderr}\n")


def export_front_ends(settings: Settings, report: Report) -> None:
    """Have the edge serve the static files of every offered image, and of no other.

    Raises
    ------
    ImageError
        If the engine can't be asked which images are in use.
    """
    from taccuino.front_end.export import export_images

    offered = (*settings.images, *load_offers(offers_path(settings)))
    store = ImageStore(settings)
    references = [image.reference for image in offered]
    export_images(store, references, report, in_use=store.in_use())


def build_arguments(pairs: Sequence[str]) -> dict[str, str]:
    """The dictionary of ``NAME=value`` texts.

    Raises
    ------
    ImageError
        If one has another form.
    """
    for pair in pairs:
        if not _ARGUMENT.match(pair):
            raise ImageError(f"--build-arg {pair[:60]!r} has not the form NAME=value")
    return dict(pair.split("=", 1) for pair in pairs)


def _failure(what: str, output: str, errors: str, log: Path) -> str:
    lines = [line for line in (output + errors).splitlines() if line.strip()]
    tail = "\n".join(f"  {line[:300]}" for line in lines[-_TAIL:])
    return f"{what} failed:\n{tail}\nMore is in {log}."
