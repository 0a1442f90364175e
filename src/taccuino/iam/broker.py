"""The token broker: fresh access tokens for what acts on a user's behalf.

The notebook server's agent and the object storage ask it; nobody but it and the
authenticator ever sees a refresh token.
"""

from __future__ import annotations

from typing import Any, Protocol

from .grants import AccessToken, Grants

__all__ = ["TokenBroker"]


class _HoldsGrants(Protocol):
    @property
    def grants(self) -> Grants: ...


class TokenBroker:
    """Hands out access tokens of the users' grants.

    Parameters
    ----------
    authenticator
        The hub's `IAMAuthenticator`: both work on the same grants with the same locks, since
        two refreshes of one grant at once would end it.
    """

    def __init__(self, authenticator: _HoldsGrants) -> None:
        self._authenticator = authenticator

    async def access_token(
        self, user: Any, *, min_valid_seconds: int = 60, audience: str | None = None
    ) -> AccessToken:
        """An access token of JupyterHub's `User`, valid for a while yet.

        Parameters
        ----------
        min_valid_seconds
            How long it should be valid; at most half of a token's life is granted.
        audience
            For whom it should be; asked of the IAM with ``audience=``. Tokens are kept for
            each audience until they near their end.

        Raises
        ------
        GrantFailure
            If the user has no grant (they never logged in here) or the IAM refuses.
        """
        return await self._authenticator.grants.token(
            user, min_valid_seconds=min_valid_seconds, audience=audience or None
        )
