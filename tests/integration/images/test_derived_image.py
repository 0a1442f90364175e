"""Images of one's own, by the command, as the documentation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taccuino.cli.image import app
from taccuino.engines.images import ImageError, ImageStore
from taccuino.offers_file import load_offers, offers_path
from taccuino.settings import Settings

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[3]


def run(settings: Settings, *arguments: str) -> str:
    file = str(settings.state_dir / "settings.json")
    result = CliRunner().invoke(app, [*arguments, "--settings", file], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_one_command_builds_checks_and_offers(
    image_settings: Settings, store: ImageStore
) -> None:
    path = offers_path(image_settings)
    example = str(CHECKOUT / "images/example")
    output = run(
        image_settings, "build", example, "--name", "example", "--offer", "--group", "a"
    )
    assert "FAILED" not in output
    assert "offered to members of a" in output
    [offer] = load_offers(path)
    assert (offer.name, offer.groups) == ("example", ["a"])
    assert "example" in run(image_settings, "list")
    reference = offer.reference
    command = ("run", "--rm", "--network=none", "--entrypoint", "python3", reference, "-c")
    module = store.podman(*command, "import humanize; print(humanize.__name__)", what="a look")
    assert module == "humanize\n"
    # The machine's pip settings were there during the build only.
    command = ("run", "--rm", "--network=none", "--entrypoint", "cat", reference)
    assert "index-url" not in store.podman(*command, "/etc/pip.conf", what="a look")
    run(image_settings, "withdraw", "example")
    assert load_offers(path) == []
    run(image_settings, "offer", "example")  # the undo
    assert [offer.name for offer in load_offers(path)] == ["example"]


def test_the_documented_containerfile_is_the_tested_one() -> None:
    example = (CHECKOUT / "images/example/Containerfile").read_text()
    assert len(example.splitlines()) <= 10
    documented = (CHECKOUT / "docs/users/images.md").read_text()
    blocks = re.findall(r"```dockerfile\n(.*?)```", documented, re.DOTALL)
    assert example in blocks


def test_an_image_that_does_not_work_is_not_offered(
    image_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "Containerfile").write_text(
        'FROM localhost/taccuino/base:latest\nENTRYPOINT ["sh", "-c", "echo broken; exit 3"]\n'
    )
    with pytest.raises(ImageError, match="does not work as a notebook server"):
        run(image_settings, "build", str(tmp_path), "--name", "broken", "--offer")
    assert "broken" not in [offer.name for offer in load_offers(offers_path(image_settings))]


def test_a_build_that_fails_says_why(image_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(
        "FROM localhost/taccuino/base:latest\nRUN echo the reason >&2; exit 3\n"
    )
    with pytest.raises(ImageError, match=r"(?s)building the image .*the reason"):
        run(image_settings, "build", str(tmp_path), "--name", "failing")


def test_what_is_not_there_is_not_offered(image_settings: Settings) -> None:
    with pytest.raises(ImageError, match="there is no image localhost/taccuino/nosuch:latest"):
        run(image_settings, "offer", "nosuch")
    with pytest.raises(ImageError, match="offered by the settings"):
        run(image_settings, "withdraw", "base")
