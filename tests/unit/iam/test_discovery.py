"""Discovery against a provider: slashes, caches, and an issuer that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from joserfc.jwk import RSAKey
from provider import CLIENT_ID, Provider

from taccuino.iam import Discovery, DiscoveryError
from taccuino.iam import discovery as discovery_module
from taccuino.iam.discovery import checked_document
from taccuino.iam.tokens import InvalidTokenError, UnknownKeyError

DOCUMENT = {
    "issuer": "https://iam.example.org/",
    "authorization_endpoint": "https://iam.example.org/authorize",
    "token_endpoint": "https://iam.example.org/token",
    "jwks_uri": "https://iam.example.org/jwk",
    "userinfo_endpoint": "https://iam.example.org/userinfo",
}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


def id_token(provider: Provider) -> str:
    return provider._answer("alice", nonce="n")["id_token"]


@pytest.mark.parametrize("setting", ["https://iam.example.org", "https://iam.example.org/"])
@pytest.mark.parametrize("published", ["https://iam.example.org", "https://iam.example.org/"])
def test_a_trailing_slash_of_the_setting_does_not_matter(setting: str, published: str):
    checked = checked_document(setting, {**DOCUMENT, "issuer": published})
    assert checked["issuer"] == published


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": "https://evil.example.org/"}, "evil.example.org"),
        ({"issuer": None}, "issuer"),
        ({"issuer": "http://iam.example.org/"}, "issuer"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"token_endpoint": "http://iam.example.org/token"}, "token_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri"),
        ({"jwks_uri": "/jwk"}, "jwks_uri"),
    ],
)
def test_documents_that_can_not_be_used(changes: dict, why: str):
    with pytest.raises(DiscoveryError, match=why):
        checked_document("https://iam.example.org", {**DOCUMENT, **changes})


def test_an_unusable_optional_endpoint_is_as_good_as_none():
    changed = {**DOCUMENT, "userinfo_endpoint": "http://iam.example.org/userinfo"}
    assert "userinfo_endpoint" not in checked_document("https://iam.example.org", changed)


@pytest.mark.parametrize("document", [None, [], "x"])
def test_no_document(document: object):
    with pytest.raises(DiscoveryError, match="JSON object"):
        checked_document("https://iam.example.org", document)


@pytest.mark.parametrize("issuer", ["", "iam.example.org", "ftp://x", "//x"])
def test_no_issuer(issuer: str):
    with pytest.raises(DiscoveryError, match="issuer"):
        Discovery(issuer)


@pytest.mark.parametrize("published_slash", [True, False])
@pytest.mark.parametrize("setting_slash", [True, False])
async def test_the_token_carries_the_documents_issuer(
    provider: Provider, published_slash: bool, setting_slash: bool
):
    provider.slash = published_slash
    discovery = Discovery(provider.base + ("/" if setting_slash else ""))
    claims = await discovery.verify(id_token(provider), audience=CLIENT_ID, nonce="n")
    assert claims["iss"] == provider.issuer
    provider.slash = not published_slash
    with pytest.raises(InvalidTokenError, match="comes from"):
        await discovery.verify(id_token(provider), audience=CLIENT_ID)


async def test_it_is_fetched_once_for_a_crowd(provider: Provider):
    discovery = Discovery(provider.issuer)
    assert provider.documents == 0
    await asyncio.gather(*(discovery.keys() for _ in range(20)))
    await discovery.document()
    assert (provider.documents, provider.jwks_fetches) == (1, 1)


async def test_a_changed_key_is_followed_and_a_forger_is_not(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    discovery = Discovery(provider.issuer)
    await discovery.keys()
    provider.key = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
    token = id_token(provider)
    assert await discovery.verify(token, audience=CLIENT_ID)
    assert provider.jwks_fetches == 2
    provider.other_key = RSAKey.generate_key(2048, {"kid": "forged"})
    provider.forged = True
    forged = provider.sign({"iss": provider.issuer}, kid="forged")
    for _ in range(5):
        with pytest.raises(UnknownKeyError):
            await discovery.verify(forged, audience=CLIENT_ID)
    assert provider.jwks_fetches == 2
    monkeypatch.setattr(discovery_module, "_REFETCH", 0)
    with pytest.raises(UnknownKeyError):
        await discovery.verify(forged, audience=CLIENT_ID)
    assert provider.jwks_fetches == 3


async def test_an_absent_issuer_is_told_and_found_again(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(discovery_module, "_RETRY", 0)
    discovery = Discovery(provider.issuer)
    provider.stop()
    with pytest.raises(DiscoveryError, match="can't be fetched"):
        await discovery.document()
    with pytest.raises(DiscoveryError):
        await discovery.check()
    provider.restart()
    assert (await discovery.document())["issuer"] == provider.issuer
    assert 0 <= await discovery.check() < 10


async def test_what_was_fetched_outlasts_an_outage(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    discovery = Discovery(provider.issuer)
    await discovery.keys()
    token = id_token(provider)
    provider.stop()
    monkeypatch.setattr(discovery_module, "_FRESH", 0)
    assert await discovery._document.get(max_age=0)
    assert await discovery.verify(token, audience=CLIENT_ID)
    provider.restart()


async def test_a_failure_is_remembered_for_a_moment(provider: Provider):
    discovery = Discovery(provider.issuer)
    provider.stop()
    with pytest.raises(DiscoveryError):
        await discovery.document()
    provider.restart()
    with pytest.raises(DiscoveryError):
        await discovery.document()
    assert provider.documents == 0
