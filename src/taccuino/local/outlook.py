"""What others run for this service, asked before a start: each doubt is a warning, not a fault.

The hub starts while an IAM or an object storage is away, so none of this keeps it from that;
but who has just named them wants to know that they answer, and to what.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from taccuino.engines.docker_images import DockerImages, DockerImagesError
from taccuino.errors import Fault, TaccuinoError
from taccuino.settings import Settings

__all__ = ["issuer_warnings", "warnings"]

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


async def warnings(settings: Settings) -> list[Fault]:
    """All doubts about the IAM, the object storage and Docker's images, asked for at once."""
    answers = await asyncio.gather(
        _iam(settings), _storage(settings), asyncio.to_thread(_images, settings)
    )
    return [*_reach(settings), *(fault for answer in answers for fault in answer)]


async def _iam(settings: Settings) -> list[Fault]:
    if settings.embedded_iam:
        return []
    from taccuino.iam.discovery import Discovery
    from taccuino.storage.issuer import published_issuer

    issuer = settings.iam.issuer or ""
    try:
        discovery = Discovery(issuer)
        document = await discovery.document()
        await discovery.keys()
        published = await asyncio.to_thread(published_issuer, issuer)
    except TaccuinoError as error:
        return [Fault("iam.issuer", str(error))]
    return issuer_warnings(settings, document, x5c=bool(published.thumbprints))


def issuer_warnings(settings: Settings, document: dict[str, Any], *, x5c: bool) -> list[Fault]:
    """What an issuer that answers does not offer.

    Parameters
    ----------
    document
        Its discovery document.
    x5c
        Whether its keys come with certificates.
    """
    found = []
    iam, offered = settings.iam, document.get("scopes_supported")
    if iam.client_secret_file is None:
        mend = "name it, unless the client is registered as a public one"
        found.append(Fault("iam.client_secret_file", "it is not set", mend))
    if isinstance(offered, list):
        unknown = [scope for scope in iam.scopes if scope not in offered]
        if unknown:
            problem = f"the IAM does not list {', '.join(unknown)} among its scopes"
            found.append(Fault("iam.scopes", problem, f"it lists {', '.join(offered)}"[:300]))
        if "offline_access" in offered and "offline_access" not in iam.scopes:
            problem = "without offline_access the IAM may end a login after its first hour"
            found.append(Fault("iam.scopes", problem, "add it, and let the client have it"))
    methods = document.get("code_challenge_methods_supported")
    if isinstance(methods, list) and "S256" not in methods:
        problem = "the IAM does not list S256, which every login uses (PKCE)"
        found.append(Fault("iam.issuer", problem, "switch it on there"))
    if not x5c:
        problem = (
            "its keys have no x5c certificate: Ceph before release 20 can't verify its tokens, "
            "so cloud_storage stays away"
        )
        mend = "give INDIGO IAM a keystore with x5c; another object storage may not need it"
        found.append(Fault("iam.issuer", problem, mend))
    return found


async def _storage(settings: Settings) -> list[Fault]:
    if settings.embedded_storage:
        return []
    from taccuino.storage import BucketProvisioner, StorageError

    endpoint, keys = settings.storage.endpoint, settings.storage.admin_credentials_file
    try:
        await BucketProvisioner(settings).check()
    except StorageError as error:
        if error.reason == "denied" and keys:
            mend = "name keys of an account that may make buckets, roles and policies"
            problem = f"{endpoint} refuses the keys in {keys}"
            return [Fault("storage.admin_credentials_file", problem, mend)]
        if error.reason == "unreachable":
            problem = f"{endpoint} can't be reached from here"
            return [Fault("storage.endpoint", problem, "is it running, and the address right?")]
        if not str(error).startswith("storage.admin_credentials_file"):  # which is a fault
            return [Fault("storage.endpoint", str(error))]
    return []


def _images(settings: Settings) -> list[Fault]:
    from taccuino.engines.base_image import BASE_IMAGE

    engine = settings.engine
    if engine.kind != "docker" or engine.socket is None or not engine.socket.is_socket():
        return []
    docker = DockerImages(engine.socket)
    try:
        return [
            Fault(
                f"images.{image.name}",
                f"Docker has no image {image.reference}",
                "pull or load it into Docker; Taccuino never pulls",
            )
            for image in settings.images
            if image.reference != BASE_IMAGE and docker.identity(image.reference) is None
        ]
    except DockerImagesError as error:
        return [Fault("engine.socket", str(error))]


def _reach(settings: Settings) -> list[Fault]:
    """The object storage verifies tokens by asking the issuer: it must find it."""
    away = urlsplit(settings.storage.endpoint or "").hostname
    if settings.embedded_iam and away and away not in _LOOPBACK and settings.host in _LOOPBACK:
        problem = (
            f"the object storage at {away} verifies tokens at the embedded IAM's address, and "
            f"{settings.host} is another machine there"
        )
        return [Fault("host", problem, "set host to a name that the storage finds this one by")]
    return []
