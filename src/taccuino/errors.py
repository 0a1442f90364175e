"""The package's errors: each says what was wrong, with which value, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fault", "ServiceError", "SettingsError", "TaccuinoError"]


class TaccuinoError(Exception):
    """The base of every error whose text is meant for a person."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, where, and how it is mended."""

    key: str
    problem: str
    mend: str = ""

    def __str__(self) -> str:
        """One line: the key, the problem and the mend."""
        return f"{self.key}: {self.problem}" + (f" ({self.mend})" if self.mend else "")


class SettingsError(TaccuinoError):
    """The settings can't be used; ``faults`` names each key and its mend."""

    def __init__(self, source: str, faults: list[Fault]) -> None:
        self.source = source
        self.faults = faults
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"{source}: {len(faults)} fault(s) in the settings\n{lines}")


class ServiceError(TaccuinoError):
    """A service could not be started, stopped or reached."""
