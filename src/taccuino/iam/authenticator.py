"""Login with an IAM over OpenID Connect: JupyterHub's authenticator.

It fills in what `oauthenticator.generic` leaves open: endpoints from discovery, a verified
ID token with a nonce, group and name rules, and refreshes that never lose a grant.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jupyterhub.handlers import BaseHandler
from oauthenticator.generic import GenericOAuthenticator
from tornado import web
from tornado.httpclient import AsyncHTTPClient
from traitlets import Any as AnyTrait
from traitlets import Integer, Set, Unicode, default

from taccuino.errors import ServiceError

from .broker import TokenBroker
from .client import IAMClient, TokenRejectedError
from .discovery import Discovery, DiscoveryError
from .failures import GrantFailure, grant_failure_reason, login_reason_message
from .grants import Grants, State, new_state, token_in
from .groups import groups_of, is_member, normalize_groups
from .handlers import (
    IAMCallbackHandler,
    IAMLoginHandler,
    IAMLogoutHandler,
    LoginPageHandler,
    login_state,
    refuse_start,
    send_to_login,
)
from .tokens import InvalidTokenError
from .usernames import UsernameError, checked_username

__all__ = ["IAMAuthenticator"]

_CONFIRMED_FOR: Final = 60.0
"""Seconds after a login or a check in which the IAM is not asked again: a start right after
the login need not wait for it."""


class IAMAuthenticator(GenericOAuthenticator):
    """Logs users in with an IAM that speaks OpenID Connect."""

    login_handler = IAMLoginHandler
    callback_handler = IAMCallbackHandler
    logout_handler = IAMLogoutHandler

    issuer = Unicode(config=True, help="The issuer's URL, with or without a trailing slash.")
    client_secret_file = Unicode(
        config=True, help="File with the client's secret; read once, when it is first needed."
    )
    groups_claim = Unicode("groups", config=True, help="Claim with the user's groups.")
    reserved_usernames = Set(
        Unicode(), config=True, help="Names no user may have, such as the scratch bucket's."
    )
    renew_seconds = Integer(
        3600,
        config=True,
        help="""
        Age of an access token at which a new one is asked for although it is still valid.
        An IAM whose tokens live for days would otherwise not be asked about its user for days.
        """,
    )
    contact = Unicode(
        "the administrators of this service",
        config=True,
        help="Whom a person asks who is not let in.",
    )
    logout_page_url = Unicode(
        config=True,
        help="Where the IAM's session ends. Default: what its discovery document names.",
    )
    after_logout_url = Unicode(
        config=True, help="Where the IAM sends the browser after its session has ended."
    )

    discovery = AnyTrait(help="The issuer's `Discovery`; made when it is first used.")
    grants = AnyTrait(help="The users' `Grants`, shared with the broker.")
    broker = AnyTrait(help="The `TokenBroker` over the same grants.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._confirmed: dict[str, float] = {}

    @default("http_client")
    def _http_client(self) -> AsyncHTTPClient:
        return AsyncHTTPClient(
            force_instance=True,
            max_clients=100,
            defaults={**self.http_request_kwargs, "validate_cert": self.validate_server_cert},
        )

    @default("client_secret")
    def _client_secret(self) -> str:
        if not self.client_secret_file:
            return ""
        try:
            return Path(self.client_secret_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ServiceError(
                f"iam.client_secret_file: {self.client_secret_file} can't be read: "
                f"{error.strerror}; write the client's secret there, mode 0600"
            ) from None

    @default("discovery")
    def _discovery(self) -> Discovery:
        return Discovery(self.issuer, self.http_client)

    @default("grants")
    def _grants(self) -> Grants:
        client = IAMClient(self.discovery, self.client_id, self.client_secret, self.http_client)
        return Grants(client)

    @default("broker")
    def _broker(self) -> TokenBroker:
        return TokenBroker(self)

    def get_handlers(self, app: Any) -> list[tuple[str, type[BaseHandler]]]:
        """The login pages; JupyterHub looks here before its own."""
        return [(r"/login", LoginPageHandler), *super().get_handlers(app)]

    async def use_discovered_endpoints(self) -> None:
        """Point oauthenticator's traits at the issuer's endpoints.

        Raises
        ------
        DiscoveryError
            If the issuer's document can't be had.
        """
        document = await self.discovery.document()
        self.authorize_url = document["authorization_endpoint"]
        self.token_url = document["token_endpoint"]
        self.userdata_url = document.get("userinfo_endpoint", "")

    async def iam_logout_url(self, state: State | None, now: float) -> str | None:
        """Where a user ends the IAM's own session (RP-Initiated Logout 1.0), if it is known.

        The ID token goes along as a hint only after it has expired: until then it would open
        the object storage (STS takes any token of the issuer for the client), and addresses
        end up in logs and histories. Without it the IAM asks the user to confirm.
        """
        if self.logout_page_url:
            return str(self.logout_page_url)
        try:
            endpoint = (await self.discovery.document()).get("end_session_endpoint")
        except DiscoveryError as error:
            self.log.warning("The IAM's logout is not offered: %s", error)
            return None
        if not endpoint:
            return None
        query = {"client_id": self.client_id}
        if self.after_logout_url:
            query["post_logout_redirect_uri"] = self.after_logout_url
        claims = (state or {}).get("id_token_claims") or {}
        if state and state.get("id_token") and claims.get("exp", now) < now:
            query["id_token_hint"] = state["id_token"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    # -- login ---------------------------------------------------------------------------

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> Any:
        """End a login that came back from the IAM: who it is, and what they may.

        Raises
        ------
        GrantFailure
            If the IAM can't be reached or gives no token.
        tornado.web.HTTPError
            If its answer can't be trusted, or the name can't be used; the text says so.
        """
        try:
            model = await super().authenticate(handler, data, **kwargs)
        except DiscoveryError as error:
            raise GrantFailure("unreachable", str(error)) from error
        except InvalidTokenError as error:
            self.log.warning("The IAM's ID token is not accepted: %s", error)
            raise web.HTTPError(
                403,
                f"The identity service's answer can't be trusted: {error}. Log in again; if it "
                f"stays so, tell {self.contact}.",
            ) from None
        except UsernameError as error:
            raise web.HTTPError(403, str(error)) from None
        await self._check_same_person(handler, model)
        self.grants.forget(model["name"])
        self._confirmed[model["name"]] = time.time()
        return model

    async def get_token_info(self, handler: Any, params: dict[str, Any]) -> dict[str, Any]:
        """The token answer for a code, with the verified claims of its ID token."""
        answer: dict[str, Any] = await self.grants.client.exchange(
            params["code"], params["redirect_uri"], params.get("code_verifier")
        )
        nonce = login_state(handler).get("nonce")
        if not isinstance(nonce, str) or not nonce:
            raise InvalidTokenError("this login began without a nonce")
        if not isinstance(answer.get("id_token"), str):
            raise InvalidTokenError("there is no ID token in it; add 'openid' to iam.scopes")
        answer["id_token_claims"] = await self.discovery.verify(
            answer["id_token"],
            audience=self.client_id,
            nonce=nonce,
            access_token=answer["access_token"],
        )
        return answer

    async def token_to_user(self, token_info: dict[str, Any]) -> dict[str, Any]:
        """The ID token's claims, and userinfo's where they are not in it.

        INDIGO IAM puts neither the name nor the groups into its tokens.
        """
        claims: dict[str, Any] = token_info["id_token_claims"]
        try:
            userinfo = await self.grants.client.userinfo(token_info["access_token"])
        except TokenRejectedError as error:
            raise GrantFailure("refused", f"userinfo: {error}") from None
        if userinfo is None:
            return claims
        if userinfo.get("sub") != claims["sub"]:  # OpenID Connect Core, section 5.3.2
            raise InvalidTokenError("userinfo is about somebody else (sub differs)")
        token_info["groups_in_userinfo"] = groups_of(self.groups_claim, userinfo) is not None
        return {**userinfo, **claims}

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        """The user's name, checked."""
        return checked_username(
            user_info.get(self.username_claim), reserved=self.reserved_usernames
        )

    def build_auth_state_dict(
        self, token_info: dict[str, Any], user_info: dict[str, Any]
    ) -> State:
        """What is stored, encrypted, of a login."""
        claims = token_info["id_token_claims"]
        state = new_state(token_info, claims, user_info, time.time())
        state["groups_in_userinfo"] = token_info.get("groups_in_userinfo", False)
        return state

    async def get_user_groups(self, auth_state: State) -> set[str]:
        """The user's groups without leading slashes; JupyterHub keeps them as its own."""
        groups = groups_of(self.groups_claim, auth_state[self.user_auth_state_key])
        return set(groups or ())

    def _groups_now(self, state: State, userinfo: dict[str, Any] | None) -> set[str]:
        """The user's groups after a refresh.

        A userinfo that had groups at login and has none now says that the user left the last
        one; one that never had them says nothing.
        """
        groups = groups_of(self.groups_claim, userinfo or {})
        if groups is None and not (userinfo is not None and state.get("groups_in_userinfo")):
            groups = groups_of(self.groups_claim, state[self.user_auth_state_key])
        return set(groups or ())

    async def _check_same_person(self, handler: Any, model: dict[str, Any]) -> None:
        """Refuse a second account of the IAM whose name reads like a user's.

        ``Rossi`` and ``rossi`` may be two accounts, and a name may be given to somebody else
        after its holder left: the files belong to the subject, not to the name.
        """
        user = handler.find_user(model["name"])
        known = await user.get_auth_state() if user else None
        new = model["auth_state"]
        if known and known.get("issuer") == new["issuer"] and known.get("sub") != new["sub"]:
            self.log.error("%s is refused: the name belongs to another subject", model["name"])
            raise web.HTTPError(
                403,
                f"The username {model['name']} belongs to another account of "
                f"{self.login_service} here. Ask {self.contact} which one it should be.",
            )

    # -- who may enter ---------------------------------------------------------------------

    def _may_enter(self, username: str, admin: bool | None, groups: set[str]) -> bool:
        return bool(
            self.allow_all
            or admin
            or username in self.allowed_users
            or is_member(groups, self.allowed_groups)
        )

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Whether the user may use the service.

        Raises
        ------
        tornado.web.HTTPError
            403, naming the groups that they would have to be in and whom to ask.
        """
        if auth_model is None:
            return True
        groups = set(auth_model.get("groups") or ())
        if self._may_enter(username, auth_model.get("admin"), groups):
            return True
        wanted = ", ".join(sorted(normalize_groups(self.allowed_groups)))
        self.log.warning("%s is refused: in none of the groups %s", username, wanted)
        raise web.HTTPError(
            403,
            f"You are logged in at {self.login_service} as {username}, but you are not in any "
            f"of the groups that may use this service: {wanted}. Ask {self.contact} to be "
            "added, then log in again.",
        )

    # -- refresh -----------------------------------------------------------------------------

    async def refresh_user(
        self, user: Any, handler: Any = None, **_: Any
    ) -> bool | dict[str, Any]:
        """Ask the IAM whether the user is still welcome, and renew their tokens if it is time.

        JupyterHub calls it every ``auth_refresh_age`` seconds that the user is active, and
        before each start. Groups and admin status are brought up to date here, under the
        user's lock, and not by handing them back: JupyterHub would store the auth state of
        a moment ago over a refresh token that was rotated since.

        Returns
        -------
        bool or dict
            ``False`` when the user must log in again; the login page says why. ``True`` also
            when the IAM can't be reached: its outage does not throw users out.
        """
        try:
            welcome: bool | dict[str, Any] = await self.grants.uncancelled(
                self._confirm(user, handler)
            )
        except GrantFailure as failure:
            if failure.reason == "unreachable" and await self._outlasts_outage(user):
                self.log.warning("%s stays logged in: %s", user.name, failure)
                return True
            send_to_login(handler, user, failure.reason, failure.user_message)
            return False
        return welcome

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Start no server for a user who was just refused.

        JupyterHub goes on with a request by token whose user's refresh said no.

        Raises
        ------
        tornado.web.HTTPError
            403, with the reason's sentence.
        """
        refuse_start(spawner.handler, user)

    async def _outlasts_outage(self, user: Any) -> bool:
        """Whether the grant has not ended by itself while the IAM is away."""
        ends = (await self.grants.state(user)).get("refresh_expires_at")
        return ends is None or ends > time.time()

    async def _confirm(self, user: Any, handler: Any) -> bool | dict[str, Any]:
        await self.grants.store_again(user)
        async with self.grants.lock(user.name):
            state = await self.grants.state(user)
            asked = self._confirmed.get(user.name, 0)
            if time.time() - asked < min(_CONFIRMED_FOR, self.auth_refresh_age / 2):
                return True
            self._confirmed.pop(user.name, None)
            state, userinfo = await self._identity(user, state)
            welcome = await self._apply(user, state, userinfo, handler)
            if welcome:
                self._confirmed[user.name] = time.time()
            return welcome

    async def _identity(self, user: Any, state: State) -> tuple[State, dict[str, Any] | None]:
        """The user's state, renewed if it is time, and what the IAM says of them now."""
        renewable = bool(state.get("refresh_token"))
        fresh = token_in(
            state,
            min_valid_seconds=self.auth_refresh_age + 60 if renewable else 0,
            audience=None,
            now=time.time(),
            max_age_seconds=self.renew_seconds if renewable else None,
        )
        if fresh is None:
            state = await self.grants.renew(user, state)
        try:
            userinfo = await self.grants.client.userinfo(state["access_token"])
        except TokenRejectedError as first:
            # It may have been revoked; whether the user is welcome the grant will tell.
            self.log.info("%s's access token is not taken: %s", user.name, first)
            if fresh is not None:
                state = await self.grants.renew(user, state)
            try:
                userinfo = await self.grants.client.userinfo(state["access_token"])
            except TokenRejectedError as error:
                reason = grant_failure_reason("invalid_token", str(error))
                raise GrantFailure(reason, f"userinfo: {error}") from None
        if userinfo is not None and userinfo.get("sub") != state["sub"]:
            raise GrantFailure("refused", "userinfo is about somebody else (sub differs)")
        return state, userinfo

    async def _apply(
        self, user: Any, state: State, userinfo: dict[str, Any] | None, handler: Any
    ) -> bool | dict[str, Any]:
        """Bring groups and admin status up to date; under the user's lock."""
        groups = self._groups_now(state, userinfo)
        admin = True if user.name in self.admin_users else None
        if admin is None and self.admin_groups:
            admin = is_member(groups, self.admin_groups)
        if not self._may_enter(user.name, admin, groups):
            self.log.warning("%s is logged out: in none of the allowed groups", user.name)
            send_to_login(handler, user, "group", login_reason_message("group") or "")
            return False
        same_groups = not self.manage_groups or groups == {group.name for group in user.groups}
        if same_groups and admin in {None, user.admin}:
            return True
        model = {"name": user.name, "admin": admin, "groups": sorted(groups)}
        if handler is None:
            return model
        known = {**state[self.user_auth_state_key], **(userinfo or {})}
        renewed = {**state, self.user_auth_state_key: known}
        await handler.auth_to_user({**model, "auth_state": renewed}, user)
        return True
