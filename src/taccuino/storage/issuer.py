"""What the storage must know of the IAM: its exact issuer and the certificates it signs with.

RadosGW 16 to 18 verify tokens with the ``x5c`` certificate of the key set that they fetch from
the issuer, and the OIDC provider in RadosGW names that certificate's SHA-1. RadosGW 16.2.15
was seen to take a certificate with another SHA-1 too: there, what is trusted is whatever
answers at the issuer's address, which is a reason for https.
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import StorageError

__all__ = [
    "PublishedIssuer",
    "condition_prefix",
    "published_issuer",
    "thumbprint",
    "thumbprints",
]

_SECONDS = 10.0
_LIMIT = 1 << 20


@dataclass(frozen=True)
class PublishedIssuer:
    """An issuer as it describes itself."""

    issuer: str
    """Exactly as tokens carry it: with or without a trailing slash."""
    thumbprints: tuple[str, ...]
    """SHA-1 of the signing certificates in hexadecimal; none if no ``x5c`` is published."""


def thumbprint(certificate: str) -> str:
    """SHA-1, in upper-case hexadecimal, of a certificate as ``x5c`` has it (base64 of DER)."""
    return (
        hashlib.sha1(base64.b64decode(certificate), usedforsecurity=False).hexdigest().upper()
    )


def thumbprints(jwks: Mapping[str, Any]) -> tuple[str, ...]:
    """The thumbprints of a key set's signing certificates, each once."""
    chains = [key.get("x5c") for key in jwks.get("keys", []) if key.get("use", "sig") == "sig"]
    return tuple(dict.fromkeys(thumbprint(chain[0]) for chain in chains if chain))


def condition_prefix(issuer: str) -> str:
    """The issuer as conditions and ARNs of RadosGW have it: without its scheme."""
    return issuer.removeprefix("https://").removeprefix("http://")


def published_issuer(issuer: str) -> PublishedIssuer:
    """Ask the issuer for its discovery document and its keys; blocking.

    Raises
    ------
    StorageError
        With the reason ``issuer``, if it can't be reached or answers something else.
    """
    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        document = _json(address)
        address = str(document["jwks_uri"])
        keys = _json(address)
        return PublishedIssuer(str(document["issuer"]), thumbprints(keys))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"iam.issuer: {address} gave no usable answer ({error}); the object storage needs "
            "it to trust the IAM's tokens",
            reason="issuer",
        ) from error


def _json(address: str) -> Any:
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address[:80]!r} is no HTTP address")
    with urllib.request.urlopen(address, timeout=_SECONDS) as response:  # noqa: S310
        return json.loads(response.read(_LIMIT))
