from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.instance import free_port_block
from taccuino.engines.base_image import ensure_base_image
from taccuino.engines.images import ImageStore
from taccuino.settings import Settings


@pytest.fixture(scope="session")
def image_settings() -> Iterator[Settings]:
    """An instance's settings, with the base image in its store."""
    if os.geteuid() != 0 or not shutil.which("podman"):
        pytest.skip("images are made by root, with podman")
    state = Path(tempfile.mkdtemp(prefix="tc-images-", dir="/tmp"))
    state.chmod(0o711)
    settings = Settings.parse({"state_dir": str(state), "port": free_port_block()})
    settings.save(state / "settings.json")
    try:
        ensure_base_image(settings, print)
        yield settings
    finally:
        store = ImageStore(settings)
        store.podman("rm", "--all", "--force", "--time", "1", what="removing containers")
        store.podman("rmi", "--all", "--force", what="removing images")
        shutil.rmtree(state)


@pytest.fixture(scope="session")
def store(image_settings: Settings) -> ImageStore:
    return ImageStore(image_settings)


@pytest.fixture(scope="package", autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Away from the checkout: conmon leaves a file "oom" where podman was called."""
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        yield
