"""What the API's handlers read out of a request."""

from __future__ import annotations

from aiohttp import web

from taccuino.naming import is_slug
from taccuino.storage.mount_client import MountRequest, MountRequestError

__all__ = ["body_of", "mount_request_of", "refuse_another", "slug_of"]


def slug_of(request: web.Request) -> str:
    """The slug in the path; one that is no slug would lead out of the directories.

    Raises
    ------
    MountRequestError
        If it is none.
    """
    slug = request.match_info["slug"]
    if is_slug(slug):
        return slug
    raise MountRequestError(f"slug {slug[:60]!r}: it is no slug of a user")


async def body_of(request: web.Request) -> dict[str, object]:
    """The JSON object that was sent.

    Raises
    ------
    MountRequestError
        If there is none.
    """
    try:
        data = await request.json()
    except ValueError as error:
        raise MountRequestError(f"the request is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise MountRequestError("the request must be a JSON object")
    return data


async def mount_request_of(request: web.Request) -> MountRequest:
    """The mount request that was sent, of the user in the path.

    Raises
    ------
    MountRequestError
        If there is none.
    """
    wanted = MountRequest.from_json(await body_of(request))
    refuse_another(request, wanted.slug)
    return wanted


def refuse_another(request: web.Request, slug: str) -> None:
    """Refuse a user in the body who is not the one in the path.

    Raises
    ------
    MountRequestError
        It names the one in the body.
    """
    if slug != request.match_info["slug"]:
        raise MountRequestError(f"slug {slug!r}: the path names another one")
