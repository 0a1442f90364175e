"""Sets JupyterHub up for login with the IAM of the settings."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from taccuino.errors import Fault, SettingsError
from taccuino.private_files import keep_private
from taccuino.settings import Settings

from .authenticator import IAMAuthenticator
from .groups import normalize_groups

__all__ = ["configure", "crypt_keys"]


def crypt_keys(path: Path) -> list[str]:
    """The keys that encrypt auth state, the first one for new ones; made if there are none.

    One key of 64 hexadecimal digits a line; to change it, put a new one before the old.

    Raises
    ------
    SettingsError
        If the file can't be read or written, or holds no keys.
    """
    try:
        keys = keep_private(path, lambda: secrets.token_hex(32) + "\n").split()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            str(path), [Fault("file", str(error), "let the hub read and write it")]
        ) from None
    if not keys or any(len(key) != 64 or not _is_hex(key) for key in keys):
        mend = "write 64 hexadecimal digits a line, such as from `openssl rand -hex 32`"
        raise SettingsError(str(path), [Fault("file", "it holds no keys of 32 bytes", mend)])
    return keys


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


def configure(c: Any, settings: Settings) -> None:
    """Fill JupyterHub's configuration in for the IAM of the settings.

    The IAM is not asked: the hub starts while it is away.

    Raises
    ------
    SettingsError
        If the issuer or the client is missing, or a secret's file can't be used.
    """
    iam = settings.iam
    if not iam.issuer or not iam.client_id:
        missing = [
            Fault(f"iam.{key}", "it is not set", mend)
            for key, mend in (
                ("issuer", "name the IAM's issuer, or let `taccuino up` run its own"),
                ("client_id", "name the client registered at the IAM for this service"),
            )
            if not getattr(iam, key)
        ]
        raise SettingsError("settings", missing)
    if iam.client_secret_file and not os.access(iam.client_secret_file, os.R_OK):
        mend = "write the client's secret there, mode 0600"
        raise SettingsError(
            str(iam.client_secret_file),
            [Fault("iam.client_secret_file", "it can't be read", mend)],
        )

    c.JupyterHub.authenticator_class = IAMAuthenticator
    authenticator = c.IAMAuthenticator
    authenticator.issuer = iam.issuer
    authenticator.client_id = iam.client_id
    authenticator.client_secret_file = str(iam.client_secret_file or "")
    authenticator.scope = list(dict.fromkeys(["openid", *iam.scopes]))
    authenticator.username_claim = iam.username_claim
    authenticator.groups_claim = iam.groups_claim
    authenticator.reserved_usernames = {settings.storage.scratch_bucket.lower()}
    authenticator.enable_pkce = True
    authenticator.login_service = iam.display_name
    authenticator.contact = iam.contact
    authenticator.oauth_callback_url = f"{settings.url}/hub/oauth_callback"
    authenticator.logout_page_url = iam.logout_url or ""
    authenticator.after_logout_url = f"{settings.url}/hub/login"

    authenticator.manage_groups = True
    authenticator.allowed_groups = set(normalize_groups(iam.allowed_groups))
    authenticator.admin_groups = set(normalize_groups(iam.admin_groups))
    authenticator.admin_users = set(settings.hub.admin_users)
    authenticator.allow_all = not iam.allowed_groups

    authenticator.enable_auth_state = True
    authenticator.auth_refresh_age = iam.refresh_seconds
    authenticator.renew_seconds = iam.renew_seconds
    authenticator.refresh_pre_spawn = True
    if not os.environ.get("JUPYTERHUB_CRYPT_KEY"):
        c.CryptKeeper.keys = crypt_keys(settings.state_dir / "secrets" / "hub-crypt-key")
