"""Verification of JSON Web Tokens (RFC 7519) with the issuer's published keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, RSAKey
from joserfc.jws import JWSRegistry

from taccuino.errors import TaccuinoError

__all__ = ["InvalidTokenError", "UnknownKeyError", "key_id", "verify"]

LEEWAY: Final = 30
"""Seconds that the clocks of the issuer and of the hub may differ."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_EC: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}


class InvalidTokenError(TaccuinoError):
    """A token that must not be believed; the text says why, without the token."""


class UnknownKeyError(InvalidTokenError):
    """The token names a key that the issuer did not publish, or not yet."""


def algorithms(key: Key) -> tuple[str, ...]:
    """Signature algorithms that a key may be used with.

    The list comes from the key and never from the token: a token that says ``none`` or asks
    for HMAC with a public key as its secret (RFC 8725, section 2.1) finds no algorithm.
    """
    if isinstance(key, RSAKey):
        return _RSA
    if isinstance(key, ECKey):
        return _EC.get(key.curve_name, ())
    return ()


def _part(segment: str) -> dict[str, Any]:
    padded = segment + "=" * (-len(segment) % 4)
    value = json.loads(base64.urlsafe_b64decode(padded))
    if not isinstance(value, dict):
        raise TypeError("no JSON object")
    return value


def _header(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:  # header, payload and signature
        raise InvalidTokenError("it is no signed JSON Web Token")
    try:
        return _part(parts[0])
    except (ValueError, TypeError):
        raise InvalidTokenError("its header can't be read") from None


def key_id(token: str) -> str | None:
    """The ``kid`` in a token's header.

    Raises
    ------
    InvalidTokenError
        If the token has no readable header.
    """
    kid = _header(token).get("kid")
    return kid if isinstance(kid, str) else None


def _decode(token: str, keys: Iterable[Key]) -> dict[str, Any]:
    """The claims of a token whose signature holds."""
    header = _header(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    usable = list(keys)
    if kid is not None:
        usable = [key for key in usable if key.kid == kid]
        if not usable:
            raise UnknownKeyError("it is signed with a key that its issuer does not publish")
    usable = [key for key in usable if algorithm in algorithms(key)]
    if not usable:
        raise InvalidTokenError(
            f"its signature algorithm {ascii(algorithm)[:20]} is not accepted"
        )
    registry = JWSRegistry(algorithms=[str(algorithm)], strict_check_header=False)
    for key in usable:
        try:
            return dict(jwt.decode(token, key, [str(algorithm)], registry).claims)
        except (JoseError, ValueError):  # another of the keys may have made the signature
            continue
    raise InvalidTokenError("its signature does not hold")


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTokenError(f"its {name} is no number")
    return float(value)


def _check_times(claims: Mapping[str, Any], now: float, leeway: float) -> None:
    expires = _number(claims, "exp")
    if expires is None:
        raise InvalidTokenError("it never expires (no exp)")
    if now >= expires + leeway:
        raise InvalidTokenError(f"it expired {now - expires:.0f} seconds ago")
    for name in ("nbf", "iat"):
        moment = _number(claims, name)
        if moment is not None and moment > now + leeway:
            raise InvalidTokenError(
                f"it is not valid before {moment - now:.0f} seconds from now ({name}); "
                "compare the clocks of the hub and of the issuer"
            )


def _check_audience(claims: Mapping[str, Any], audience: str) -> None:
    value = claims.get("aud")
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or audience not in audiences:
        raise InvalidTokenError(f"it is meant for {ascii(value)[:80]}, not for {audience!r}")
    party = claims.get("azp")
    if len(audiences) > 1 and party is not None and party != audience:
        raise InvalidTokenError(f"it was made for {ascii(party)[:80]}, not for {audience!r}")


def _same(left: object, right: str) -> bool:
    return isinstance(left, str) and hmac.compare_digest(left.encode(), right.encode())


def _half_hash(algorithm: str, value: str) -> str:
    """The left half of a hash, as ``at_hash`` has it (OpenID Connect Core, 3.1.3.6)."""
    digest = hashlib.new(f"sha{algorithm[-3:]}", value.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def verify(
    token: str,
    keys: Iterable[Key],
    *,
    issuer: str,
    audience: str | None,
    nonce: str | None = None,
    access_token: str | None = None,
    now: float | None = None,
    leeway: float = LEEWAY,
) -> dict[str, Any]:
    """The claims of a token that may be believed.

    Parameters
    ----------
    issuer
        What ``iss`` must be, exactly: the issuer in the discovery document.
    audience
        What must be in ``aud``; ``None`` when any audience will do.
    nonce
        What ``nonce`` must be; ``None`` when none was sent.
    access_token
        The access token that came with it: checked against ``at_hash`` when that is there.
    now, leeway
        Unix time and the tolerance, both in seconds.

    Raises
    ------
    UnknownKeyError
        If the token names a key that is not among ``keys``: fetch them anew, once.
    InvalidTokenError
        If anything else is wrong with it.
    """
    try:
        claims = _decode(token, keys)
    except UnicodeError:
        raise InvalidTokenError("it is no signed JSON Web Token") from None
    if claims.get("iss") != issuer:
        raise InvalidTokenError(
            f"it comes from {ascii(claims.get('iss'))[:120]}, not from {issuer!r}"
        )
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise InvalidTokenError("it names no subject (no sub)")
    _check_times(claims, time.time() if now is None else now, leeway)
    if audience is not None:
        _check_audience(claims, audience)
    if nonce is not None and not _same(claims.get("nonce"), nonce):
        raise InvalidTokenError("its nonce is not the one that this login began with")
    if access_token is not None and "at_hash" in claims:
        expected = _half_hash(str(_header(token)["alg"]), access_token)
        if not _same(claims["at_hash"], expected):
            raise InvalidTokenError("it does not belong to the access token (at_hash)")
    return claims
