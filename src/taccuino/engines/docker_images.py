"""A Docker daemon's images, for those that podman made and that Docker is to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from taccuino.errors import TaccuinoError

if TYPE_CHECKING:
    import docker

__all__ = ["DockerImages", "DockerImagesError"]

_SECONDS = 600  # an image of some gigabytes is read and unpacked before the daemon answers


class DockerImagesError(TaccuinoError):
    """The daemon refused, or can't be reached."""


class DockerImages:
    """The images of the daemon at a socket; blocking."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def identity(self, reference: str) -> str | None:
        """The id of an image, the hash of all that it is; nothing where there is none.

        Raises
        ------
        DockerImagesError
            If the daemon can't be asked.
        """
        from docker.errors import ImageNotFound

        with self._client("asked for its images") as client:
            try:
                found = client.inspect_image(reference)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
        return str(found["Id"]).removeprefix("sha256:")

    def in_use(self) -> set[str]:
        """The ids of the images that containers, running or not, were made of.

        Raises
        ------
        DockerImagesError
            If the daemon can't be asked.
        """
        with self._client("asked for its containers") as client:
            found = client.containers(all=True)
        return {str(item["ImageID"]).removeprefix("sha256:") for item in found}

    def load(self, archive: Path) -> None:
        """Take the images of an archive, as ``docker load`` does.

        Raises
        ------
        DockerImagesError
            If the daemon does not take it.
        """
        from docker.errors import DockerException

        with self._client("given an image") as client, archive.open("rb") as stream:
            # The answer is a stream, and an error one of its lines: docker-py raises none.
            for line in client.load_image(stream):  # type: ignore[no-untyped-call]
                if "error" in line:
                    raise DockerException(str(line["error"]))

    @contextmanager
    def _client(self, what: str) -> Iterator[docker.APIClient]:
        import docker  # here, as in all of this: few commands need it, and it takes 60 ms
        import requests

        client: docker.APIClient | None = None
        try:
            client = docker.APIClient(base_url=f"unix://{self._socket}", timeout=_SECONDS)
            yield client
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise DockerImagesError(
                f"engine.socket: the Docker at {self._socket} could not be {what} ({error}); "
                "is it running, and does it have room?"
            ) from error
        finally:
            if client is not None:
                client.close()
