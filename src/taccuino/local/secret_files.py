"""The instance's secrets: random, made once, one file each, readable by root only.

The object storage's administrator keys are not among them: RadosGW chooses those itself.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from taccuino.private_files import keep_private

__all__ = [
    "DEMO_ACCOUNTS",
    "EMBEDDED_CLIENT_ID",
    "make_secrets",
    "read_accounts",
    "sites_secret",
]

EMBEDDED_CLIENT_ID = "taccuino"
"""The hub's client in the embedded IAM."""
DEMO_ACCOUNTS = (("alice", False), ("bruno", False), ("ada", True))
"""The embedded IAM's first accounts, and whether each is an administrator."""


_TOKENS = (
    "hub-crypt-key",
    "hub-cookie-secret",
    "mount-plane-token",
    "snapshots-key",
    "storage-pages-token",
    "storage-pages-cookie-secret",
)


def make_secrets(state_dir: Path, *, embedded_iam: bool, sites: bool = False) -> None:
    """Make the secrets that are missing.

    With the embedded IAM these are also its client's secret and the demo accounts; with
    several sites on this machine, the one that they share.
    """
    for name in _TOKENS:
        keep_private(state_dir / "secrets" / name, _token)
    if sites:
        keep_private(sites_secret(state_dir), _token)
    if embedded_iam:
        client_secret = state_dir / "secrets/iam-client-secret"
        keep_private(client_secret, lambda: secrets.token_urlsafe(32) + "\n")
        keep_private(state_dir / "accounts.json", _accounts)


def sites_secret(state_dir: Path) -> Path:
    """The file with the secret of all sites on this machine."""
    return state_dir / "secrets/sites"


def _token() -> str:
    return secrets.token_hex(32) + "\n"


def _accounts() -> str:
    accounts = [
        {"username": name, "password": secrets.token_urlsafe(12), "admin": admin}
        for name, admin in DEMO_ACCOUNTS
    ]
    return json.dumps(accounts, indent=2) + "\n"


def read_accounts(state_dir: Path) -> list[dict[str, object]]:
    """The demo accounts; none where the IAM is not embedded, or for who is not root."""
    try:
        text = (state_dir / "accounts.json").read_text(encoding="utf-8")
    except (FileNotFoundError, PermissionError):
        return []
    return list(json.loads(text))
