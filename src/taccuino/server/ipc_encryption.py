"""The encryption of oidc-agent's socket protocol, with libsodium.

oidc-agent's own clients never send a request in the clear, local socket or not: the client
sends a Curve25519 public key (base64), the agent answers with its own, and each message after
that is ``<length>:<nonce>:<ciphertext>``: crypto_secretbox, the key by crypto_box_beforenm.
(Seen with oidc-token 4.2.6; the source is indigo-dc/oidc-agent, src/ipc/cryptIpc.c.) Where
these clients are, libsodium is too, since they link to it: ctypes suffices.
"""

from __future__ import annotations

import ctypes
from base64 import b64decode, b64encode
from functools import cache

__all__ = ["EncryptionError", "Session"]

_LIBRARIES = ("libsodium.so.23", "libsodium.so.26", "libsodium.so")
_KEY, _NONCE, _MAC = 32, 24, 16  # bytes: crypto_box_*, crypto_secretbox_*


class EncryptionError(Exception):
    """A message could not be read, or libsodium is not there."""


@cache
def _sodium() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if library.sodium_init() >= 0:
            return library
    raise EncryptionError("libsodium is not installed in this image")


class Session:
    """The keys of one connection, seen from the agent."""

    def __init__(self, client_public_key: bytes) -> None:
        try:
            client = b64decode(client_public_key, validate=True)
        except ValueError:
            client = b""
        if len(client) != _KEY:
            raise EncryptionError("the request is neither JSON nor a public key")
        sodium = _sodium()
        public, secret, key = (ctypes.create_string_buffer(_KEY) for _ in range(3))
        sodium.crypto_box_keypair(public, secret)
        if sodium.crypto_box_beforenm(key, client, secret) != 0:
            raise EncryptionError("the client's public key is refused")
        self._key = key.raw
        self.public_key = b64encode(public.raw)

    def decrypt(self, message: bytes) -> bytes:
        """The text of a message.

        Raises
        ------
        EncryptionError
            If it has not the protocol's form or was not encrypted with this session's key.
        """
        try:
            _, nonce_text, cipher_text = message.split(b":")
            nonce = b64decode(nonce_text, validate=True)
            cipher = b64decode(cipher_text, validate=True)
        except ValueError:
            raise EncryptionError(
                "the message has not the form length:nonce:ciphertext"
            ) from None
        if len(nonce) != _NONCE or len(cipher) < _MAC:
            raise EncryptionError("the message is too short")
        text = ctypes.create_string_buffer(len(cipher) - _MAC + 1)
        length = ctypes.c_ulonglong(len(cipher))
        if _sodium().crypto_secretbox_open_easy(text, cipher, length, nonce, self._key) != 0:
            raise EncryptionError("the message was not encrypted with this connection's key")
        return text.raw[:-1]

    def encrypt(self, text: bytes) -> bytes:
        """The message that carries ``text``."""
        nonce = ctypes.create_string_buffer(_NONCE)
        cipher = ctypes.create_string_buffer(len(text) + _MAC)
        sodium = _sodium()
        sodium.randombytes_buf(nonce, ctypes.c_size_t(_NONCE))
        length = ctypes.c_ulonglong(len(text))
        sodium.crypto_secretbox_easy(cipher, text, length, nonce, self._key)
        return b"%d:%s:%s" % (len(text), b64encode(nonce.raw), b64encode(cipher.raw))
