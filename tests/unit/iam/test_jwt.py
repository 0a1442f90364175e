"""Tokens that must be believed and tokens that must not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from taccuino.iam.tokens import InvalidTokenError, UnknownKeyError, verify

NOW = 1_800_000_000
ISSUER = "https://iam.example.org/"
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
KEYS = [RSA, EC]
CLAIMS = {
    "iss": ISSUER,
    "sub": "80e5",
    "aud": "taccuino",
    "iat": NOW - 10,
    "exp": NOW + 600,
    "nonce": "n-0S6",
}


def sign(key: Any = RSA, alg: str = "RS256", kid: str | None = None, **changes: Any) -> str:
    claims = {k: v for k, v in {**CLAIMS, **changes}.items() if v is not ...}
    header = {"alg": alg, "kid": key.kid if kid is None else kid}
    if kid == "":
        del header["kid"]
    return jwt.encode(header, claims, key, [alg], JWSRegistry(algorithms=[alg]))


def check(token: str, **changes: Any) -> dict[str, Any]:
    return verify(
        token,
        **{
            "keys": KEYS,
            "issuer": ISSUER,
            "audience": "taccuino",
            "nonce": "n-0S6",
            "now": NOW,
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (RSA, "RS256"),
        (RSA, "RS384"),
        (RSA, "RS512"),
        (RSA, "PS256"),
        (RSA, "PS512"),
        (EC, "ES256"),
    ],
)
def test_accepted_algorithms(key: Any, alg: str):
    assert check(sign(key, alg))["sub"] == "80e5"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["taccuino"]},
        {"aud": ["taccuino", "other"]},
        {"aud": ["taccuino", "other"], "azp": "taccuino"},
        {"exp": NOW - 29},
        {"iat": NOW + 29},
        {"nbf": NOW + 29},
        {"iat": ...},
    ],
)
def test_what_is_still_good(changes: dict[str, Any]):
    assert check(sign(**changes))["sub"] == "80e5"


def test_a_token_without_kid_is_tried_with_each_key():
    assert check(sign(EC, "ES256", kid=""))
    assert check(sign(RSA, kid=""))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": ...}, "never expires"),
        ({"exp": "tomorrow"}, "exp is no number"),
        ({"exp": True}, "exp is no number"),
        ({"iat": NOW + 31}, "clocks"),
        ({"nbf": NOW + 31}, "clocks"),
        ({"aud": "other"}, "meant for"),
        ({"aud": []}, "meant for"),
        ({"aud": ["taccuino2"]}, "meant for"),
        ({"aud": ...}, "meant for"),
        ({"aud": ["taccuino", "x"], "azp": "x"}, "made for"),
        ({"iss": "https://iam.example.org"}, "comes from"),
        ({"iss": "https://evil.example.org/"}, "comes from"),
        ({"iss": ...}, "comes from"),
        ({"sub": ...}, "no subject"),
        ({"sub": ""}, "no subject"),
        ({"sub": 7}, "no subject"),
        ({"nonce": "other"}, "nonce"),
        ({"nonce": ...}, "nonce"),
        ({"nonce": 7}, "nonce"),
    ],
)
def test_refused_claims(changes: dict[str, Any], why: str):
    with pytest.raises(InvalidTokenError, match=why):
        check(sign(**changes))


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 7])
def test_unsigned_tokens_are_refused(alg: object):
    for signature in ("", "AAAA"):
        with pytest.raises(InvalidTokenError, match="algorithm"):
            check(f"{encoded({'alg': alg, 'kid': 'rsa'})}.{encoded(CLAIMS)}.{signature}")


def test_hmac_with_the_public_key_as_its_secret_is_refused():
    signed = f"{encoded({'alg': 'HS256', 'kid': 'rsa'})}.{encoded(CLAIMS)}"
    for secret in (RSA.as_pem(private=False), json.dumps(RSA.as_dict(private=False)).encode()):
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        with pytest.raises(InvalidTokenError, match="algorithm"):
            check(f"{signed}.{encoded(mac)}")


def test_a_published_hmac_key_verifies_nothing():
    key = OctKey.generate_key(256, {"kid": "oct"})
    with pytest.raises(InvalidTokenError, match="algorithm"):
        check(sign(key, "HS256"), keys=[key])


def test_a_forged_signature_is_refused():
    with pytest.raises(InvalidTokenError, match="signature does not hold"):
        check(sign(STRANGER))


def test_a_changed_payload_is_refused():
    header, _, signature = sign().split(".")
    with pytest.raises(InvalidTokenError, match="signature does not hold"):
        check(f"{header}.{encoded({**CLAIMS, 'sub': 'root'})}.{signature}")


def test_an_unknown_key_is_told_apart():
    with pytest.raises(UnknownKeyError):
        check(sign(STRANGER, kid="new"))


def test_an_rsa_token_is_not_verified_with_an_ec_key():
    with pytest.raises(InvalidTokenError, match="algorithm"):
        check(sign(RSA, kid="ec"))


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.b.c", "a.b.c.d", "....", "é.é.é", "bnVsbA.e30.AA", "\x00.\x00."]
)
def test_what_is_no_token(text: str):
    with pytest.raises(InvalidTokenError):
        check(text)


def test_the_message_does_not_hold_the_token():
    token = sign(STRANGER)
    with pytest.raises(InvalidTokenError) as refusal:
        check(token)
    assert not any(part in str(refusal.value) for part in token.split("."))


def test_any_audience_and_no_nonce():
    assert check(sign(aud="other", nonce=...), audience=None, nonce=None)


def test_at_hash_binds_the_access_token():
    digest = hashlib.sha256(b"access").digest()
    at_hash = encoded(digest[:16])
    assert check(sign(at_hash=at_hash), access_token="access")
    assert check(sign(), access_token="access")
    with pytest.raises(InvalidTokenError, match="at_hash"):
        check(sign(at_hash=at_hash), access_token="another")


def test_now_is_now_by_default():
    assert check(sign(exp=time.time() + 60, iat=time.time()), now=None)
    with pytest.raises(InvalidTokenError, match="expired"):
        check(sign(exp=time.time() - 60, iat=...), now=None)
