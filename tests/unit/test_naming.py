from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taccuino.naming import is_slug, slug


@pytest.mark.parametrize("name", ["alice", "bob2", "mary-jane"])
def test_a_plain_name_is_its_own_slug(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize(
    "name",
    ["Alice", "a", "a.b", "a@b.org", "../../etc", "x" * 200, "", "ünï", "a--b", "a-", "1a"],
)
def test_any_other_name_gets_a_digest(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*--[0-9a-f]{20}", slug(name))
    assert len(slug(name)) <= 38


@given(st.text(), st.text())
def test_slugs_are_path_safe_and_do_not_collide(first: str, second: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,37}", slug(first))
    assert (slug(first) == slug(second)) == (first == second)
    assert is_slug(slug(first))


@pytest.mark.parametrize("text", ["", "..", "../x", "a/b", "-a", "A", "a" * 60, "a\n"])
def test_what_is_no_slug(text: str) -> None:
    assert not is_slug(text)
