from __future__ import annotations

import os
from pathlib import Path

import pytest

from taccuino.server.sharing import Copy, NotShared, free_name, link, scratch_directory, source


@pytest.fixture
def workarea(tmp_path: Path) -> Path:
    """A workarea with scratch as the mount plane lays it out: one's own part is a link."""
    area = tmp_path / "workarea"
    for folder in ("local", "cloud_storage/.scratch-own", "cloud_storage/scratch"):
        (area / folder).mkdir(parents=True)
    (area / "cloud_storage/scratch/alice").symlink_to("../.scratch-own")
    (tmp_path / "outside").write_text("secret")
    return area


def copied(workarea: Path, path: str) -> Copy:
    copy = Copy(source(workarea, path), scratch_directory(workarea, "alice"))
    copy.start()
    assert copy.ended.wait(10)
    return copy


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 400),
        ("/", 400),
        ("..", 400),
        ("local/../../outside", 400),
        ("local/\0", 400),
        ("local/missing", 404),
        ("local/out", 403),
        ("local/up", 403),
        ("local/loop", 503),
        ("local/pipe", 400),
    ],
)
def test_only_what_lies_in_the_workarea_is_shared(
    workarea: Path, path: str, status: int
) -> None:
    (workarea / "local/out").symlink_to(workarea.parent / "outside")
    (workarea / "local/up").symlink_to("../..")
    (workarea / "local/loop").symlink_to("loop")
    os.mkfifo(workarea / "local/pipe")
    with pytest.raises(NotShared) as refused:
        source(workarea, path)
    assert refused.value.status == status


def test_a_file_is_never_overwritten(workarea: Path) -> None:
    (workarea / "local/notes.ipynb").write_text("mine")
    names = [copied(workarea, "local/notes.ipynb").name for _ in range(3)]
    assert names == ["notes.ipynb", "notes (2).ipynb", "notes (3).ipynb"]
    scratch = workarea / "cloud_storage/scratch/alice"
    assert sorted(path.name for path in scratch.iterdir()) == sorted(names)
    assert {path.read_text() for path in scratch.iterdir()} == {"mine"}


def test_a_folder_comes_whole_and_without_what_leads_out_of_it(workarea: Path) -> None:
    folder = workarea / "local/work"
    for path in ("deep/data.csv", ".ipynb_checkpoints/x", "readme"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    (folder / "inside").symlink_to("deep/data.csv")
    (folder / "out").symlink_to(workarea.parent / "outside")
    (folder / "broken").symlink_to("nothing")
    (folder / "round").symlink_to(".")
    copy = copied(workarea, "local/work")
    assert (copy.state, copy.left_out, copy.name) == ("done", 3, "work")
    there = workarea / "cloud_storage/scratch/alice/work"
    found = {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
    assert found == {"deep/data.csv", "readme", "inside"}
    assert not (there / "inside").is_symlink()
    assert (there / "inside").read_text() == "deep/data.csv"
    assert copy.copied_bytes == copy.total_bytes


def test_what_lies_in_scratch_already_is_not_copied(workarea: Path) -> None:
    (workarea / "cloud_storage/.scratch-own/a").mkdir()
    (workarea / "cloud_storage/.scratch-own/a/b.txt").write_text("x")
    copy = copied(workarea, "cloud_storage/scratch/alice/a/b.txt")
    assert (copy.state, copy.name, copy.total_bytes) == ("done", "a/b.txt", 0)


@pytest.mark.parametrize(
    "path", ["cloud_storage", "cloud_storage/scratch", "cloud_storage/scratch/alice"]
)
def test_no_folder_is_copied_into_itself(workarea: Path, path: str) -> None:
    copy = copied(workarea, path)
    assert (copy.state, copy.message) == ("failed", "A folder can't be copied into itself.")


@pytest.mark.parametrize("path", ["local/big", "local/work"])
def test_a_copy_that_is_cancelled_leaves_nothing(
    workarea: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workarea / "local/work").mkdir()
    for name in ("big", "work/big"):
        (workarea / "local" / name).write_bytes(b"x" * 100)
    monkeypatch.setattr("taccuino.server.sharing._CHUNK", 10)
    copy = Copy(source(workarea, path), scratch_directory(workarea, "alice"))
    # As it is after a part was written.
    monkeypatch.setattr(
        Copy,
        "copied_bytes",
        property(lambda _self: 0, lambda self, value: self.cancel() if value else None),
        raising=False,
    )
    copy.start()
    assert copy.ended.wait(10)
    assert copy.state == "cancelled"
    assert list((workarea / "cloud_storage/.scratch-own").iterdir()) == []


def test_without_scratch_it_says_so(workarea: Path) -> None:
    (workarea / "cloud_storage/scratch/alice").unlink()
    (workarea / "local/a").write_text("x")
    copy = copied(workarea, "local/a")
    assert copy.state == "failed"
    assert "object storage is away" in copy.message


@pytest.mark.parametrize(
    ("there", "name", "free"),
    [
        ([], "a.ipynb", "a.ipynb"),
        (["a.ipynb"], "a.ipynb", "a (2).ipynb"),
        (["a.ipynb", "a (2).ipynb"], "a.ipynb", "a (3).ipynb"),
        (["folder"], "folder", "folder (2)"),
        ([".bashrc"], ".bashrc", ".bashrc (2)"),
    ],
)
def test_free_name(tmp_path: Path, there: list[str], name: str, free: str) -> None:
    for one in there:
        (tmp_path / one).touch()
    assert free_name(tmp_path, name) == free


def test_the_link_opens_in_anybodys_server() -> None:
    path = "cloud_storage/scratch/alice/my notes #1.ipynb"
    assert link("/", path) == (
        "/hub/user-redirect/lab/tree/cloud_storage/scratch/alice/my%20notes%20%231.ipynb"
    )
    assert link("/jupyter/", "a").startswith("/jupyter/hub/user-redirect/")
