"""The ``taccuino`` command: one short function a subcommand, in a module a subject."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; what is wrong is told in words, never as a traceback."""
    from taccuino.errors import TaccuinoError

    from .app import app

    try:
        app()
    except (TaccuinoError, OSError) as error:  # a file or a socket names itself in its error
        print(f"taccuino: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("taccuino: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(1)
