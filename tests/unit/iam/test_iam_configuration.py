"""What `configure` makes of the settings, and the file with the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from taccuino.errors import ServiceError, SettingsError
from taccuino.iam import IAMAuthenticator, configure
from taccuino.iam.configuration import crypt_keys
from taccuino.settings import Settings


def settings(tmp_path: Path, **iam: Any) -> Settings:
    (tmp_path / "client-secret").write_text("a secret\n")
    known = {
        "issuer": "https://iam.example.org/",
        "client_id": "naas",
        "client_secret_file": str(tmp_path / "client-secret"),
    }
    return Settings.parse({"state_dir": str(tmp_path), "iam": {**known, **iam}})


def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **iam: Any) -> Config:
    monkeypatch.delenv("JUPYTERHUB_CRYPT_KEY", raising=False)
    config = Config()
    configure(config, settings(tmp_path, **iam))
    return config


def test_an_operators_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = configured(
        tmp_path,
        monkeypatch,
        scopes=["profile", "offline_access"],
        allowed_groups=["/naas"],
        admin_groups=["/naas/admins"],
        display_name="INFN Cloud",
        refresh_seconds=120,
    )
    authenticator = IAMAuthenticator(config=config)
    assert authenticator.scope == ["openid", "profile", "offline_access"]
    assert authenticator.allowed_groups == {"naas"}
    assert authenticator.admin_groups == {"naas/admins"}
    assert not authenticator.allow_all
    assert authenticator.manage_groups
    assert authenticator.enable_auth_state
    assert authenticator.refresh_pre_spawn
    assert authenticator.auth_refresh_age == 120
    assert authenticator.login_service == "INFN Cloud"
    assert authenticator.client_secret == "a secret"
    assert authenticator.oauth_callback_url == "http://localhost:8000/hub/oauth_callback"
    assert authenticator.reserved_usernames == {"scratch"}
    assert "a secret" not in str(config)


def test_with_no_allowed_groups_every_registered_user_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert configured(tmp_path, monkeypatch).IAMAuthenticator.allow_all


def test_a_key_in_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "ab" * 32)
    config = Config()
    configure(config, settings(tmp_path))
    assert "keys" not in config.CryptKeeper


@pytest.mark.parametrize("missing", ["issuer", "client_id"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str):
    incomplete = settings(tmp_path)
    setattr(incomplete.iam, missing, None)
    with pytest.raises(SettingsError, match=f"iam.{missing}"):
        configure(Config(), incomplete)


def test_a_secret_that_can_not_be_read_is_named(tmp_path: Path):
    without = settings(tmp_path)
    (tmp_path / "client-secret").unlink()
    with pytest.raises(SettingsError, match="client_secret_file"):
        configure(Config(), without)
    authenticator = IAMAuthenticator(client_secret_file=str(tmp_path / "client-secret"))
    with pytest.raises(ServiceError, match="client_secret_file"):
        _ = authenticator.client_secret


def test_the_key_is_made_once_and_is_private(tmp_path: Path):
    path = tmp_path / "secrets/hub-crypt-key"
    first = crypt_keys(path)
    assert crypt_keys(path) == first
    assert len(bytes.fromhex(first[0])) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("cd" * 32 + "\n" + first[0] + "\n")
    assert crypt_keys(path) == ["cd" * 32, first[0]]


@pytest.mark.parametrize("text", ["", "\n", "short", "zz" * 32, "é" * 64])
def test_a_file_without_keys_is_not_overwritten(tmp_path: Path, text: str):
    path = tmp_path / "hub-crypt-key"
    path.write_text(text)
    with pytest.raises(SettingsError):
        crypt_keys(path)
    assert path.read_text() == text


BACK = "client_id=naas&post_logout_redirect_uri=https%3A%2F%2Fs"


@pytest.mark.parametrize(
    ("endpoint", "override", "claims", "address"),
    [
        ("https://i/end", "", {}, f"https://i/end?{BACK}"),
        ("https://i/end?a=1", "", {}, f"https://i/end?a=1&{BACK}"),
        ("https://i/end", "https://other/out", {}, "https://other/out"),
        (None, "", {}, None),
        ("https://i/end", "", {"exp": 101}, f"https://i/end?{BACK}"),
        ("https://i/end", "", {"exp": 99}, f"https://i/end?{BACK}&id_token_hint=jwt"),
    ],
)
async def test_where_the_iams_session_ends(
    endpoint: str | None, override: str, claims: dict[str, Any], address: str | None
):
    class Discovered:
        async def document(self) -> dict[str, Any]:
            return {"end_session_endpoint": endpoint} if endpoint else {}

    authenticator = IAMAuthenticator(
        client_id="naas", logout_page_url=override, after_logout_url="https://s"
    )
    authenticator.discovery = Discovered()
    state = {"id_token": "jwt", "id_token_claims": claims}
    assert await authenticator.iam_logout_url(state, now=100) == address
