"""What a hub that starts again must know of a server: kept in JupyterHub's database.

The server's token is among it, encrypted as users' auth state is (JupyterHub keeps only its
digest): with it the hub asks the server what it does, and tells it what was revoked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cryptography.fernet import InvalidToken
from jupyterhub.crypto import CryptKeeper

if TYPE_CHECKING:
    from .spawner import NotebookSpawner

__all__ = ["kept_state", "take_up"]

log = logging.getLogger(__name__)


def kept_state(spawner: NotebookSpawner) -> dict[str, Any]:
    """What is kept of a spawner's server, and why its last one ended."""
    state: dict[str, Any] = {}
    if spawner.object_id:
        state["server"] = spawner.container.as_state()
        if (fernet := CryptKeeper.instance().fernet) and spawner.api_token:
            state["token"] = fernet.encrypt(spawner.api_token.encode()).decode()
    if spawner.last_failure:
        state["last_failure"] = spawner.last_failure
    return state


def take_up(spawner: NotebookSpawner, state: Mapping[str, Any]) -> None:
    """Take up what was kept."""
    spawner.last_failure = state.get("last_failure")
    spawner.container.load_state(state.get("server") or {})
    spawner.holds_storage = bool(spawner.container.id)
    if (fernet := CryptKeeper.instance().fernet) and (sealed := state.get("token")):
        try:
            spawner.api_token = fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            log.warning("%s: its token was kept with another key", spawner.object_name)
