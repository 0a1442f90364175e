"""A small OpenID provider for tests: code with PKCE, refresh with rotation, failures on demand.

It runs in a thread with its own loop, so that tests may block. It is strict where a client may
be sloppy: redirect URI, client secret, code verifier and one-time codes are checked.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import BasicAuth, web
from joserfc import jwt
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

CLIENT_ID = "taccuino"
CLIENT_SECRET = "provider-secret"
KEY = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
OTHER_KEY = RSAKey.generate_key(2048, {"kid": KEY.kid})


@dataclass
class Provider:
    slash: bool = False
    rotates: bool = True
    lifetime: float = 3600
    id_token_groups: bool = True
    auth_methods: tuple[str, ...] | None = ("client_secret_basic", "client_secret_post")
    login_as: str = "alice"
    users: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            name: {"sub": f"sub-{name}", "preferred_username": name, "groups": groups}
            for name, groups in {
                "alice": ["/naas", "/naas/users"],
                "bob": ["naas"],
                "carol": ["/naas", "admins"],
                "mallory": ["other"],
            }.items()
        }
    )
    # What goes wrong on demand
    authorize_error: dict[str, str] | None = None
    token_error: tuple[int, dict[str, str]] | None = None
    userinfo_error: tuple[int, dict[str, str]] | None = None
    id_token_changes: dict[str, Any] = field(default_factory=dict)
    id_token_dropped: bool = False
    userinfo_changes: dict[str, Any] = field(default_factory=dict)
    forged: bool = False
    answers_as: str | None = None
    refresh_delay: float = 0
    # What happened
    refreshes: int = 0
    userinfos: int = 0
    jwks_fetches: int = 0
    documents: int = 0
    audiences: list[str | None] = field(default_factory=list)
    valid: dict[str, str] = field(default_factory=dict)
    grants: dict[str, str] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key, self.other_key = KEY, OTHER_KEY
        self._ready = threading.Event()
        self.refresh_began = threading.Event()
        self.port = 0

    # -- life ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, port: int = 0) -> None:
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, args=(port,), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(10)

    def restart(self) -> None:
        """Come back at the same port."""
        self.start(self.port)

    def _run(self, port: int) -> None:
        asyncio.run(self._serve(port))

    async def _serve(self, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        app = web.Application()
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._document),
                web.get("/jwks", self._jwks),
                web.get("/authorize", self._authorize),
                web.post("/token", self._token),
                web.get("/userinfo", self._userinfo),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        await runner.cleanup()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        return self.base + ("/" if self.slash else "")

    # -- tokens -------------------------------------------------------------------------

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        key = self.other_key if self.forged else self.key
        header = {"alg": "RS256", "kid": self.key.kid, **header}
        registry = JWSRegistry(algorithms=[header["alg"]])
        return jwt.encode(header, claims, key, [header["alg"]], registry)

    def _answer(
        self, user: str, nonce: str | None = None, audience: str | None = None
    ) -> dict[str, Any]:
        now = time.time()
        claims = {
            "iss": self.issuer,
            "sub": self.users[user]["sub"],
            "iat": int(now),
            "exp": int(now + max(self.lifetime, 60)),
        }
        access = self.sign(
            {**claims, "aud": audience or CLIENT_ID, "jti": secrets.token_hex(4)}
        )
        self.valid[access] = user
        answer: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "scope": "openid profile offline_access",
        }
        if nonce is not None and not self.id_token_dropped:
            details = dict(self.users[user]) if self.id_token_groups else {}
            identity = {**details, **claims, "aud": [CLIENT_ID], "nonce": nonce}
            answer["id_token"] = self.sign({**identity, **self.id_token_changes})
        return answer

    # -- endpoints ----------------------------------------------------------------------

    async def _document(self, _: web.Request) -> web.Response:
        self.documents += 1
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "userinfo_endpoint": f"{self.base}/userinfo",
            "jwks_uri": f"{self.base}/jwks",
            "end_session_endpoint": f"{self.base}/end_session",
        }
        if self.auth_methods is not None:
            document["token_endpoint_auth_methods_supported"] = list(self.auth_methods)
        return web.json_response(document)

    async def _jwks(self, _: web.Request) -> web.Response:
        self.jwks_fetches += 1
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        answer = {"state": query["state"], "iss": self.answers_as or self.issuer}
        if self.authorize_error:
            answer |= self.authorize_error
        else:
            answer["code"] = secrets.token_urlsafe(16)
            self.codes[answer["code"]] = {**query, "user": self.login_as}
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(answer)}")

    def _client_is_right(self, request: web.Request, form: dict[str, Any]) -> bool:
        header = request.headers.get("Authorization")
        methods = self.auth_methods or ("client_secret_basic",)
        if header:
            auth = BasicAuth.decode(header)
            given = (auth.login, auth.password)
            return "client_secret_basic" in methods and given == (CLIENT_ID, CLIENT_SECRET)
        given = (form.get("client_id"), form.get("client_secret"))
        return "client_secret_post" in methods and given == (CLIENT_ID, CLIENT_SECRET)

    async def _token(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        if not self._client_is_right(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        if form["grant_type"] == "refresh_token":
            self.refreshes += 1
            self.refresh_began.set()
            await asyncio.sleep(self.refresh_delay)
        if self.token_error:
            status, body = self.token_error
            return web.json_response(body, status=status)
        if form["grant_type"] == "authorization_code":
            begun = self.codes.pop(form["code"], None)
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if (
                begun is None
                or begun["code_challenge"] != challenge
                or begun["redirect_uri"] != form["redirect_uri"]
            ):
                return web.json_response({"error": "invalid_grant"}, status=400)
            answer = self._answer(begun["user"], nonce=begun["nonce"])
            user = begun["user"]
        else:
            user = self.grants.get(form["refresh_token"])
            if user is None:
                return web.json_response({"error": "invalid_grant"}, status=400)
            self.audiences.append(form.get("audience"))
            answer = self._answer(user, audience=form.get("audience"))
            if not self.rotates:
                return web.json_response(answer)
            del self.grants[form["refresh_token"]]
        answer["refresh_token"] = secrets.token_urlsafe(24)
        self.grants[answer["refresh_token"]] = user
        return web.json_response(answer)

    async def _userinfo(self, request: web.Request) -> web.Response:
        self.userinfos += 1
        if self.userinfo_error:
            status, body = self.userinfo_error
            return web.json_response(body, status=status)
        token = request.headers["Authorization"].removeprefix("Bearer ")
        user = self.valid.get(token)
        if user is None:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({**self.users[user], **self.userinfo_changes})
