"""The sites' calls and pages: what peers ask, where a login leads, moving, the overview."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

from jupyterhub.apihandlers.auth import OAuthAuthorizeHandler
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from tornado import web
from tornado.httputil import url_concat

from taccuino.edge.sites import FROM_COOKIE, SITE_COOKIE
from taccuino.hub.application import all_servers_known
from taccuino.hub.sites import SITES_SCOPE, Sites
from taccuino.iam.handlers import IAMCallbackHandler, LoginPageHandler

__all__ = ["MovedLoginPage", "PlacedCallback", "ServerLogin", "site_handlers"]

_PLACED_COOKIE = "taccuino-placed"
_PLACED_SECONDS = 60
_LONGEST_WAIT = 20.0


class SiteStateHandler(APIHandler):
    """``GET /api/taccuino/site``: whose servers this site runs, for its peers.

    With ``version`` and ``wait`` (seconds) it answers once the state is another, or 204.
    """

    _accept_cookie_auth = False

    async def get(self) -> None:
        """Answer this site's state."""
        if SITES_SCOPE not in self.parsed_scopes:
            raise web.HTTPError(403, "Only another site may ask, with the secret of all sites")
        sites: Sites = self.settings["taccuino_sites"]
        try:
            seconds = min(float(self.get_argument("wait", "0")), _LONGEST_WAIT)
        except ValueError:
            raise web.HTTPError(400, "wait must be a number of seconds") from None
        known = self.get_argument("version", "")
        state = await sites.changed_state(self.app, known, seconds)
        if state is None:
            self.set_status(204)
            return
        self.set_header("Content-Type", "application/json")
        self.finish(state.model_dump_json())


class PlacedCallback(IAMCallbackHandler):
    """The end of a login: a user who belongs to another site is logged in there, silently."""

    def get_next_url(self, user: Any = None) -> str:
        """Where the browser goes; by way of the other site's login where that is needed."""
        url: str = super().get_next_url(user)
        sites: Sites = self.settings["taccuino_sites"]
        if user is None or self.get_cookie(_PLACED_COOKIE):
            return url  # two sites that disagree send nobody to and fro
        place = sites.place_of(user)
        if place == sites.site:
            return url
        self.set_cookie(_PLACED_COOKIE, "1", path="/", max_age=_PLACED_SECONDS, httponly=True)
        return at_site(self, place, url)


def at_site(handler: BaseHandler, site: str, next_url: str) -> str:
    """Make the edge lead this browser to a site; the address of its login."""
    secure = handler.request.protocol == "https"
    handler.set_cookie(
        SITE_COOKIE, site, path="/", httponly=True, secure=secure, samesite="Lax"
    )
    return url_concat(handler.hub.base_url + "oauth_login", {"next": next_url})


class MovedLoginPage(LoginPageHandler):
    """The login page, but for who was logged in at a site that is away: they just go on."""

    async def get(self) -> Any:
        """Go to the IAM, whose session of the user is still there; else show the page."""
        moved = self.get_cookie(FROM_COOKIE) and self.get_argument("next", "")
        if moved and self.current_user is None and not self.get_argument("reason", ""):
            next_url = self.get_argument("next")
            self.redirect(url_concat(self.hub.base_url + "oauth_login", {"next": next_url}))
            return None
        return await super().get()


class ServerLogin(OAuthAuthorizeHandler):
    """Lets a browser in to its user's server; that of another site it can only tell of.

    A browser comes here for such a server while the other site's hub is away.
    """

    async def get(self) -> None:
        """Show what is known of the server where it does not run here; else JupyterHub's."""
        await all_servers_known(self.app)
        user = self.current_user
        client = self.get_argument("client_id", "")
        own = user.spawner if isinstance(user, User) else None
        if own is not None and not own.active and own.oauth_client_id == client:
            self.redirect(f"{self.hub.base_url}user/{user.escaped_name}/")
            return
        await super().get()


class MoveHandler(BaseHandler):
    """``POST /move``: stop the user's server here, and go on at another site."""

    stop_seconds = 60.0
    """How long a browser waits for that, once it is slow."""

    @web.authenticated
    async def post(self) -> None:
        """Move to ``site``; the new server has the same options.

        The browser goes on once the server here has ended: its workarea is kept by then. If
        that takes long it goes home, where it sees how far that is.
        """
        sites: Sites = self.settings["taccuino_sites"]
        site, user = self.get_body_argument("site", ""), self.current_user
        if site not in sites.others:
            offered = ", ".join(sites.others) or "none does now"
            raise web.HTTPError(400, f"No site {site[:40]!r} takes servers: {offered}")
        spawner = user.spawner
        options = spawner.orm_spawner.user_options or {}
        if spawner.pending:
            raise web.HTTPError(
                409, "Your server here is being started or stopped: move when that is done"
            )
        if spawner.active:
            _, going_on = await asyncio.wait(
                {await self.stop_single_user(user)}, timeout=self.stop_seconds
            )
            if going_on:
                self.redirect(f"{self.hub.base_url}home")
                return
            if spawner.active:
                raise web.HTTPError(503, "Your server here could not be stopped: try it again")
        query = "?" + urlencode(options) if options else ""
        start = f"{self.hub.base_url}spawn/{user.escaped_name}{query}"
        self.set_cookie(_PLACED_COOKIE, "1", path="/", max_age=_PLACED_SECONDS, httponly=True)
        self.redirect(at_site(self, site, start))


class SitesPage(BaseHandler):
    """``GET /sites``: all sites and how they are, for everybody; as JSON if asked for."""

    async def get(self) -> None:
        """Show them."""
        sites: Sites = self.settings["taccuino_sites"]
        rows = await sites.overview(self.app)
        if "application/json" in self.request.headers.get("Accept", ""):
            self.set_header("Content-Type", "application/json")
            self.finish({"sites": [_as_json(row) for row in rows]})
            return
        self.finish(await self.render_template("sites.html", sites_overview=rows))


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    maintenance, since = row["maintenance"], row["since"]
    return {
        **row,
        "maintenance": maintenance.model_dump() if maintenance else None,
        "since": since.isoformat() if since else None,
    }


site_handlers: list[tuple[str, type[BaseHandler]]] = [
    (r"/api/taccuino/site", SiteStateHandler),
    (r"/move", MoveHandler),
    (r"/sites", SitesPage),
]
