from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from taccuino.server.workarea import (
    EXAMPLES,
    lay_out,
    make_runtime_directory,
    write_aws_config,
)


def test_a_new_workarea_gets_local_and_the_examples(tmp_path: Path) -> None:
    assert lay_out(tmp_path) == []
    assert (tmp_path / "local").is_dir()
    names = sorted(path.name for path in (tmp_path / "examples").iterdir())
    assert names == ["cloud_storage.ipynb", "s3_with_boto3.py", "sts_by_hand.py"]


def test_what_the_user_made_is_never_written_over(tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    lay_out(tmp_path)
    (examples / "s3_with_boto3.py").write_text("mine")
    (examples / "sts_by_hand.py").unlink()
    (examples / "sts_by_hand.py").symlink_to("/etc/nowhere")
    (examples / "cloud_storage.ipynb").unlink()
    (examples / "cloud_storage.ipynb").mkdir()
    assert lay_out(tmp_path) == []
    assert (examples / "s3_with_boto3.py").read_text() == "mine"
    assert (examples / "sts_by_hand.py").readlink() == Path("/etc/nowhere")
    assert (examples / "cloud_storage.ipynb").is_dir()
    assert not [path for path in examples.iterdir() if path.name.endswith(".new")]


def test_a_deleted_example_comes_back(tmp_path: Path) -> None:
    lay_out(tmp_path)
    (tmp_path / "examples/sts_by_hand.py").unlink()
    lay_out(tmp_path)
    assert (tmp_path / "examples/sts_by_hand.py").is_file()


def test_a_workarea_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "examples").write_text("a file of the user's, where a directory would be")
    [problem] = lay_out(tmp_path)
    assert "could not be laid" in problem
    [problem] = lay_out(tmp_path / "missing")
    assert "No such file" in problem


def test_the_runtime_directory_is_private_and_its_own(tmp_path: Path) -> None:
    first, second = make_runtime_directory(tmp_path), make_runtime_directory(tmp_path)
    assert first != second
    assert first.stat().st_mode & 0o777 == 0o700


def test_the_aws_configuration_holds_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import botocore.session

    path = write_aws_config(tmp_path, "my-region")
    assert "key" not in path.read_text().lower().replace("# written at each start. keys", "")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    session = botocore.session.Session()
    assert session.get_config_variable("region") == "my-region"
    assert session.get_scoped_config()["s3"] == {"addressing_style": "path"}
    assert session.get_config_variable("request_checksum_calculation") == "when_required"


def test_the_notebook_is_a_valid_one() -> None:
    notebook = json.loads((EXAMPLES / "cloud_storage.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            compile("".join(cell["source"]), "cell", "exec")
            assert cell["outputs"] == []
