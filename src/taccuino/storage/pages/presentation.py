"""The pages' templates, and what every one of them is told."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from taccuino.settings import Settings

from .login import PREFIX

__all__ = ["HUB_STATIC", "STATIC", "Presentation"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
HUB_STATIC = _HERE.parents[1] / "hub/static"
"""The hub's own style, which these pages share: served here, it needs no hub."""


class Presentation:
    """Renders templates; every value in them is escaped."""

    def __init__(self, settings: Settings) -> None:
        storage = settings.storage
        self._shared = {
            "service_name": settings.name,
            "prefix": PREFIX,
            "hub_url": "/hub/",
            "share_days": storage.share_days,
            "keep_versions_days": storage.keep_versions_days,
            "assets": f"{PREFIX}static/{_asset_version()}/",
        }
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
        )

    def page(self, template: str, **values: Any) -> str:
        """A page, from its template."""
        return self._templates.get_template(template).render(**self._shared, **values)


def _asset_version() -> str:
    """Changes with the static files, so that browsers may keep them for good."""
    digest = hashlib.sha256()
    for path in sorted((*STATIC.rglob("*"), *HUB_STATIC.rglob("*"))):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
