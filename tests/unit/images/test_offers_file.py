from __future__ import annotations

from pathlib import Path

import pytest

from taccuino.errors import SettingsError
from taccuino.offers_file import load_offers, offer, withdraw
from taccuino.settings import ImageSettings


def image(name: str, *, default: bool = False, title: str = "") -> ImageSettings:
    return ImageSettings(
        name=name, reference=f"localhost/x/{name}", default=default, title=title
    )


def test_offer_replace_withdraw_and_undo(tmp_path: Path) -> None:
    path = tmp_path / "offers.json"
    assert load_offers(path) == []
    offer(path, image("a"))
    offer(path, image("b"))
    offer(path, image("a", title="new"))
    assert [(item.name, item.title) for item in load_offers(path)] == [("b", ""), ("a", "new")]
    assert withdraw(path, "b") is True
    assert withdraw(path, "b") is False
    offer(path, image("b"))
    assert {item.name for item in load_offers(path)} == {"a", "b"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["offers.json", "offers.lock"]


def test_one_default_at_most(tmp_path: Path) -> None:
    path = tmp_path / "offers.json"
    offer(path, image("a", default=True))
    offer(path, image("b", default=True))
    assert [item.name for item in load_offers(path) if item.default] == ["b"]


@pytest.mark.parametrize("text", ["{", '{"name": "a"}', '[{"name": "A!", "reference": "x"}]'])
def test_a_bad_file_is_told_and_not_written_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "offers.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match="offer the images again"):
        load_offers(path)
    with pytest.raises(SettingsError):
        offer(path, image("a"))
    assert path.read_text() == text
