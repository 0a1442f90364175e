"""Truth tables of the rules: groups, usernames, and why the IAM refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taccuino.iam.failures import (
    GrantFailure,
    grant_failure_reason,
    login_reason_message,
)
from taccuino.iam.groups import groups_of, is_member, normalize_group, normalize_groups
from taccuino.iam.usernames import UsernameError, checked_username


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("naas", "naas"),
        ("/naas", "naas"),
        ("/naas/", "naas"),
        ("//naas", "naas"),
        (" /naas ", "naas"),
        ("/naas/admins", "naas/admins"),
        ("NaaS", "NaaS"),
        ("/", ""),
        ("", ""),
    ],
)
def test_a_leading_slash_never_matters(written: str, meant: str):
    assert normalize_group(written) == meant


@pytest.mark.parametrize(
    ("listed", "usable"),
    [
        (["/a", "a"], {"a"}),
        (["a", "", "/", "  "], {"a"}),
        ([None, 7, ["a"], {}], set()),
        ([{"display": "/a"}, {"name": "b"}, {"value": "c"}], {"a", "b"}),
        (["x" * 255, "y" * 256], {"x" * 255}),
    ],
)
def test_only_usable_groups_are_kept(listed: list, usable: set):
    assert normalize_groups(listed) == usable


@pytest.mark.parametrize(
    ("claim", "sources", "groups"),
    [
        ("groups", [{"groups": ["/a", "b"]}], {"a", "b"}),
        ("groups", [{"groups": "a"}], {"a"}),
        ("groups", [{"groups": []}], set()),
        ("groups", [{}], None),
        ("groups", [{"groups": None}], None),
        ("groups", [{"groups": 7}], None),
        ("groups", [{}, {"groups": ["a"]}], {"a"}),
        ("groups", [{"groups": []}, {"groups": ["a"]}], set()),
        ("wlcg.groups", [{"wlcg.groups": ["/wlcg/pilots"]}], {"wlcg/pilots"}),
        ("realm_access.roles", [{"realm_access": {"roles": ["a"]}}], {"a"}),
        ("realm_access.roles", [{"realm_access": "a"}], None),
    ],
)
def test_groups_come_from_the_first_source_that_has_them(
    claim: str, sources: list, groups: set | None
):
    assert groups_of(claim, *sources) == groups


@pytest.mark.parametrize(
    ("groups", "wanted", "member"),
    [
        (["/naas"], ["naas"], True),
        (["naas"], ["/naas"], True),
        (["a", "naas"], ["b", "naas"], True),
        (["naas/users"], ["naas"], False),
        (["Naas"], ["naas"], False),
        ([], ["naas"], False),
        (["naas"], [], False),
        ([""], [""], False),
        (["/"], ["/"], False),
    ],
)
def test_membership(groups: list, wanted: list, member: bool):
    assert is_member(groups, wanted) is member


@pytest.mark.parametrize(
    ("claimed", "name"),
    [
        ("alice", "alice"),
        ("Alice", "alice"),
        ("ROSSI.Mario", "rossi.mario"),
        ("mario.rossi@infn.it", "mario.rossi@infn.it"),
        ("a", "a"),
        ("1st", "1st"),
        ("a" * 64, "a" * 64),
        ("a-b_c", "a-b_c"),
    ],
)
def test_usernames_taken(claimed: str, name: str):
    assert checked_username(claimed) == name


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        "",
        7,
        ["alice"],
        ".",
        "..",
        "../root",
        "a/b",
        "a\\b",
        "a..b",
        ".hidden",
        "-rf",
        "@home",
        "_x",
        " alice",
        "alice ",
        "alice\n",
        "a b",
        "a\x00",
        "a'b",
        'a"b',
        "a;b",
        "a$b",
        "a%2fb",
        "a*",
        "a:b",
        "ålice",
        "аlice",  # noqa: RUF001  # the first letter is Cyrillic
        "\u212aelvin",  # the Kelvin sign lower-cases to a plain k
        "alice\u202e",
        "a" * 65,
        "scratch",
        "Scratch",
    ],
)
def test_hostile_usernames_are_refused_with_a_sentence(hostile: object):
    with pytest.raises(UsernameError) as refusal:
        checked_username(hostile, reserved={"scratch"})
    assert str(refusal.value).isascii()
    assert str(refusal.value).endswith((".", "username_claim."))


@given(st.text(max_size=80))
def test_whatever_is_taken_is_safe_in_a_path(text: str):
    try:
        name = checked_username(text)
    except UsernameError:
        return
    assert name == name.lower()
    assert (Path("/mounts") / name).resolve().parent == Path("/mounts")


INDIGO_AUP = "User rossi needs to sign AUP for this organization in order to proceed."


@pytest.mark.parametrize(
    ("status", "error", "description", "reason"),
    [
        # INDIGO IAM
        (400, "invalid_grant", INDIGO_AUP, "usage_policy"),
        (400, "invalid_grant", INDIGO_AUP.replace("rossi", "'suspended'"), "usage_policy"),
        (401, "unauthorized", "User rossi is not active.", "suspended"),
        (401, "invalid_token", "User with uuid 80e5 is not active", "suspended"),
        (400, "invalid_grant", "Invalid Refresh Token", "expired_grant"),
        (401, "invalid_token", "Expired refresh token: eyJhbGciOiJub25l", "expired_grant"),
        (401, "invalid_client", "Bad client credentials", "refused"),
        (401, "invalid_token", "Client with id x is not active", "refused"),
        # Keycloak
        (400, "invalid_grant", "User disabled", "suspended"),
        (400, "invalid_grant", "Account is not fully set up", "usage_policy"),
        (400, "invalid_grant", "Session not active", "expired_grant"),
        (400, "invalid_grant", "Token is not active", "expired_grant"),
        (400, "invalid_grant", "Offline user session not found", "expired_grant"),
        (400, "invalid_grant", "Stale token", "expired_grant"),
        (400, "invalid_grant", "Maximum allowed refresh token reuse exceeded", "expired_grant"),
        (400, "invalid_grant", "Account disabled", "suspended"),
        (400, "unauthorized_client", "Invalid client or Invalid client credentials", "refused"),
        # canaille
        (400, "invalid_grant", None, "expired_grant"),
        (400, "invalid_grant", "", "expired_grant"),
        (400, "invalid_request", "There is no 'user' for this token.", "suspended"),
        # anything else
        (400, "invalid_scope", "offline_access", "refused"),
        (400, "invalid_request", "Missing parameter", "refused"),
        (403, None, None, "refused"),
        (302, None, None, "refused"),
        (429, None, None, "unreachable"),
        (500, "invalid_grant", "User disabled", "unreachable"),
        (502, None, None, "unreachable"),
        (503, "temporarily_unavailable", None, "unreachable"),
        (400, "server_error", "oops", "unreachable"),
    ],
)
def test_why_the_iam_refuses(
    status: int, error: str | None, description: str | None, reason: str
):
    assert grant_failure_reason(error, description, status) == reason


def test_each_reason_has_a_sentence_of_its_own():
    reasons = ["expired_grant", "suspended", "usage_policy", "refused", "unreachable"]
    sentences = {GrantFailure(reason).user_message for reason in reasons}
    assert len(sentences) == len(reasons)
    assert all(login_reason_message(reason) in sentences for reason in reasons)


def test_the_detail_is_for_the_log_only():
    failure = GrantFailure("suspended", "401 unauthorized")
    assert "401" in str(failure)
    assert "401" not in failure.user_message


@pytest.mark.parametrize("code", [None, "", "nonsense", "<script>", "__class__"])
def test_unknown_codes_say_nothing(code: str | None):
    assert login_reason_message(code) is None


def test_the_package_is_light_to_import():
    import subprocess
    import sys

    check = "import sys, taccuino.iam; sys.exit('jupyterhub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
