"""The settings' reference page, made from the settings themselves.

``python -m taccuino.settings_reference > docs/operators/settings.md``; a test fails when the
page that is kept there is stale.
"""

from __future__ import annotations

import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .settings import Settings

__all__ = ["reference"]

_HEAD = """\
# Settings

<!-- Made by `python -m taccuino.settings_reference`; change the docstrings in
src/taccuino/settings/sections.py instead. -->

One file in [TOML](https://toml.io): the one that `TACCUINO_SETTINGS` names, else
`taccuino.toml` in the working directory, else `/etc/taccuino/taccuino.toml`. With none,
everything is embedded. `taccuino check` names each fault and its mend. Sizes are written such
as `512M` or `2G` (powers of 1024); paths that are not absolute start at the working directory.
"""
_TABLE = "| key | type | default | meaning |\n|---|---|---|---|\n"


def reference() -> str:
    """The page, in Markdown."""
    sections: list[tuple[str, type[BaseModel]]] = [("", Settings), *_sections(Settings)]
    return _HEAD + "".join(_section(name, model) for name, model in sections)


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if inner := _model_in(field.annotation):
            listed = typing.get_origin(field.annotation) is list
            yield (f"[[{name}]]" if listed else f"[{name}]", inner)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _section(name: str, model: type[BaseModel]) -> str:
    title = f"`{name}`" if name else "At the top of the file"
    said = " ".join((model.__doc__ or "").split())
    rows = [
        f"| `{key}` | {_type(field)} | {_default(field)} | {_text(field)} |\n"
        for key, field in model.model_fields.items()
        if not _model_in(field.annotation)
    ]
    return f"\n## {title}\n\n{said}\n\n{_TABLE}{''.join(rows)}"


def _type(field: FieldInfo) -> str:
    return _type_name(field.annotation, field.metadata) + _limits(field.metadata)


def _type_name(annotation: Any, metadata: list[Any]) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return _type_name(inner, more)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        names = [_type_name(item, metadata) for item in arguments if item is not type(None)]
        return " or ".join(names)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_plural(_type_name(arguments[0], []))}"
    if annotation is str and any("size" in repr(item) for item in metadata):
        return "size"
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}.get(
        annotation, "path" if annotation is Path else str(annotation)
    )


def _plural(name: str) -> str:
    return f"{name}s" if name in {"text", "path", "number", "size"} else name


def _limits(metadata: list[Any]) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    parts = [
        f"{sign} {value:g}"
        for item in metadata
        for name, sign in signs.items()
        if (value := getattr(item, name, None)) is not None
    ]
    return f", {' and '.join(parts)}" if parts else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return "see right" if "Default:" in (field.description or "") else "none"
    if isinstance(value, Path):
        value = str(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _text(field: FieldInfo) -> str:
    """The docstring in Markdown, on one line."""
    text = " ".join((field.description or "").split())
    return re.sub(r"``(.+?)``", r"`\1`", text).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
