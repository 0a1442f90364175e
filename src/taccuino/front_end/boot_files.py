"""Which of its files a front end loads at its start, as its own loader says.

JupyterLab's ``main.<hash>.js`` begins with some chunks; each of them consumes shared modules,
and each module comes with chunks of its own (Module Federation, as rspack and webpack write
it). All of it is in the text of ``main``.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["boot_files"]

_CONSUMES = "consumesLoadingData={"
_CHUNK_MODULES = re.compile(r"(\d+):\[([^\]]*)\]")
_MODULE_CHUNKS = re.compile(r"(\d+):\{shareScope:.*?fallback:(.*?)\.then\(")
_LOADED = re.compile(r"(?<![\w$.])[\w$]+\.e\((\d+)\)")
_FIRST_LOADED = re.compile(r"(?<![\w$.])[a-zA-Z$]\.e\((\d+)\)")
_NAMED_CHUNK = re.compile(r'\((\d+)===\w+\?"([\w.-]+)"')


def boot_files(main: str, names: Collection[str]) -> list[str]:
    """The names of the files that a start loads after ``main``, the first ones first.

    Parameters
    ----------
    main
        The text of ``main.<hash>.js``.
    names
        The names of all files beside it.

    Returns
    -------
    list of str
        Empty for a loader of another form: what is preloaded is a convenience.
    """
    before, _, consumes = main.partition(_CONSUMES)
    mapping = consumes[consumes.find("chunkMapping:{") :].partition("}")[0]
    modules = {
        chunk: re.findall(r'"([^"]+)"', listed)
        for chunk, listed in _CHUNK_MODULES.findall(mapping)
    }
    chunks = {
        module: _LOADED.findall(text) for module, text in _MODULE_CHUNKS.findall(consumes)
    }
    waiting = _FIRST_LOADED.findall(before) if mapping else []
    order: dict[str, None] = {}
    while waiting:
        chunk = waiting.pop(0)
        if chunk not in order:
            order[chunk] = None
            for module in modules.get(chunk, ()):
                waiting += chunks.get(module, ())
    called = dict(_NAMED_CHUNK.findall(main))
    files = {name.partition(".")[0]: name for name in names if name.count(".") == 2}
    wanted = (files.get(called.get(chunk, chunk), "") for chunk in order)
    return [name for name in wanted if name.endswith(".js")]
