"""Programs at work in cloud_storage: in a real notebook server, on the real mount over real Ceph.

What a program wrote is looked at through a mount with an empty cache, so that it was in the
bucket: the server is stopped, which drains, and started again after its cache was deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person
from taccuino.naming import slug

pytestmark = pytest.mark.integration

FOLDER = "/workarea/cloud_storage/alice/programs"

WRITES = {
    "symlinks": """
(d / "target").write_text("content")
(d / "link").symlink_to("target")
(d / "folder").mkdir()
(d / "to-folder").symlink_to("folder")
(d / "folder/inside").write_text("inside")
assert (d / "to-folder/inside").read_text() == "inside"
""",
    "replace": """
for number in range(30):
    (d / ".new").write_text(f"version {number}\\n" * 1000)
    os.replace(d / ".new", d / "file.txt")
(d / "before/deep").mkdir(parents=True)
(d / "before/deep/file").write_text("moved")
os.rename(d / "before", d / "after")
""",
    "append and truncate": """
for number in range(200):
    with (d / "log").open("a") as file:
        file.write(f"{number}\\n")
with (d / "cut").open("w+") as file:
    file.write("0123456789")
    file.truncate(4)
sh("truncate -s 6 cut && truncate -s 1M long")
""",
    "editors": """
# vim: the old file is renamed aside, a new one written, the old removed; nano: in place
(d / "vim.txt").write_text("first")
for number in range(10):
    os.rename(d / "vim.txt", d / "vim.txt~")
    with (d / "vim.txt").open("w") as file:
        file.write(f"vim {number}"); file.flush(); os.fsync(file.fileno())
    os.remove(d / "vim.txt~")
    with (d / "nano.txt").open("w") as file:
        file.write(f"nano {number}")
""",
    "sqlite": """
import sqlite3
db = sqlite3.connect(d / "data.sqlite")
assert db.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
db.execute("CREATE TABLE rows (who INTEGER, number INTEGER)")
db.commit()
code = '''
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60)
for number in range(100):
    with db:
        db.execute("INSERT INTO rows VALUES (?, ?)", (int(sys.argv[2]), number))
    total, = db.execute("SELECT count(*) FROM rows WHERE who = ?", (int(sys.argv[2]),)).fetchone()
    assert total == number + 1, total
'''
writers = [subprocess.Popen([sys.executable, "-c", code, d / "data.sqlite", str(who)]) for who in range(3)]
while any(writer.poll() is None for writer in writers):
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
assert [writer.returncode for writer in writers] == [0, 0, 0]
db.close()
""",
    "git": """
sh("git init -q source && cd source && git config user.email a@b.c && git config user.name A")
for number in range(100):
    path = d / f"source/part{number % 5}/module{number}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"value = {number}\\n" * 50)
sh("cd source && git add . && git commit -qm first && git checkout -qb other && git rm -q part0/module0.py"
   " && git commit -qm second && git checkout -q - && test -f part0/module0.py && git checkout -q other"
   " && git gc -q && git fsck --full")
sh("git clone -q source clone && cd clone && git config user.email a@b.c && git config user.name A"
   " && echo more >> part1/module1.py && git commit -qam third && git push -q origin HEAD:refs/heads/pushed && git gc -q")
assert sh("git -C clone status --porcelain") == ""
""",
    "pip": """
import zipfile
wheel = d / "greet-1.0-py3-none-any.whl"
with zipfile.ZipFile(wheel, "w") as file:
    file.writestr("greet/__init__.py", "def main(): print('hello from the wheel')")
    info = "greet-1.0.dist-info/"
    file.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: greet\\nVersion: 1.0\\n")
    file.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    file.writestr(info + "entry_points.txt", "[console_scripts]\\ngreet = greet:main\\n")
    file.writestr(info + "RECORD", "")
sh(f"{sys.executable} -m pip install -q --no-index --target site {wheel}")
assert sh("PYTHONPATH=site site/bin/greet") == "hello from the wheel\\n"
""",
    "tar, zip and find": """
(d / "tree/sub").mkdir(parents=True)
for number in range(100):
    (d / f"tree/sub/{number}.bin").write_bytes(bytes([number]) * 1000)
os.symlink("sub/1.bin", d / "tree/link")
sh("tar -czf tree.tgz tree && mkdir out && tar -xzf tree.tgz -C out && diff -r tree out/tree")
import shutil
shutil.make_archive(str(d / "tree"), "zip", d / "tree")
shutil.unpack_archive(d / "tree.zip", d / "unzipped")
sh("diff -r tree/sub unzipped/sub && cp -a tree copied && diff -r tree copied")
assert sh("find tree -type f | wc -l").strip() == "100"
assert int(sh("du -s --apparent-size -B1 tree").split()[0]) >= 100_000
""",
    "hdf5": """
import h5py, numpy
with h5py.File(d / "data.h5", "w") as file:
    file.create_dataset("grid", data=numpy.arange(250_000).reshape(500, 500), chunks=(50, 500), compression="gzip")
    file.create_dataset("series", data=numpy.arange(10), maxshape=(None,), chunks=(1000,))
for turn in range(1, 5):
    with h5py.File(d / "data.h5", "a") as file:
        file["series"].resize((10 * (turn + 1),))
        file["series"][10 * turn:] = numpy.arange(10 * turn, 10 * (turn + 1))
""",
    "parquet": """
import pyarrow as pa, pyarrow.parquet as pq
with pq.ParquetWriter(d / "data.parquet", pa.schema([("n", pa.int64()), ("s", pa.string())])) as writer:
    for turn in range(5):
        rows = range(1000 * turn, 1000 * (turn + 1))
        writer.write_table(pa.table({"n": list(rows), "s": [str(n) for n in rows]}))
for year in (2025, 2026):
    pq.write_to_dataset(pa.table({"year": [year] * 3, "n": [1, 2, 3]}), d / "set", partition_cols=["year"])
""",
    "memmap": """
import numpy
array = numpy.memmap(d / "array", dtype="float64", mode="w+", shape=(1000, 100))
array[:] = numpy.arange(100_000).reshape(1000, 100)
array.flush(); del array
array = numpy.memmap(d / "array", dtype="float64", mode="r+", shape=(1000, 100))
array[7, 7] = -1; array.flush()
numpy.save(d / "saved.npy", numpy.arange(1000))
assert numpy.load(d / "saved.npy", mmap_mode="r")[999] == 999
""",
    "jupyter": """
import nbformat
from jupyter_server.services.contents.filemanager import FileContentsManager
manager = FileContentsManager(root_dir=str(d))
for number in range(10):
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"x = {number}")])
    saved = manager.save({"type": "notebook", "content": content, "format": "json"}, "work.ipynb")
    manager.create_checkpoint("work.ipynb")
import time
time.sleep(3)  # past the upload: what the user has open has not changed on disk
now = manager.get("work.ipynb", content=False)["last_modified"]
assert abs((now - saved["last_modified"]).total_seconds()) < 0.5, (saved["last_modified"], now)
""",
}

READS = {
    "symlinks": """
assert os.readlink(d / "link") == "target" and (d / "link").read_text() == "content"
assert (d / "to-folder/inside").read_text() == "inside"
""",
    "replace": """
assert (d / "file.txt").read_text() == "version 29\\n" * 1000
assert (d / "after/deep/file").read_text() == "moved"
assert not (d / "before").exists() and not (d / ".new").exists()
""",
    "append and truncate": """
assert (d / "log").read_text().split() == [str(n) for n in range(200)]
assert (d / "cut").read_bytes() == b"0123\\0\\0"
assert (d / "long").read_bytes() == bytes(1 << 20)
""",
    "editors": """
assert (d / "vim.txt").read_text() == "vim 9" and (d / "nano.txt").read_text() == "nano 9"
assert not (d / "vim.txt~").exists()
""",
    "sqlite": """
import sqlite3
db = sqlite3.connect(d / "data.sqlite")
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
assert db.execute("SELECT who, count(*) FROM rows GROUP BY who").fetchall() == [(n, 100) for n in range(3)]
""",
    "git": """
sh("git -C source fsck --full && git -C clone fsck --full")
assert sh("git -C source status --porcelain") == sh("git -C clone status --porcelain") == ""
assert sh("git -C source rev-parse pushed") == sh("git -C clone rev-parse HEAD")
""",
    "pip": """
assert sh("PYTHONPATH=site site/bin/greet") == "hello from the wheel\\n"
""",
    "tar, zip and find": """
sh("diff -r tree out/tree && diff -r tree copied && diff -r tree/sub unzipped/sub && tar -tzf tree.tgz")
assert os.readlink(d / "out/tree/link") == "sub/1.bin"
""",
    "hdf5": """
import h5py, numpy
with h5py.File(d / "data.h5") as file:
    assert (file["grid"][:] == numpy.arange(250_000).reshape(500, 500)).all()
    assert (file["series"][:] == numpy.arange(50)).all()
""",
    "parquet": """
import pyarrow.parquet as pq
assert pq.read_table(d / "data.parquet", memory_map=True)["n"].to_pylist() == list(range(5000))
assert sorted(pq.read_table(d / "set")["n"].to_pylist()) == [1, 1, 2, 2, 3, 3]
""",
    "memmap": """
import numpy
array = numpy.memmap(d / "array", dtype="float64", mode="r", shape=(1000, 100))
wanted = numpy.arange(100_000.0).reshape(1000, 100); wanted[7, 7] = -1
assert (array == wanted).all()
assert (numpy.load(d / "saved.npy", mmap_mode="r") == numpy.arange(1000)).all()
""",
    "jupyter": """
import nbformat
for path in (d / "work.ipynb", d / ".ipynb_checkpoints/work-checkpoint.ipynb"):
    assert nbformat.read(path, 4).cells[0].source == "x = 9"
""",
}

PREAMBLE = """
import os, subprocess, sys
from pathlib import Path
d = Path({folder!r})
def sh(command):
    done = subprocess.run(command, shell=True, text=True, cwd=d, capture_output=True)
    assert done.returncode == 0, f"{{command}}: {{done.returncode}}\\n{{done.stdout}}{{done.stderr}}"
    return done.stdout
"""


def _code(name: str, text: str) -> str:
    folder = f"{FOLDER}/{name.replace(', ', '-').replace(' ', '-')}"
    return PREAMBLE.format(folder=folder) + text


@pytest.fixture(scope="module")
def alice(instance: Instance) -> Iterator[Person]:
    person = instance.person("alice")
    _start(person)
    with Notebook(person) as notebook:
        notebook.shell(f"rm -rf {FOLDER}; mkdir {FOLDER}")
    yield person
    with Notebook(person) as notebook:
        notebook.shell(f"rm -rf {FOLDER}")
    person.stop()


def _start(person: Person) -> None:
    events = person.start(image="base", cpu=1, memory="2G", interface="lab")
    assert events[-1].get("ready"), events


@pytest.fixture(scope="module")
def written(alice: Person) -> dict[str, Exception | None]:
    """Each program's work, and what it raised."""
    found: dict[str, Exception | None] = {}
    for name, text in WRITES.items():
        with Notebook(alice, limit=180) as notebook:
            try:
                notebook.run(_code(name, "d.mkdir()\n" + text))
                found[name] = None
            except AssertionError as error:
                found[name] = error
    return found


@pytest.fixture(scope="module")
def reread(
    instance: Instance, alice: Person, written: dict[str, Exception | None]
) -> dict[str, Exception | None]:
    """What was found wrong when it was read through an empty cache."""
    alice.stop()
    cache = instance.settings.mount_plane.cache_directory
    assert cache is not None
    shutil.rmtree(cache / slug("alice"))
    _start(alice)
    found: dict[str, Exception | None] = {}
    for name, text in READS.items():
        with Notebook(alice, limit=180) as notebook:
            try:
                notebook.run(_code(name, text))
                found[name] = None
            except AssertionError as error:
                found[name] = error
    return found


@pytest.mark.parametrize("name", WRITES)
def test_it_works(written: dict[str, Exception | None], name: str) -> None:
    if (error := written[name]) is not None:
        raise error


@pytest.mark.parametrize("name", READS)
def test_it_is_in_the_bucket(reread: dict[str, Exception | None], name: str) -> None:
    if (error := reread[name]) is not None:
        raise error
