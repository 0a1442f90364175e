"""JupyterLab's settings: a schema that was found right is not checked again for each page.

For each page that loads, JupyterLab's server holds the schemas of its ninety plug-ins against
the schema of schemas: more than half of the time that its answer takes. Those of the image are
checked as it is built, by ``python -m taccuino.server.schemas``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = ["RememberingValidator", "remember"]

_FOUND_RIGHT = Path(__file__).with_name("schemas.txt")


class RememberingValidator:
    """A validator of jsonschema's, as `jupyterlab_server.settings_utils` uses it.

    Parameters
    ----------
    validator
        The class that it stands for: it makes validators, and has a ``check_schema``.
    right
        The digests of schemas that were found right before.
    """

    def __init__(self, validator: Any, right: Iterable[str] = ()) -> None:
        self._validator = validator
        self.right = set(right)

    def __call__(self, schema: Mapping[str, Any]) -> Any:
        """A validator for this schema."""
        return self._validator(schema)

    def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Raise jsonschema's ``SchemaError`` if this is no schema."""
        digest = sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()
        if digest not in self.right:
            self._validator.check_schema(schema)
            self.right.add(digest)


def remember() -> RememberingValidator:
    """Let JupyterLab's server remember from now on, and know what the image's build found."""
    from jupyterlab_server import settings_utils

    right: list[str] = []
    with contextlib.suppress(OSError):  # not built, but tried out
        right = _FOUND_RIGHT.read_text(encoding="ascii").split()
    validator = RememberingValidator(settings_utils.Validator, right)
    settings_utils.Validator = validator
    return validator


def main() -> None:
    """Check the schemas of this JupyterLab, and note which are right."""
    from jupyter_core.paths import jupyter_path
    from jupyterlab.commands import get_app_dir
    from jupyterlab_server.settings_utils import get_settings

    validator = remember()
    application, nobodys = get_app_dir(), "/nonexistent"
    get_settings(
        f"{application}/settings",
        f"{application}/schemas",
        nobodys,
        labextensions_path=jupyter_path("labextensions"),
    )
    _FOUND_RIGHT.write_text("".join(f"{one}\n" for one in sorted(validator.right)), "ascii")


if __name__ == "__main__":
    main()
