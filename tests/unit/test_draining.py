from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from taccuino.draining import Drain, drain, draining, end_drain


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    return tmp_path


def test_a_drain_holds_until_it_ends(state: Path) -> None:
    assert draining(state) is None
    drain(state, Drain("We update.", 60))
    found = draining(state)
    assert found is not None
    assert found.message == "We update."
    assert 55 < found.seconds <= 60
    assert (state / "hub/draining.json").stat().st_mode & 0o077 == 0
    end_drain(state)
    end_drain(state)
    assert draining(state) is None


def test_a_drain_that_nobody_ends_is_over_by_itself(state: Path) -> None:
    drain(state, Drain("We update.", 0.05))
    time.sleep(0.1)
    assert draining(state) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", json.dumps({"message": "x"}), json.dumps({"until": 1e12})]
)
def test_a_note_that_cannot_be_read_keeps_nobody_out(state: Path, text: str) -> None:
    (state / "hub/draining.json").write_text(text)
    assert draining(state) is None
