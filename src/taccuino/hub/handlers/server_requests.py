"""JupyterHub's calls for a server: refused early if they can't be met, stopped at any time."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.app import JupyterHub
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from taccuino.hub.offers import OptionsError
from taccuino.hub.options import OptionsRefused
from taccuino.iam import IAMAuthenticator

from .sites import MovedLoginPage, PlacedCallback, ServerLogin

__all__ = ["HubAuthenticator", "OffersFirst"]


_SOON_SECONDS = 0.25
"""Loading the page of a start takes a browser as long."""

_beginning = asyncio.Lock()


class InMaintenance(web.HTTPError):
    """A start at a site that takes none, as JupyterHub's form and API answer it."""

    def __init__(self, site: str, message: str) -> None:
        text = f"The site {site} is in maintenance and takes no new servers. {message}".strip()
        super().__init__(503, "%s", text)
        self.jupyterhub_message = text


class RoomFirst:
    """Refuses a start that the node has no room for: 503, and nothing was made.

    And of many requests at once, one begins at each turn of the event loop. Each takes a start
    20 ms of the hub's time, in a dozen steps; if all begin as they come, every step waits for
    the first steps of all, and all servers are ready when the last one is.
    """

    async def prepare(self) -> None:
        """Begin a request when its turn comes."""
        if self.request.method == "POST":  # type: ignore[attr-defined]
            async with _beginning:
                await asyncio.sleep(0)
        await super().prepare()  # type: ignore[misc]

    async def spawn_single_user(
        self, user: Any, server_name: str = "", display_name: str = "", options: Any = None
    ) -> None:
        """Start a server, by page, link or API, if there is room.

        Raises
        ------
        taccuino.hub.admission.NoRoom
        OptionsRefused
            If an option is not on offer.
        InMaintenance
            If the site takes no new servers.
        """
        ours = self.settings  # type: ignore[attr-defined]
        if begun := ours["taccuino_sites"].maintenance:
            raise InMaintenance(ours["taccuino_sites"].site, begun.message)
        chosen = ours["taccuino_options"].chosen(user.spawners[server_name], options)
        # JupyterHub would ask now, once in a request: what comes at once would see no other.
        if await self.refresh_auth(user, force=True) is None:  # type: ignore[attr-defined]
            raise web.HTTPError(403, "%s has to log in again", user.name)
        ours["taccuino_admission"].check(self.users.values(), chosen.memory_bytes)  # type: ignore[attr-defined]
        await super().spawn_single_user(user, server_name, display_name, options)  # type: ignore[misc]


class StartPage(RoomFirst, SpawnHandler):
    """The page with the server options, and links that start a server."""

    async def spawn_single_user(
        self, user: Any, server_name: str = "", display_name: str = "", options: Any = None
    ) -> None:
        """Start a server; one that waited is ready before the page of its start is."""
        await super().spawn_single_user(user, server_name, display_name, options)
        starting = user.spawners[server_name]._spawn_future  # noqa: SLF001
        if starting is not None:
            await asyncio.wait({starting}, timeout=_SOON_SECONDS)


class ServerHandler(RoomFirst, UserServerAPIHandler):
    """``POST`` and ``DELETE /users/<name>/server``.

    A start's options are checked when the body is read. ``apply_user_options`` checks them
    again, as those of every start; but it comes when the start is under way: the options are
    stored by then, and a hub under load might have answered already.
    """

    @needs_scope("delete:servers")
    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Stop a server; one that starts is given up, and answered 202 at once.

        JupyterHub's own call cancels its wait for the start and allows a second for what has
        to be removed; after that it answers 400, "is pending spawn".
        """
        user = self.find_user(user_name)
        spawner: Any = user.spawners.get(server_name) if user else None
        cancel = getattr(spawner, "cancel_start", None)
        if cancel is None or spawner.pending != "spawn" or not cancel():
            await super().delete(user_name, server_name)
            return
        self.log.info("The start of %s is given up", spawner._log_name)  # noqa: SLF001
        if (self.get_json_body() or {}).get("remove"):  # a named server, with all of it
            await asyncio.wait({spawner._spawn_future})  # noqa: SLF001
            await super().delete(user_name, server_name)
            return
        self.set_header("Content-Type", "text/plain")
        self.set_status(202)

    def get_server_json_body(self) -> dict[str, Any]:
        """The request's body, its options in their canonical form.

        Raises
        ------
        tornado.web.HTTPError
            400 if an option is not on offer to the server's user.
        """
        body: dict[str, Any] = super().get_server_json_body()
        if not body.get("user_options"):
            return body  # the last choice, or the defaults
        offers = self.settings["taccuino_options"].offers(self.find_user(self.path_args[0]))
        try:
            chosen = offers.validate(body["user_options"])
        except OptionsError as error:
            raise OptionsRefused(error) from None
        return {**body, "user_options": chosen.as_user_options()}


class OffersFirst:
    """An authenticator's handlers come before JupyterHub's own: the only ones that do."""

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """The authenticator's, and what starts and stops servers."""
        return [
            (r"/api/users/([^/]+)/server", ServerHandler),
            (r"/api/users/([^/]+)/servers/([^/]*)", ServerHandler),
            (r"/login", MovedLoginPage),
            (r"/api/oauth2/authorize", ServerLogin),
            (r"/spawn", StartPage),
            (r"/spawn/([^/]+)", StartPage),
            (r"/spawn/([^/]+)/([^/]+)", StartPage),
            *super().get_handlers(app),  # type: ignore[misc]
        ]


class HubAuthenticator(OffersFirst, IAMAuthenticator):
    """The IAM's authenticator, in a hub with offers and peers."""

    callback_handler = PlacedCallback

    def delete_user(self, user: Any) -> None:
        """Forget a deleted user's storage; JupyterHub forgets the rest."""
        super().delete_user(user)
        JupyterHub.instance().tornado_settings["taccuino_credentials"].forget(user.name)
