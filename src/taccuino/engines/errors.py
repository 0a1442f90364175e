"""What an engine can answer besides success; the engine's own words are in the message."""

from __future__ import annotations

from taccuino.errors import TaccuinoError

__all__ = [
    "ContainerExitedError",
    "EngineError",
    "EngineUnreachableError",
    "FirewallError",
    "ImageMissingError",
    "NameInUseError",
    "NetworkPoolExhaustedError",
    "ServerFailedError",
    "StartStalledError",
    "StorageUnavailableError",
]


class EngineError(TaccuinoError):
    """The engine refused or failed; ``status`` is its HTTP status, where it gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class EngineUnreachableError(EngineError):
    """Nobody answers at the engine's socket, or not in time: nothing is known."""


class ImageMissingError(EngineError):
    """The engine has no such image."""


class NameInUseError(EngineError):
    """Another container has the name already."""


class NetworkPoolExhaustedError(EngineError):
    """Every network of ``engine.network_pool`` is taken."""


class FirewallError(EngineError):
    """The host's rules could not be set, so no container may be started."""


class StorageUnavailableError(TaccuinoError):
    """The user's workarea could not be had; the message is the storage's own sentence."""


class FilesOutdatedError(TaccuinoError):
    """A server was begun with files that are older than what another site has."""


class ContainerExitedError(TaccuinoError):
    """The container ended before its server was ready."""


class ServerFailedError(TaccuinoError):
    """The notebook server itself said that it could not start."""


class StartStalledError(TaccuinoError):
    """A start made no progress for ``engine.start_timeout``."""
