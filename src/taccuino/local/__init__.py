"""The single machine: what ``taccuino up`` supervises.

Each program of the service is described by a `Service`; supervisord keeps the programs
running, and this package resolves the settings, starts the programs in the order that their
needs say, waits until each is ready, reports their state, and stops them again.
"""

from __future__ import annotations

from .service import Service

__all__ = ["Service"]
