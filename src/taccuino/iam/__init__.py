"""Identity: login with the IAM over OpenID Connect, and the grants that come from it.

`configure` sets JupyterHub up with the `IAMAuthenticator`; the `TokenBroker` hands out fresh
access tokens of users' grants; `Discovery` knows the issuer's endpoints and keys and verifies
its tokens. The rules are pure functions in `groups`, `usernames`, `failures` and `tokens`.
JupyterHub is imported only when the authenticator is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .failures import GrantFailure, GrantReason, login_reason_message

if TYPE_CHECKING:
    from .authenticator import IAMAuthenticator
    from .broker import TokenBroker
    from .configuration import configure
    from .discovery import Discovery, DiscoveryError
    from .grants import AccessToken
    from .tokens import InvalidTokenError

__all__ = [
    "AccessToken",
    "Discovery",
    "DiscoveryError",
    "GrantFailure",
    "GrantReason",
    "IAMAuthenticator",
    "InvalidTokenError",
    "TokenBroker",
    "configure",
    "login_reason_message",
]

_HOMES: Final = {
    "AccessToken": "grants",
    "Discovery": "discovery",
    "DiscoveryError": "discovery",
    "IAMAuthenticator": "authenticator",
    "TokenBroker": "broker",
    "InvalidTokenError": "tokens",
    "configure": "configuration",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is asked for."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
