"""What an image hands out, and what its pages refer to."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taccuino.server import front_end

SHARED = {"lab": "/static/1a", "extensions": "/static/2b", "themes": "/static/3c"}


def lay(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_public_files(tmp_path: Path) -> None:
    lab = lay(
        tmp_path / "lab", "main.js", "index.html", "main.js.map", "x/y.woff2", ".git/a.js"
    )
    (tmp_path / "secret").write_text("s")
    (lab / "link.js").symlink_to(tmp_path / "secret")
    (lab / "way").symlink_to(tmp_path)
    os.mkfifo(lab / "pipe.js")
    extension = lay(
        tmp_path / "ext",
        "package.json",
        "static/e.js",
        "schemas/s.json",
        "themes/@a/b/index.css",
    )
    themes = lay(tmp_path / "themes", "@a/b/index.css", "@c/d/index.css")
    found = front_end.public_files({"lab": lab}, {"@a/b": extension}, themes)
    assert found == {
        "lab/main.js": lab / "main.js",
        "lab/x/y.woff2": lab / "x/y.woff2",
        "extensions/@a/b/static/e.js": extension / "static/e.js",
        "themes/@a/b/index.css": extension / "themes/@a/b/index.css",
        "themes/@c/d/index.css": themes / "@c/d/index.css",
    }


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ('{"lab": "/static/1a/"}', {"lab": "/static/1a"}),
        ("", {}),
        ("{", {}),
        ("[]", {}),
        ('{"lab": "https://elsewhere.example/x", "themes": 1}', {}),
    ],
)
def test_addresses(told: str, found: dict[str, str]) -> None:
    assert front_end.addresses({front_end.ADDRESSES_VARIABLE: told}) == found
    assert front_end.addresses({}) == {}


def page_config() -> dict[str, Any]:
    return {
        "fullStaticUrl": "/user/ada/static/lab",
        "fullLabextensionsUrl": "/user/ada/lab/extensions",
        "themesUrl": "/lab/api/themes",
        "federated_extensions": [
            {"name": "@org/ours", "load": "static/remoteEntry.1.js"},
            {"name": "mine", "load": "static/remoteEntry.2.js"},
        ],
    }


def test_the_users_own_extensions_come_from_their_server() -> None:
    config = front_end.shared_page_config(
        page_config(), "lab", SHARED, "@org/ours".__eq__, themes_of_their_own=False
    )
    assert config["fullStaticUrl"] == "/static/1a"
    assert config["fullLabextensionsUrl"] == "/static/2b"
    ours, mine = config["federated_extensions"]
    assert ours["load"] == "static/remoteEntry.1.js"
    address = os.path.normpath(f"{config['fullLabextensionsUrl']}/mine/{mine['load']}")
    assert address == "/user/ada/lab/extensions/mine/static/remoteEntry.2.js"
    assert os.path.normpath("/user/ada/" + config["themesUrl"]) == "/static/3c"


def test_what_the_edge_has_not_is_left_as_it_is() -> None:
    themed = front_end.shared_page_config(
        page_config(), "notebook", SHARED, bool, themes_of_their_own=True
    )
    assert themed["fullStaticUrl"] == "/user/ada/static/lab"
    assert themed["themesUrl"] == "/lab/api/themes"
    before = page_config()
    assert (
        front_end.shared_page_config(before, "lab", {}, bool, themes_of_their_own=False)
        == before
    )


def test_an_extension_that_can_be_written_to_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = lay(tmp_path / "image", "a/package.json", "a/static/e.js", "b/package.json", "l/x")
    home = lay(tmp_path / "home", "b/package.json", "src/package.json")
    (image / "linked").symlink_to(home / "src")
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).is_relative_to(home))
    paths = [str(home), str(image)]
    assert front_end.is_of_the_image(paths, "a")
    assert not front_end.is_of_the_image(paths, "b"), "the user's own wins"
    assert not front_end.is_of_the_image(paths, "linked")
    assert not front_end.is_of_the_image(paths, "nowhere")


def test_an_earlier_hook_still_counts() -> None:
    def earlier(_handler: Any, config: dict[str, Any]) -> dict[str, Any]:
        return config | {"hubUser": "ada"}

    settings: dict[str, Any] = {"page_config_hook": earlier}
    front_end.install(settings, {front_end.ADDRESSES_VARIABLE: '{"lab": "/static/1a"}'})
    app = SimpleNamespace(name="lab", extra_labextensions_path=[], labextensions_path=[])
    config = settings["page_config_hook"](SimpleNamespace(extensionapp=app), page_config())
    assert config["hubUser"] == "ada"
    assert config["fullStaticUrl"] == "/static/1a"
    untouched: dict[str, Any] = {}
    front_end.install(untouched, {})
    assert untouched == {}
