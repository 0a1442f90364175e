"""Rendezvous hashing: each site computes the same, and few users move."""

from __future__ import annotations

from collections import Counter

import pytest

from taccuino.sites import Place, home

USERS = [f"user{n}" for n in range(4000)]
BARI, CNAF, NAPOLI = Place("bari"), Place("cnaf"), Place("napoli")


def homes(*places: Place) -> dict[str, str | None]:
    return {user: home(user, places) for user in USERS}


def test_no_site_is_no_home() -> None:
    assert home("alice", []) is None


def test_the_order_of_the_list_does_not_matter() -> None:
    assert homes(BARI, CNAF, NAPOLI) == homes(NAPOLI, BARI, CNAF)


def test_users_are_spread_evenly() -> None:
    for share in Counter(homes(BARI, CNAF, NAPOLI).values()).values():
        assert share == pytest.approx(len(USERS) / 3, rel=0.1)


def test_weights_are_shares() -> None:
    shares = Counter(homes(BARI, Place("cnaf", 3)).values())
    assert shares["cnaf"] / shares["bari"] == pytest.approx(3, rel=0.15)


def test_only_the_users_of_a_lost_site_move() -> None:
    before, after = homes(BARI, CNAF, NAPOLI), homes(BARI, NAPOLI)
    moved = {user for user in USERS if before[user] != after[user]}
    assert moved == {user for user, site in before.items() if site == "cnaf"}


def test_a_site_that_comes_takes_its_share_and_moves_nobody_else() -> None:
    before, after = homes(BARI, CNAF), homes(BARI, CNAF, NAPOLI)
    assert {after[user] for user in USERS if before[user] != after[user]} == {"napoli"}
