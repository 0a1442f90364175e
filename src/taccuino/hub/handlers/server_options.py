"""JupyterHub's request for a server, refused before anything begins if it is not on offer."""

from __future__ import annotations

from typing import Any

from jupyterhub.apihandlers.users import UserServerAPIHandler

from taccuino.hub.offers import OptionsError
from taccuino.hub.options import OptionsRefused
from taccuino.iam import IAMAuthenticator

__all__ = ["HubAuthenticator", "OffersFirst"]


class ServerOptionsHandler(UserServerAPIHandler):
    """``POST /users/<name>/server``, with its options checked when the body is read.

    ``apply_user_options`` checks them again, as those of every start. But it comes when the
    start is under way: the options are stored by then, and a hub under load might have
    answered already.
    """

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
    """An authenticator's handlers come before JupyterHub's own: the only place that does."""

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """The authenticator's, and the requests for servers."""
        return [
            (r"/api/users/([^/]+)/server", ServerOptionsHandler),
            (r"/api/users/([^/]+)/servers/([^/]*)", ServerOptionsHandler),
            *super().get_handlers(app),  # type: ignore[misc]
        ]


class HubAuthenticator(OffersFirst, IAMAuthenticator):
    """The IAM's authenticator, in a hub with offers."""
