"""Logins that are begun and never ended."""

from __future__ import annotations

import pytest

from taccuino.settings import Settings
from taccuino.storage.pages import login
from taccuino.storage.pages.login import PREFIX, PagesAuth, pages_auth


@pytest.fixture
def auth() -> PagesAuth:
    return pages_auth(Settings.parse({}), "token")


def test_a_login_leads_back(auth: PagesAuth) -> None:
    short, long = f"{PREFIX}browse/a", f"{PREFIX}{'x' * 2000}"
    assert auth.get_next_url(auth.generate_state(short)) == short
    assert auth.get_next_url(auth.generate_state(long)) == PREFIX
    state = auth.generate_state(long, cookie_name="other")
    assert auth.get_state_cookie_name(state) == "other"


def test_the_oldest_logins_are_forgotten(
    auth: PagesAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_MOST_STATES", 3)
    first, *others = [auth.generate_state(f"{PREFIX}{n}") for n in range(4)]
    assert len(auth._oauth_states) == 3
    assert auth.get_next_url(first) == PREFIX
    assert [auth.get_next_url(state) for state in others] == [f"{PREFIX}{n}" for n in (1, 2, 3)]
