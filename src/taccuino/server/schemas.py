"""JupyterLab's settings: a schema that was found right is not checked again for each page.

For each page that loads, JupyterLab's server holds the schemas of its ninety plug-ins against
the schema of schemas: more than half of the time that its answer takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

__all__ = ["RememberingValidator", "check_all", "remember"]


class RememberingValidator:
    """A validator of jsonschema's, as `jupyterlab_server.settings_utils` uses it.

    Parameters
    ----------
    validator
        The class that it stands for: it makes validators, and has a ``check_schema``.
    """

    def __init__(self, validator: Any) -> None:
        self._validator = validator
        self._right: set[bytes] = set()

    def __call__(self, schema: Mapping[str, Any]) -> Any:
        """A validator for this schema."""
        return self._validator(schema)

    def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Raise jsonschema's ``SchemaError`` if this is no schema."""
        digest = sha256(json.dumps(schema, sort_keys=True).encode()).digest()
        if digest not in self._right:
            self._validator.check_schema(schema)
            self._right.add(digest)


def remember() -> None:
    """Let JupyterLab's server remember from now on."""
    from jupyterlab_server import settings_utils

    if not isinstance(settings_utils.Validator, RememberingValidator):
        settings_utils.Validator = RememberingValidator(settings_utils.Validator)


def check_all() -> None:
    """Check the schemas of this JupyterLab, as the first page would."""
    from jupyter_core.paths import jupyter_path
    from jupyterlab.commands import get_app_dir
    from jupyterlab_server.settings_utils import get_settings

    application, nobodys = get_app_dir(), "/nonexistent"
    get_settings(
        f"{application}/settings",
        f"{application}/schemas",
        nobodys,
        labextensions_path=jupyter_path("labextensions"),
    )
