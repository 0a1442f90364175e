"""Imports that wait for their first use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taccuino.server.deferred_imports import deferred, function, left_out

SOURCE = Path(__file__).parents[3] / "src"
FILES = {
    "tc_house/__init__.py": "",
    "tc_house/part.py": "VALUE = 42\n",
    "tc_house/errors.py": "class HouseError(Exception): pass\n",
    "tc_house/work.py": "from . import part\ndef times(number, *, by): return number * by\n",
    "tc_heavy/__init__.py": "from .inner import NAME\n",
    "tc_heavy/inner.py": "NAME = 'real'\n",
    "tc_user.py": """
import tc_heavy as heavy
from tc_house import part
from tc_house.errors import HouseError
from tc_house.work import times
""",
}


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def modules() -> dict[str, dict[str, Any]]:
    return {
        "tc_heavy": {},
        "tc_house.part": {},
        "tc_house.errors": {"HouseError": type("HouseError", (Exception,), {})},
        "tc_house.work": {"times": function("tc_house.work", "times")},
    }


def user() -> Any:
    """A module that was imported while the imports were deferred."""
    with deferred(modules()):
        return import_module("tc_user")


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith(("tc_heavy", "tc_house."))}


def test_nothing_is_loaded_and_nothing_is_left() -> None:
    user()
    assert loaded() == set()


def test_the_first_use_loads_the_real_module_and_no_other() -> None:
    module = user()
    assert module.part.VALUE == 42
    assert loaded() == {"tc_house.part"}
    assert module.heavy.NAME == "real"


def test_a_function_loads_its_module_when_it_is_called() -> None:
    module = user()
    assert module.times(4, by=3) == 12
    assert loaded() == {"tc_house.work", "tc_house.part"}


def test_who_imports_afterwards_gets_the_real_one() -> None:
    module = user()
    assert import_module("tc_house.errors").HouseError is not module.HouseError
    real = import_module("tc_house.part")
    assert (type(real), real.VALUE) == (ModuleType, 42)
    assert import_module("tc_house.work").part is real
    assert sys.modules["tc_house"].part is real


def test_a_name_that_was_not_given_ends_it_at_once() -> None:
    with deferred(modules()):
        assert import_module("tc_house.part").VALUE == 42
        assert type(import_module("tc_heavy")) is ModuleType


def test_what_is_imported_already_is_left_alone() -> None:
    real = import_module("tc_house.part")
    assert user().part is real


def test_an_error_leaves_no_stand_in() -> None:
    with pytest.raises(ZeroDivisionError), deferred(modules()):
        raise ZeroDivisionError
    assert loaded() == set()


BECOMES = f"""
import os, sys
sys.path.insert(0, {str(SOURCE)!r})
def execv(program, command):
    print(*command[1:]); sys.stdout.flush(); os._exit(0)
os.execv = execv
{{more}}
from taccuino.server import singleuser
sys.argv[1:] = ["--one", "--two"]
singleuser.main()
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("import jupyterhub._version as v; v.version_info = (6, 2, 0)", ""),
        ("sys.modules['jupyter_server'] = None", "imports cannot be deferred"),
        ("os.environ['JUPYTERHUB_SINGLEUSER_APP'] = 'notebook'", ""),
    ],
)
def test_what_is_not_as_tested_starts_jupyterhubs_own(more: str, said: str) -> None:
    """In a process of its own: JupyterHub's modules keep the stand-ins for good."""
    done = subprocess.run(
        [sys.executable, "-c", BECOMES.format(more=more)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "-m jupyterhub.singleuser --one --two\n"
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)


def test_what_is_left_out_is_as_if_it_were_not_installed() -> None:
    with left_out(["tc_heavy"]), pytest.raises(ImportError):
        import_module("tc_heavy")
    assert import_module("tc_heavy").NAME == "real"
    with left_out(["tc_heavy"]):
        assert import_module("tc_heavy").NAME == "real"
