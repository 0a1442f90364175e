"""Imports that wait until somebody uses what they import.

While `deferred` is open, importing one of the declared modules answers with a stand-in. Whoever
imported it keeps the stand-in, and the first use of it loads the real module. Afterwards no
stand-in is left in ``sys.modules``: who imports the module later gets the module.

``importlib.util.LazyLoader`` does not serve: ``from module import name`` makes it load at once,
and before Python 3.12.3 two threads that used a module first could see half of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["deferred", "function", "left_out"]


@contextmanager
def left_out(modules: Iterable[str]) -> Iterator[None]:
    """Let imports of ``modules`` fail while this is open, as if they were not installed.

    For what its importer can do without. One that is imported already is left as it is.
    """
    absent = [name for name in modules if name not in sys.modules]
    for name in absent:  # Python's reference, "The import system": such an import fails
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def deferred(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Answer imports of ``modules`` with stand-ins while this is open.

    A module that is imported already is left as it is.

    Parameters
    ----------
    modules
        The modules' names, and for each the names that are taken out of it (``from module
        import name``) with what stands for them: for a function, `function`; for a class, any
        class, provided that none of the real one's instances is ever met. Asking for another
        name, be it while this is open, loads the real module.
    """
    sys.modules.update(
        {
            name: _StandIn(name, values)
            for name, values in modules.items()
            if name not in sys.modules
        }
    )
    try:
        yield
    finally:
        _withdraw()


def function(module: str, name: str) -> Callable[..., Any]:
    """Stands for a function: loads ``module`` when it is called, and calls its ``name``."""
    return partial(_call, module, name)


def _call(module: str, name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(import_module(module), name)(*arguments, **options)


class _StandIn(ModuleType):
    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(name, "Stands for a module that is loaded at its first use.")
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)
        _withdraw()
        return getattr(import_module(self.__name__), name)


def _withdraw() -> None:
    """Take all stand-ins away together, so that no real module meets another's."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, _StandIn):
            del sys.modules[name]
