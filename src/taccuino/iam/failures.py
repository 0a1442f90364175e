"""Why the IAM refuses a user, and the sentence that each reason is told with.

An OAuth error carries a code and a free text (RFC 6749, section 5.2). Providers use
``invalid_grant`` for nearly everything and differ in the text alone, so both are read:

=================  ===================================================================
INDIGO IAM         400 ``invalid_grant`` "User NAME needs to sign AUP for this
                   organization in order to proceed."; 401 ``unauthorized``
                   "User NAME is not active."; 400 ``invalid_grant`` "Invalid Refresh
                   Token" (IamRefreshTokenGranter.java and its tests)
Keycloak           400 ``invalid_grant`` with "User disabled", "Account is not fully set
                   up", "Session not active", "Token is not active", "Stale token"
                   (TokenManager.java)
canaille (Authlib)  400 ``invalid_grant`` without a text for a rotated or unknown token;
                   400 ``invalid_request`` "There is no 'user' for this token." for a
                   locked user
=================  ===================================================================
"""

from __future__ import annotations

import re
from typing import Final, Literal

from taccuino.errors import TaccuinoError

__all__ = [
    "GrantFailure",
    "GrantReason",
    "grant_failure_reason",
    "login_reason_message",
]

GrantReason = Literal["expired_grant", "suspended", "usage_policy", "refused", "unreachable"]

_SENTENCES: Final[dict[GrantReason, str]] = {
    "expired_grant": "Your login has expired. Log in again to go on; nothing is lost.",
    "suspended": (
        "Your account is suspended at the identity service. Ask its administrators why; "
        "your files are kept."
    ),
    "usage_policy": (
        "The usage policy of your identity service waits for your signature. Log in there, "
        "accept the policy, then log in here again."
    ),
    "refused": (
        "The identity service refused this service's request. Log in again; if it is refused "
        "again, tell the administrators of this service."
    ),
    "unreachable": (
        "The identity service cannot be reached at the moment. Wait a minute and try again; "
        "running notebook servers are not affected."
    ),
}

_LOGIN_SENTENCES: Final[dict[str, str]] = {
    **{str(reason): sentence for reason, sentence in _SENTENCES.items()},
    "group": (
        "You are no longer a member of a group that may use this service. Ask the "
        "administrators of your group."
    ),
    "consent_denied": (
        "You did not allow this service to know who you are, and it can't let you in "
        "without. Log in again to allow it."
    ),
}

# The order matters: a text may match more than one pattern ("User ... is not active" and
# "Session not active").
_TEXTS: Final[tuple[tuple[GrantReason, re.Pattern[str]], ...]] = (
    (
        "usage_policy",
        re.compile(
            r"\baup\b|usage policy|acceptable use|terms (of|and)|not fully set up"
            r"|required action|consent",
            re.IGNORECASE,
        ),
    ),
    (
        "expired_grant",
        re.compile(
            r"(refresh[ _]?token|token|session|grant|code)\b.{0,40}"
            r"(expired|not active|inactive|revoked|not found|unknown|invalid)"
            r"|(invalid|expired|stale|unknown|revoked)\b.{0,20}(token|session|grant|code)"
            r"|session not active|maximum allowed refresh token reuse",
            re.IGNORECASE,
        ),
    ),
    (
        "suspended",
        re.compile(
            r"(user|account)\b.{0,80}"
            r"(disabled|suspended|inactive|not active|locked|blocked|deactivated|expired)"
            r"|(disabled|suspended|locked|blocked) (user|account)|no 'user' for this token",
            re.IGNORECASE,
        ),
    ),
)

# The identity service is there but could not work: as good as not reached.
_TEMPORARY: Final = frozenset({"server_error", "temporarily_unavailable"})
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500


class GrantFailure(TaccuinoError):  # noqa: N818  # it says "failure" in the contract
    """The IAM gave no token for a user.

    Parameters
    ----------
    reason
        One of the reasons that :func:`grant_failure_reason` tells apart.
    detail
        What the IAM or the network said, for the log; never a secret.
    """

    def __init__(self, reason: GrantReason, detail: str = "") -> None:
        self.reason: GrantReason = reason
        self.detail = detail
        self.user_message = _SENTENCES[reason]
        super().__init__(self.user_message)

    def __str__(self) -> str:
        """The reason and its detail, for logs; users read ``user_message``."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def grant_failure_reason(
    error: str | None, description: str | None = None, status: int = 400
) -> GrantReason:
    """Why a token endpoint refused, from its status, ``error`` and ``error_description``."""
    if status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR or error in _TEMPORARY:
        return "unreachable"
    text = " ".join((description or "").split())[:400]
    # A client that was disabled is not the user's fault: "Client x is not active".
    about_client = error in {"invalid_client", "unauthorized_client"} or re.search(
        r"^client\b", text, re.IGNORECASE
    )
    if not about_client:
        for reason, pattern in _TEXTS:
            if pattern.search(text):
                return reason
        if error == "invalid_grant":
            return "expired_grant"
    return "refused"


def login_reason_message(code: str | None) -> str | None:
    """The sentence for the ``?reason=`` of a login page; ``None`` for an unknown code."""
    return _LOGIN_SENTENCES.get(code or "")
