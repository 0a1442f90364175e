"""A notebook as harmless HTML: ``python -m taccuino.storage.pages.notebook``.

It reads the notebook from its standard input and writes the HTML to its output. nbconvert takes
minutes for some small notebooks, and lets nothing else run meanwhile: so it has a process of
its own, which ends when it takes too much. Of the HTML only what is on a list of harmless tags
and attributes stays.
"""

from __future__ import annotations

import json
import resource
import sys

import nh3

__all__ = ["notebook_html", "sanitized"]

_CPU_SECONDS = 8
"""Beyond what anybody waits for: it counts when nobody is left to end the process."""
_MEMORY_BYTES = 1024**3
_HTML_BYTES = 32 * 1024**2
_IMAGE_DATA = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "gif", "webp"))
_TAGS = nh3.ALLOWED_TAGS - {"map", "area"}
_ATTRIBUTES = {
    **{tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items() if tag in _TAGS},
    "img": {"src", "alt", "width", "height"},
    "*": {"class", "title"},
}


def notebook_html(data: bytes) -> str | None:
    """A notebook as harmless HTML; None if it is none."""
    # Here: both take their time.
    import nbformat
    from nbconvert import HTMLExporter

    # Its templates' own clean-up knows less than ours, which comes after it.
    exporter = HTMLExporter(template_name="basic", sanitize_html=False)  # type: ignore[no-untyped-call]
    try:
        notebook = nbformat.reads(json.dumps(json.loads(data)), as_version=4)  # type: ignore[no-untyped-call]
        html, _ = exporter.from_notebook_node(notebook)
    except Exception:  # noqa: BLE001 -- nbformat and nbconvert raise whatever they stumble on
        return None
    return sanitized(html)


def sanitized(html: str) -> str:
    """HTML without anything that runs, loads from elsewhere, or looks like our own page."""
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_kept,
        url_schemes={"http", "https", "mailto", "data"},
        clean_content_tags={"script", "style"},
        link_rel="noopener noreferrer nofollow",
    )


def _kept(tag: str, attribute: str, value: str) -> str | None:
    text = value.strip()
    if tag == "img" and attribute == "src":
        # From elsewhere, an image would tell who looks at this notebook.
        return text if text.startswith(_IMAGE_DATA) else None
    if attribute in {"href", "src", "cite"} and text.lower().startswith("data:"):
        return None
    return value


def main() -> int:
    """Read, render and write; the exit code is 1 for no notebook, and 2 for too much HTML."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    html = notebook_html(sys.stdin.buffer.read())
    if html is None:
        return 1
    written = html.encode()
    if len(written) > _HTML_BYTES:
        return 2
    sys.stdout.buffer.write(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
