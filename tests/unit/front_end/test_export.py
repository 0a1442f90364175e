"""What is taken out of the tar that an image writes, how it is named and where it is found."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import brotli
import pytest

from taccuino.front_end import catalogue, export, front_end_of, front_end_of_reference
from taccuino.front_end.catalogue import Entry
from taccuino.front_end.export import ExportError, unpack
from taccuino.settings import Settings

TEXT = b"console.log('the same again'); " * 100


def archive(*members: tarfile.TarInfo | str) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for member in members:
            entry = tarfile.TarInfo(member) if isinstance(member, str) else member
            entry.size = len(TEXT) if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(TEXT) if entry.isreg() else None)
    stream.seek(0)
    return stream


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def test_files_are_unpacked_by_part(tmp_path: Path) -> None:
    parts = unpack(archive("lab/main.1f.js", "extensions/@a/b/static/c d.js"), tmp_path)
    assert parts == {
        "lab": {"main.1f.js": tmp_path / "lab/main.1f.js"},
        "extensions": {"@a/b/static/c d.js": tmp_path / "extensions/@a/b/static/c d.js"},
    }
    assert (tmp_path / "lab/main.1f.js").read_bytes() == TEXT


@pytest.mark.parametrize(
    "member",
    [
        "lab/../../etc/cron.d/x",
        "../lab/x.js",
        "/lab/x.js",
        "/etc/passwd",
        "lab/.hidden.js",
        "lab/.git/config",
        "lab",
        "LAB/x.js",
        "lab/a\nb.js",
        "lab/" + "a" * 300,
        special("lab/x.js", tarfile.SYMTYPE, "/etc/shadow"),
        special("lab/x.js", tarfile.LNKTYPE, "/etc/shadow"),
        special("lab/x", tarfile.DIRTYPE),
        special("lab/x", tarfile.FIFOTYPE),
        special("lab/x", tarfile.CHRTYPE),
    ],
    ids=lambda member: repr(getattr(member, "name", member))[:30],
)
def test_anything_else_is_refused(tmp_path: Path, member: tarfile.TarInfo | str) -> None:
    target = tmp_path / "target"
    with pytest.raises(ExportError):
        unpack(archive("lab/good.js", member), target)
    below = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert below == {target / "lab/good.js"}


def test_too_much_or_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match="nothing"):
        unpack(archive(), tmp_path)
    monkeypatch.setattr(export, "_MOST_BYTES", len(TEXT))
    with pytest.raises(ExportError, match="more than"):
        unpack(archive("lab/a.js", "lab/b.js"), tmp_path)
    with pytest.raises(tarfile.TarError):
        unpack(io.BytesIO(b"Traceback (most recent call last)" * 30), tmp_path)


def test_an_address_names_what_is_there(tmp_path: Path) -> None:
    one = unpack(archive("lab/a.js", "lab/b.js"), tmp_path / "one")["lab"]
    same = unpack(archive("lab/b.js", "lab/a.js"), tmp_path / "same")["lab"]
    other = unpack(archive("lab/a.js", "lab/c.js"), tmp_path / "other")["lab"]
    assert export._digest(one) == export._digest(same)
    assert export._digest(one) != export._digest(other)
    assert len(export._digest(one)) == 32


def test_only_what_becomes_smaller_is_compressed(tmp_path: Path) -> None:
    files = {
        name: tmp_path / name for name in ("long.js", "short.js", "picture.png", "noise.js")
    }
    files["long.js"].write_bytes(TEXT)
    files["short.js"].write_bytes(b"1")
    files["picture.png"].write_bytes(TEXT)
    files["noise.js"].write_bytes(brotli.compress(TEXT) * 8 + bytes(range(256)))
    export._compress(files.values())
    assert gzip.decompress((tmp_path / "long.js.gz").read_bytes()) == TEXT
    assert brotli.decompress((tmp_path / "long.js.br").read_bytes()) == TEXT
    assert not list(tmp_path.glob("short.js.*")) + list(tmp_path.glob("picture.png.*"))


def settings(state: Path, port: int | None = 8009) -> Settings:
    catalogue_dir = state / "front-end"
    catalogue_dir.mkdir(exist_ok=True)
    return Settings.parse({"state_dir": str(state), "local": {"front_end_port": port}})


def test_the_catalogue_says_where_an_images_files_are(tmp_path: Path) -> None:
    known = settings(tmp_path)
    assert front_end_of(known, "sha256:aa") is None
    digest = "0" * 32
    entry = Entry(
        references=["localhost/base"],
        trees={"lab": digest},
        preload={"lab": [f"{digest}/main.js"]},
    )
    catalogue.save(known, {"aa": entry, "bb": Entry(references=["localhost/other"])})
    assert front_end_of(known, "aa") is None, "its files are gone"
    catalogue.tree(known, digest).mkdir(parents=True)
    found = front_end_of(known, "sha256:aa")
    assert found is not None
    assert found.addresses == {"lab": f"/static/{digest}"}
    assert found.preload == {"lab": [f"/static/{digest}/main.js"]}
    assert front_end_of_reference(known, "localhost/base") == found
    assert front_end_of(known, "bb") is None
    assert front_end_of(settings(tmp_path, None), "aa") is None, "nothing serves them"
    (tmp_path / "front-end/catalogue.json").write_text("{")
    assert front_end_of(known, "aa") is None


class FakeStore:
    """The images of a store and what each hands out, without podman."""

    def __init__(self, known: Settings, images: dict[str, str]) -> None:
        self.settings, self.images = known, images

    def identity(self, reference: str) -> str | None:
        return self.images.get(reference)


def test_what_nobody_offers_or_uses_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = settings(tmp_path)
    handed_out = {
        "id1": archive("lab/a.js", "themes/t.css"),
        "id2": archive("lab/a.js", "themes/u.css"),
    }

    def unpacked(_store: object, image: str, target: Path) -> dict[str, dict[str, Path]]:
        if image not in handed_out:
            raise ExportError("No module named taccuino")
        handed_out[image].seek(0)
        return unpack(handed_out[image], target)

    monkeypatch.setattr(export, "_unpacked", unpacked)
    store = FakeStore(known, {"one": "id1", "two": "id2", "old": "id3"})
    said: list[str] = []

    def run(*references: str, in_use: tuple[str, ...] = ()) -> dict[str, Entry]:
        export.export_images(store, references, said.append, in_use=in_use)  # type: ignore[arg-type]
        return catalogue.load(known)

    def trees() -> set[str]:
        return {path.name for path in (tmp_path / "front-end/static").iterdir()}

    both = run("one", "two", "old", "missing")
    assert set(both) == {"id1", "id2", "id3"}
    assert both["id1"].trees["lab"] == both["id2"].trees["lab"], "the same files lie there once"
    assert trees() == {*both["id1"].trees.values(), *both["id2"].trees.values()}
    assert "No module named taccuino" in said[-1]
    said.clear()
    assert run("one", "two", "old") == both
    assert said == [], "nothing is done twice"
    assert set(run("two", in_use=("id1",))) == {"id1", "id2"}
    assert set(run("two")) == {"id2"}
    assert trees() == set(both["id2"].trees.values())
