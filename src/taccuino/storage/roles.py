"""Users' roles: who may assume each, and what it may do."""

from __future__ import annotations

import json
import logging
import urllib.parse
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from taccuino.settings import Settings

from .clients import StorageClients
from .errors import StorageError, http_status, is_missing
from .groups import GroupMount
from .names import bucket_name, role_name, scratch_prefix
from .policies import permission_policy, policy_text, subjects, widened

__all__ = ["UserRoles"]

_log = logging.getLogger(__name__)

_POLICY = "taccuino"
_LONGEST_SESSION = 43200
"""Seconds: the most that a role can be given; how long sessions are is in the settings, and
RadosGW 16 can't change a role's limit later."""


class UserRoles:
    """Makes a user's role, and mends it where it is not what the settings say; blocking."""

    def __init__(self, settings: Settings, clients: StorageClients) -> None:
        self._settings = settings
        self._clients = clients

    def ensure(
        self, username: str, trust: dict[str, Any], groups: Iterable[GroupMount] = ()
    ) -> None:
        """Make the user's role what it must be, with access to those groups' buckets.

        A role stays with the subject it was made for. A name may come back: an account is
        deleted and another person registers under it, or two accounts differ in case only. The
        second must not find the first one's data.

        Raises
        ------
        StorageError
            With the reason ``conflict``, if the role is another subject's.
        ClientError, BotoCoreError
            As boto3 has them.
        """
        iam, name = self._clients.iam(), role_name(self._settings, username)
        there = self._trust(name)
        if there is None:
            there = self._make(name, trust)
        if there != trust:
            named = subjects(there)
            if any(named.get(key, value) != value for key, value in subjects(trust).items()):
                raise StorageError(
                    f"the role {name!r} belongs to another account of the IAM that had the "
                    "same username; an administrator of the storage must remove the role, and "
                    "see to the bucket's content, before this account can use it",
                    reason="conflict",
                )
            wider = widened(trust, there)
            if wider != there:
                iam.update_assume_role_policy(RoleName=name, PolicyDocument=policy_text(wider))
                _log.info("Changed who may assume the role %s", name)
        permission = permission_policy(
            bucket_name(self._settings, username),
            self._settings.storage.scratch_bucket,
            scratch_prefix(username),
            groups,
        )
        if self._permission(name) != permission:
            text = policy_text(permission)
            iam.put_role_policy(RoleName=name, PolicyName=_POLICY, PolicyDocument=text)

    def _make(self, name: str, trust: dict[str, Any]) -> Any:
        """Make the role; its trust policy, which is another's if somebody was faster.

        That may have been we: boto3 tries again when an answer does not come in time.
        """
        try:
            self._clients.iam().create_role(
                RoleName=name,
                AssumeRolePolicyDocument=policy_text(trust),
                MaxSessionDuration=_LONGEST_SESSION,
            )
        except ClientError as error:
            if http_status(error) != HTTPStatus.CONFLICT:
                raise
            return self._trust(name)
        _log.info("Made the role %s", name)
        return trust

    def _trust(self, name: str) -> Any:
        try:
            role = self._clients.iam().get_role(RoleName=name)["Role"]
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return _document(role.get("AssumeRolePolicyDocument"))

    def _permission(self, name: str) -> Any:
        try:
            answer = self._clients.iam().get_role_policy(RoleName=name, PolicyName=_POLICY)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return _document(answer["PolicyDocument"])


def _document(value: object) -> Any:
    """A policy as an object; RadosGW sends it as text, botocore may have read it already."""
    if not isinstance(value, str):
        return value
    text = value if value.lstrip().startswith("{") else urllib.parse.unquote(value)
    try:
        return json.loads(text)
    except ValueError:
        return None
