"""canaille in this process: accounts, the client, and what its tokens carry."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("canaille")

from canaille.app import models
from canaille.backends import Backend

from taccuino.local import iam_server
from taccuino.local.iam import EMBEDDED_ADMIN_GROUP, GRANT_SECONDS
from taccuino.settings import Settings

ACCOUNTS = [
    {"username": "alice", "password": "long enough", "admin": False},
    {"username": "ada", "password": "long enough too", "admin": True},
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    state = tmp_path_factory.mktemp("iam")
    (state / "secret").write_text("client secret\n")
    return Settings.parse(
        {
            "state_dir": str(state),
            "iam": {"client_secret_file": str(state / "secret")},
            "local": {"iam_port": 8001, "iam_backend_port": 8002, "iam_token_seconds": 120},
        }
    )


@pytest.fixture(scope="module")
def app(settings: Settings) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(settings.state_dir)  # where no canaille.toml lies
        app = iam_server.make_app(settings)
        iam_server.provision(app, settings, ACCOUNTS)
        yield app


def test_accounts_and_the_admin_group(app: Any) -> None:
    with app.app_context():
        ada = Backend.instance.get(models.User, user_name="ada")
        alice = Backend.instance.get(models.User, user_name="alice")
        assert [group.display_name for group in ada.groups] == [EMBEDDED_ADMIN_GROUP]
        assert ada.can_manage_users
        assert not alice.groups
        assert not alice.can_manage_users
        assert Backend.instance.check_user_password(alice, "long enough")[0]


def test_a_changed_password_stays_and_a_changed_address_is_taken_over(
    app: Any, settings: Settings
) -> None:
    with app.app_context():
        alice = Backend.instance.get(models.User, user_name="alice")
        Backend.instance.set_user_password(alice, "chosen by alice")
    moved = settings.model_copy(update={"port": 9000})
    iam_server.provision(app, moved, ACCOUNTS)
    with app.app_context():
        alice = Backend.instance.get(models.User, user_name="alice")
        assert Backend.instance.check_user_password(alice, "chosen by alice")[0]
        client = Backend.instance.get(models.Client, client_id="taccuino")
        assert client.redirect_uris == ["http://localhost:9000/hub/oauth_callback"]
        assert client.client_secret == "client secret"
        assert not client.trusted
        assert Backend.instance.count(models.Client) == 1


def test_two_tokens_of_one_second_differ_and_end_before_the_grant(app: Any) -> None:
    with app.app_context():
        client = Backend.instance.get(models.Client, client_id="taccuino")
        alice = Backend.instance.get(models.User, user_name="alice")
        tokens = [
            iam_server.access_token(client, "authorization_code", alice, "openid profile")
            for _ in range(2)
        ]
        assert tokens[0] != tokens[1]
        part = tokens[0].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=="))
        assert claims["exp"] - claims["iat"] == 120
        assert (claims["sub"], claims["aud"]) == ("alice", ["taccuino"])
        assert claims["iss"] == "http://localhost:8001"

        token = {"token_type": "Bearer", "access_token": tokens[0], "expires_in": 120}
        token |= {"scope": "openid", "refresh_token": "r"}
        iam_server.save_token(token, SimpleNamespace(client=client, user=alice))
        assert token["expires_in"] == 120
        kept = Backend.instance.get(models.Token, access_token=tokens[0])
        assert kept.lifetime == GRANT_SECONDS
        assert kept.is_refresh_token_active()


def test_the_database_is_not_for_others(settings: Settings) -> None:
    path = settings.state_dir / "iam/canaille.sqlite"
    assert path.stat().st_mode & 0o077 == 0
