"""nbconvert's exporters, whose list JupyterLab asks for as a notebook opens.

To answer, Jupyter imports them all, and looks through every installed package for each: 0.2 s,
in which the notebook's kernel would be starting.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from threading import Thread

__all__ = ["import_exporters"]


@cache
def import_exporters() -> None:
    """Import them beside everything else, and remember them; once."""
    Thread(target=_import, name="exporters", daemon=True).start()


def _import() -> None:
    # Without nbconvert, or with one that is broken, Jupyter says so to whoever asks.
    with suppress(ImportError):
        from nbconvert.exporters import base

        base.get_export_names = cache(base.get_export_names)
        base.get_exporter = cache(base.get_exporter)
        for name in base.get_export_names():
            with suppress(Exception):
                base.get_exporter(name)
