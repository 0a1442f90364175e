"""The base image, from nothing: Debian by mmdebstrap, the environment, Taccuino's own part.

No container registry is needed. The environment (Debian and the Python packages) takes minutes
and changes seldom: its image is kept as an archive outside the state directory, by the hash of
what it is made of. The part on top takes seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import taccuino
from taccuino.settings import Settings

from .images import ImageError, ImageStore, Report

__all__ = ["BASE_IMAGE", "MIRROR", "Recipe", "ensure_base_image"]

BASE_IMAGE = "localhost/taccuino/base:latest"
_ENVIRONMENT = "localhost/taccuino/environment"
_DEBIAN = "localhost/taccuino/debian"
_RECIPE_LABEL = "org.taccuino.recipe"
_SOURCE_LABEL = "org.taccuino.source"
MIRROR = "mirror"
"""The source that needs no registry: Debian's packages from the machine's own mirror."""
_KEPT_ARCHIVES = 2
# Debian's documentation and translations: a third of the packages' size.
_LEFT_OUT = ("man", "info", "locale", "doc", "doc-base", "lintian", "bug")


class Recipe:
    """The files that the base image is made of, and their hashes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment_directory = root / "images/environment"
        self.containerfile = root / "images/base/Containerfile"
        for path in (self.environment_directory / "Containerfile", self.containerfile):
            if not path.is_file():
                raise ImageError(
                    f"the recipe of the base image is not there: {path} is missing; run "
                    "Taccuino from its checkout, or name one in TACCUINO_CHECKOUT"
                )

    @classmethod
    def of_this_installation(cls) -> Recipe:
        """The recipe of the checkout that this package is installed from.

        Raises
        ------
        ImageError
            If there is none.
        """
        named = os.environ.get("TACCUINO_CHECKOUT")
        return cls(Path(named) if named else Path(taccuino.__file__).parents[2])

    @property
    def packages(self) -> list[str]:
        """The names of the Debian packages."""
        text = (self.environment_directory / "packages").read_text(encoding="ascii")
        return [line for line in text.split("\n") if line and not line.startswith("#")]

    @property
    def environment_digest(self) -> str:
        """The hash of all that the environment depends on."""
        machine = f"{platform.machine()} {_release().get('VERSION_CODENAME')}"
        return _digest(self.root, _files(self.environment_directory), machine)

    @property
    def digest(self) -> str:
        """The hash of all that the base image depends on."""
        source = self.root / "src/taccuino"
        parts = [*_files(self.root / "images/base"), *_files(source / "server")]
        return _digest(self.root, [*parts, source / "__init__.py"], self.environment_digest)


def ensure_base_image(settings: Settings, report: Report, *, source: str | None = None) -> None:
    """Make the base image if the instance's store has none of this recipe.

    ``source`` is the image of Debian or Ubuntu to start from, such as
    ``registry.example.org/debian:12``, or `MIRROR`: mmdebstrap makes it from the machine's
    mirror.
    Without one, the base image keeps the source that it has; a new one comes from the mirror.

    Raises
    ------
    ImageError
        If it can't be made; the text holds the end of the failed step's output.
    """
    recipe = Recipe.of_this_installation()
    store = ImageStore(settings)
    with _only_one(settings.state_dir / "engine/base-image.lock"):
        present = store.labels(BASE_IMAGE) or {}
        source = source or present.get(_SOURCE_LABEL, MIRROR)
        labels = {_RECIPE_LABEL: recipe.digest, _SOURCE_LABEL: source}
        if any(present.get(name) != value for name, value in labels.items()):
            environment = _ensure_environment(store, recipe, report, source)
            report("Base image: adding Taccuino's own part")
            store.build(
                recipe.root,
                BASE_IMAGE,
                containerfile=recipe.containerfile,
                arguments={"ENVIRONMENT": environment},
                labels=labels,
                kind="offline",
            )
            report("Base image: ready")
        # Also one that was made before: the daemon may have been exchanged, or pruned.
        store.deliver(BASE_IMAGE, report)


def _ensure_environment(store: ImageStore, recipe: Recipe, report: Report, source: str) -> str:
    """The reference of the environment's image, out of the store, the cache, or built."""
    if source != MIRROR:
        reference = f"{_ENVIRONMENT}:custom"
        report(f"Base image: installing the Python environment on {source}")
        _build_environment(store, recipe, reference, source)
        return reference
    digest = recipe.environment_digest
    reference = f"{_ENVIRONMENT}:{digest}"
    if store.labels(reference) is not None:
        return reference
    cache = _cache()
    archive = cache / f"environment-{digest}.tar" if cache else None
    if archive and archive.is_file():
        report("Base image: loading the environment from the cache")
        try:
            store.podman("load", "-q", "-i", str(archive), what=f"loading {archive}")
        except ImageError as error:
            report(
                f"Base image: the cached environment cannot be used and is removed ({error})"
            )
            archive.unlink(missing_ok=True)
        if store.labels(reference) is not None:
            return reference
    debian = _make_debian(store, recipe, report)
    report("Base image: installing the Python environment (about a minute and a half)")
    _build_environment(store, recipe, reference, debian)
    if archive:
        report("Base image: keeping the environment for the next time")
        _keep(store, reference, archive, report)
    return reference


def _build_environment(store: ImageStore, recipe: Recipe, reference: str, base: str) -> None:
    directory = recipe.environment_directory
    store.build(directory, reference, arguments={"BASE": base}, kind="bare")


def _make_debian(store: ImageStore, recipe: Recipe, report: Report) -> str:
    """A minimal Debian with the recipe's packages, by mmdebstrap from the machine's mirror."""
    release = _release()
    codename = release.get("VERSION_CODENAME", "")
    reference = f"{_DEBIAN}:{codename or 'latest'}"
    report(
        f"Base image: making a minimal {release.get('NAME', 'Debian')} (about half a minute)"
    )
    lines = apt_sources(
        store.run(["apt-get", "indextargets", *_INDEX_FORMAT], "asking apt for its sources"),
        release.get("ID", "debian"),
    )
    options = ["--mode=root", "--variant=apt", "--quiet", "--dpkgopt=force-unsafe-io"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    options += [f"--include={','.join(recipe.packages)}"]
    with tempfile.TemporaryDirectory(
        prefix="debian-", dir=store.settings.state_dir / "engine/tmp"
    ) as directory:
        archive = f"{directory}/root.tar"
        command = ["mmdebstrap", *options, codename, archive, *lines]
        store.run(command, "making a minimal Debian with mmdebstrap")
        store.podman("import", "-q", archive, reference, what="importing Debian")
    return reference


_INDEX_FORMAT = (
    "--format",
    "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
    "Created-By: Packages",
)


def apt_sources(targets: str, distribution: str) -> list[str]:
    """The ``deb`` lines of the distribution's own archives, from ``apt-get indextargets``.

    Other origins that the machine uses (for Node.js, say) are left out: their keys and packages
    have no place in the image. Without any line, mmdebstrap takes its default mirror.
    """
    lines: dict[str, None] = {}
    for target in targets.splitlines():
        origin, _, rest = target.partition("|")
        if origin.lower() == distribution.lower() and rest.count("|") == 2:
            address, suite, component = rest.split("|")
            lines[f"deb {address} {suite} {component}"] = None
    return list(lines)


def _keep(store: ImageStore, reference: str, archive: Path, report: Report) -> None:
    """Write the archive in one step; the cache is a convenience, so a failure is only told."""
    partial = archive.with_suffix(f".{os.getpid()}.new")
    try:
        store.podman("save", "-q", "-o", str(partial), reference, what=f"writing {archive}")
        partial.replace(archive)
        archives = sorted(archive.parent.glob("environment-*.tar"), key=_modified, reverse=True)
        for old in archives[_KEPT_ARCHIVES:]:
            old.unlink(missing_ok=True)
    except (ImageError, OSError) as error:
        report(f"Base image: the environment is not kept: {error}")
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _cache() -> Path | None:
    """The directory of the cache; `None` if it can't be made or is switched off (empty)."""
    named = os.environ.get("TACCUINO_CACHE", "/var/cache/taccuino")
    if not named:
        return None
    path = Path(named, "images")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path, os.W_OK) else None


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two `taccuino up` of one instance build one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _release() -> dict[str, str]:
    """The machine's ``os-release``."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _files(directory: Path) -> list[Path]:
    return [
        path
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]


def _digest(root: Path, files: Iterable[Path], extra: str) -> str:
    """A hash of names, modes and contents."""
    total = hashlib.sha256(extra.encode())
    for path in sorted(files):
        executable = os.access(path, os.X_OK)
        total.update(f"\0{path.relative_to(root)}\0{executable}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]
