"""The pool of warm servers, joined with the offers and the mount plane."""

from __future__ import annotations

from collections.abc import Collection

from jupyterhub.app import JupyterHub

from taccuino.engines.warm import WarmPool
from taccuino.settings import Settings

from .housekeeping import active_spawners
from .options import offered_images
from .storage import StorageBackend

__all__ = ["warm_pool"]


def warm_pool(settings: Settings, backend: StorageBackend) -> WarmPool:
    """The pool for all images on offer, whoever they are offered to."""

    def images() -> list[str]:
        offered = (*settings.images, *offered_images(settings))
        by_name = {image.name: image for image in offered}
        # The form's default is the last one that is marked, or the first of all.
        marked = [image for image in by_name.values() if image.default][-1:]
        return [image.reference for image in (*marked, *by_name.values())]

    async def uids_in_use() -> Collection[int]:
        mounted = {status.uid for status in await backend.mount_plane.list()}
        spawners = active_spawners(JupyterHub.instance())
        return mounted | {spawner.container.uid for spawner in spawners}

    return WarmPool(
        settings,
        images,
        uids_in_use,
        supported=backend.mount_plane.shows_as_another,
    )
