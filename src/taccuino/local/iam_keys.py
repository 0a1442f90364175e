"""The key that signs the embedded IAM's tokens, and the certificate that RadosGW trusts."""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID
from joserfc.jwk import RSAKey

from taccuino.storage.issuer import thumbprint

__all__ = ["SigningKey"]

_BITS = 2048
_YEARS = 20


@dataclass(frozen=True)
class SigningKey:
    """An RSA key and a self-signed certificate over it.

    The certificate vouches for nothing by itself: an OIDC provider in RadosGW names the SHA-1
    of it (`thumbprint`), which is what makes tokens that its key signed trusted.
    """

    jwk: dict[str, str]
    """The private key (RFC 7517), with its ``kid``."""
    certificate: str
    """Base64 of the certificate's DER, as ``x5c`` has it."""

    @classmethod
    def new(cls, common_name: str) -> Self:
        """A new key and its certificate."""
        key = RSAKey.generate_key(_BITS, auto_kid=True)
        private = key.private_key
        if not isinstance(private, RSAPrivateKey):
            raise TypeError("joserfc gave no RSA key")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=365 * _YEARS))
            .sign(private, hashes.SHA256())
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        jwk = {str(name): str(value) for name, value in key.as_dict(private=True).items()}
        return cls(jwk, base64.b64encode(der).decode())

    @classmethod
    def parse(cls, text: str) -> Self:
        """A key from what `text` gave."""
        data = json.loads(text)
        return cls(data["jwk"], data["certificate"])

    def text(self) -> str:
        """The key as it is kept in a file; a secret."""
        return json.dumps({"jwk": self.jwk, "certificate": self.certificate}) + "\n"

    def jwks(self) -> dict[str, Any]:
        """The public key set (RFC 7517) with the certificate in ``x5c``."""
        public = {name: self.jwk[name] for name in ("kty", "n", "e", "kid")}
        key = {**public, "use": "sig", "alg": "RS256", "x5c": [self.certificate]}
        return {"keys": [key]}

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the certificate in hexadecimal: what an OIDC provider in RadosGW names."""
        return thumbprint(self.certificate)
