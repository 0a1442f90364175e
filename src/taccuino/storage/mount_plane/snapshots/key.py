"""The key of a user's snapshots: derived from the service's secret, the same at every site."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from taccuino.errors import Fault, SettingsError
from taccuino.private_files import secret
from taccuino.settings import Settings

__all__ = ["derived_key", "service_secret"]

_SHORTEST = 32
_CONTEXT = b"taccuino workarea snapshots\0"


def service_secret(settings: Settings) -> bytes:
    """The secret that all keys come from; made if it is the instance's own and not there yet.

    Raises
    ------
    SettingsError
        If the file can't be used: others may read it, or one that was named is not there.
    """
    path = settings.snapshots.key_file
    assert path is not None
    if not settings.snapshots.has_own_key(settings.state_dir) and not path.exists():
        mend = "copy it from another site; without it, no snapshot can be read"
        raise SettingsError(str(path), [Fault("snapshots.key_file", "is not there", mend)])
    text = secret(path)
    if len(text) < _SHORTEST:
        fault = Fault(
            "snapshots.key_file",
            f"holds {len(text)} characters, and {_SHORTEST} are the least",
            "make one with: openssl rand -hex 32",
        )
        raise SettingsError(str(path), [fault])
    return text.encode()


def derived_key(service: bytes, username: str) -> str:
    """A user's key (HKDF, RFC 5869), in hexadecimal: who has it can't find another's."""
    context = _CONTEXT + username.encode("utf-8", "surrogatepass")
    return HKDF(SHA256(), length=32, salt=None, info=context).derive(service).hex()
