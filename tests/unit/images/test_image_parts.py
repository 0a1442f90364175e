"""The pure parts of making images: names, recipes' hashes, apt's sources, pip's settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taccuino.engines.base_image import Recipe, apt_sources
from taccuino.engines.build_network import BuildNetwork
from taccuino.engines.images import (
    ImageError,
    build_arguments,
    check_name,
    check_own_name,
    reference_of,
)

CHECKOUT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["base", "my-analysis", "a", "py3.11_gpu", "0x", "a" * 63])
def test_names(name: str) -> None:
    assert check_name(name) == name
    assert reference_of(name) == f"localhost/taccuino/{name}:latest"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "a b",
        "-a",
        "a-",
        "a..b",
        "../etc",
        "a;rm -rf",
        "--root=/x",
        "$(id)",
        "a\n",
        "a" * 64,
        "ä",
    ],
)
def test_hostile_names(name: str) -> None:
    with pytest.raises(ImageError, match="cannot be an image's name"):
        check_name(name)


@pytest.mark.parametrize("name", ["base", "environment", "debian"])
def test_taccuinos_own_names_are_kept(name: str) -> None:
    with pytest.raises(ImageError, match="Taccuino's own"):
        check_own_name(name)


@pytest.mark.parametrize(
    ("reference", "good"),
    [
        ("registry.example.org/debian:12", True),
        ("localhost/taccuino/base@sha256:abc", True),
        ("registry:5000/x", True),
        ("--privileged/x", False),
        ("a b/c", False),
        ("a/b;c", False),
        ("x/" + "a" * 300, False),
    ],
)
def test_references(reference: str, good: bool) -> None:
    if good:
        assert reference_of(reference) == reference
    else:
        with pytest.raises(ImageError, match="no image reference"):
            reference_of(reference)


def test_build_arguments() -> None:
    assert build_arguments(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for pair in ("A", "=1", "--x=1", "1A=2"):
        with pytest.raises(ImageError, match="NAME=value"):
            build_arguments([pair])


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name in ("images/environment", "images/base", "src/taccuino/server/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "images/environment/Containerfile",
        "images/environment/packages",
        "images/base/Containerfile",
        "src/taccuino/__init__.py",
        "src/taccuino/server/launcher.py",
    ):
        (tmp_path / name).write_text("# nothing\n")
    return Recipe(tmp_path)


def _write(name: str, text: str = "changed") -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "environment", "whole"),
    [
        (_write("images/environment/packages"), True, True),
        (_write("images/environment/new-file"), True, True),
        (_write("images/base/Containerfile"), False, True),
        (_write("src/taccuino/server/launcher.py"), False, True),
        (lambda root: (root / "src/taccuino/server/launcher.py").chmod(0o755), False, True),
        (_write("src/taccuino/server/__pycache__/launcher.pyc"), False, False),
        (_write("src/taccuino/other.py"), False, False),
        (_write("images/environment/packages", "# nothing\n"), False, False),
    ],
)
def test_the_hash_is_of_all_that_the_image_is_made_of(
    recipe: Recipe, change: Callable[[Path], object], environment: bool, whole: bool
) -> None:
    before = recipe.environment_digest, recipe.digest
    change(recipe.root)
    assert (recipe.environment_digest != before[0]) == environment
    assert (recipe.digest != before[1]) == whole


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is missing; run Taccuino from its checkout"):
        Recipe(tmp_path)


def test_the_recipe_of_this_checkout() -> None:
    recipe = Recipe.of_this_installation()
    assert {"tini", "oidc-agent-cli", "python3-venv", "git"} <= set(recipe.packages)
    lock = (recipe.environment_directory / "requirements.lock").read_text()
    assert "jsonschema==4.24.0" in lock
    assert "rfc3987" not in lock  # it builds a grammar at import, for a second
    pins = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert all("==" in line for line in pins)
    assert lock.count("--hash=sha256:") >= len(pins)


def test_only_the_distributions_own_archives_are_taken() -> None:
    targets = (
        "Debian|http://mirror/debian/|bookworm|main\n"
        "Debian|http://mirror/debian/|bookworm|main\n"
        "Debian|http://mirror/security/|bookworm-security|main\n"
        "Node Source|https://elsewhere/|nodistro|main\n"
        "|http://unlabelled/|x|main\n"
        "garbage\n"
    )
    assert apt_sources(targets, "debian") == [
        "deb http://mirror/debian/ bookworm main",
        "deb http://mirror/security/ bookworm-security main",
    ]
    assert apt_sources(targets, "ubuntu") == []


def test_pips_settings_as_a_build_can_use_them(tmp_path: Path) -> None:
    index = tmp_path / "pypi/simple"
    index.mkdir(parents=True)
    certificate = tmp_path / "ca.crt"
    certificate.write_text("PEM")
    network = BuildNetwork.parse(
        [
            ":env:.index-url='https://from-env/simple'",
            "global.index-url='https://from-file/simple'",
            f"global.extra-index-url='file://{index} file:///nonexistent/simple https://b/simple'",
            f":env:.cert='{certificate}'",
            ":env:.default-timeout='180'",
            "freeze.timeout='1'",
            "global.no-index='true'",
            "no line",
        ]
    )
    assert network.settings == {
        "index-url": "https://from-env/simple",
        "timeout": "180",
        "extra-index-url": f"file://{index}\n    https://b/simple",
    }
    assert network.directories == (str(index.parent),)
    work = tmp_path / "work"
    work.mkdir()
    derived = network.options(work, bare=False)
    assert f"{index.parent}:{index.parent}:ro" in derived
    assert f"{work}/pip.conf:/etc/pip.conf:ro" in derived
    assert f"{work}/ca.crt:/etc/ssl/certs/ca-certificates.crt:ro" in derived
    assert "cert = /run/taccuino-build/ca.crt" in (work / "pip.conf").read_text()
    bare = network.options(work, bare=True)
    assert "PIP_CONFIG_FILE=/run/taccuino-build/pip.conf" in bare
    assert not [option for option in bare if ":/etc/" in option]


def test_a_machine_without_pip_settings(tmp_path: Path) -> None:
    assert BuildNetwork.parse([]).options(tmp_path, bare=True) == []


def test_no_file_of_the_recipe_names_a_host_of_ours() -> None:
    for path in (CHECKOUT / "images").rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "index-url" not in text, path
            assert "deb http" not in text, path


def test_the_front_end_is_one_that_jupyterlab_loads() -> None:
    directory = CHECKOUT / "src/taccuino/server/labextension"
    build = json.loads((directory / "package.json").read_text())["jupyterlab"]["_build"]
    assert (directory / build["load"]).is_file()
    assert build["extension"] == "./extension"
