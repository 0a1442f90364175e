"""An image of one's own in the running service: built, offered, started, withdrawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.notebook import Notebook

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "images/example"


def test_an_image_from_the_recipe_to_the_notebook(instance) -> None:
    person = instance.person("alice")
    refused = person.api("POST", "/users/alice/server", json={"image": "own"})
    assert refused.status_code == 400
    said = instance.run(
        *("image", "build", str(EXAMPLE), "--name", "own", "--offer"),
        *("--title", "An image of my own", "--description", "With humanize"),
    )
    try:
        assert "is offered to everyone" in said
        person.login()
        form = person.http.get(f"{instance.url}/hub/spawn", timeout=30).text
        assert "An image of my own" in form
        events = person.start(image="own", cpu=1, memory="1G")
        assert events[-1].get("ready"), events
        with Notebook(person) as notebook:
            number = notebook.run("import humanize; print(humanize.intcomma(1234567))")
            assert number.strip() == "1,234,567"
            assert notebook.shell("oidc-token infncloud").count(".") == 2
        person.stop()
    finally:
        instance.run("image", "withdraw", "own")
    for asked in (None, {"image": "own"}):  # the last choice, and this one
        refused = person.api("POST", "/users/alice/server", json=asked)
        assert refused.status_code == 400
        assert "base" in refused.json()["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("image", "build", "/nowhere", "--name", "own"),
        ("image", "build", str(EXAMPLE), "--name", "../own"),
        ("image", "build", str(EXAMPLE), "--name", "base"),
        ("image", "offer", "nothing-of-that-name"),
        ("image", "withdraw", "nothing-of-that-name"),
        ("image", "check", "localhost/nothing:1"),
    ],
)
def test_bad_input_is_answered_in_words(instance, arguments) -> None:
    said = instance.run(*arguments, check=False)
    assert said.strip()
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 6
