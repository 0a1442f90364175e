from __future__ import annotations

from pathlib import Path

from taccuino.settings_reference import reference

PAGE = Path(__file__).parents[3] / "docs/operators/settings.md"


def test_the_page_is_what_the_settings_say():
    assert PAGE.read_text() == reference(), (
        "run: python -m taccuino.settings_reference > docs/operators/settings.md"
    )


def test_every_setting_has_a_meaning():
    for line in reference().splitlines():
        if line.startswith("| `"):
            key, kind, default, meaning = (
                cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")
            )
            assert kind, key
            assert default, key
            assert meaning.endswith("."), key
