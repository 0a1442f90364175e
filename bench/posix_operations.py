"""What programs may ask of a file system, in the order of pjdfstest's groups, and more.

Each operation is a function over an empty directory of the user's own. It returns if the file
system does what POSIX (or Linux) says, and raises if not; ``because`` tells why one is known
not to hold in cloud_storage. pjdfstest itself is in no package registry of ours.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Operation = Callable[[Path], None]

UPLOAD = 3.0
"""Seconds until a small file is in the bucket, and more."""

MODES = "An object has no mode: all files are 0700 and their owner's, so that programs run."
NO_LINKS = "An object has one name."
NOT_A_FILE = "Object storage holds files, directories and symbolic links only."
NO_XATTR = "rclone keeps no extended attributes."
NO_ATIME = "rclone keeps no access times."
JOINED = "rclone joins the two directories."
SPLIT = (
    "What is just being uploaded may arrive under the former name, the rest under the new one. "
    "Nothing is lost: move what stayed when no upload is left."
)
REPLACED = "rclone reads on in the new file."
REVIVED = "What is open is not kept for its reader, and a later write makes the name anew."
BEFORE_UPLOAD = (
    "rclone refuses it (EIO) until the file's first upload, two seconds after it was closed; "
    "ftruncate works, and so does the shell's `truncate`."
)
NO_DIRECTORY_SYNC = "rclone has no such call; a rename is kept without it."
LONG = "rclone answers EIO."


@dataclass(frozen=True)
class Case:
    """One operation; ``because`` is empty where it must hold."""

    group: str
    title: str
    run: Operation
    because: str = ""

    @property
    def name(self) -> str:
        """A name for tests."""
        return f"{self.group}: {self.title}"


CASES: list[Case] = []


def case(group: str, title: str, because: str = "") -> Callable[[Operation], Operation]:
    """Add a function to the table."""

    def add(function: Operation) -> Operation:
        CASES.append(Case(group, title, function, because))
        return function

    return add


def check(condition: object, what: str) -> None:
    """Raise with a sentence if the condition is false."""
    if not condition:
        raise AssertionError(what)


def refuses(number: int, call: Callable[[], object]) -> None:
    """The call must raise this error."""
    try:
        call()
    except OSError as error:
        check(error.errno == number, f"{errno.errorcode[error.errno or 0]}: {error}")
    else:
        raise AssertionError(f"it was not refused with {errno.errorcode[number]}")


def mode(path: Path) -> int:
    """Its permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


def made(path: Path, content: bytes = b"content") -> Path:
    """A file with this content."""
    path.write_bytes(content)
    return path


# -- the groups of pjdfstest


@case("chmod", "changes the mode of a file", MODES)
def _chmod(d: Path) -> None:
    path = made(d / "f")
    for wanted in (0o600, 0o644, 0o444):
        path.chmod(wanted)
        check(mode(path) == wanted, f"the mode is {mode(path):o}, not {wanted:o}")


@case("chmod", "is accepted, as programs expect who call it in passing")
def _chmod_accepted(d: Path) -> None:
    made(d / "f").chmod(0o644)
    (d / "sub").mkdir()
    (d / "sub").chmod(0o755)


@case("chmod", "a script can be made executable, and runs")
def _execute(d: Path) -> None:
    script = made(d / "script", b"#!/bin/sh\necho it runs\n")
    script.chmod(0o755)
    done = subprocess.run([str(script)], capture_output=True, text=True)
    check(done.stdout == "it runs\n", f"{done.returncode}: {done.stderr}")


@case("chown", "to oneself is accepted")
def _chown(d: Path) -> None:
    path = made(d / "f")
    os.chown(path, os.getuid(), os.getgid())
    check(path.stat().st_uid == os.getuid(), "another's file")


@case("chown", "to another user is refused (EPERM)")
def _chown_other(d: Path) -> None:
    refuses(errno.EPERM, lambda: os.chown(made(d / "f"), 1, 1))


@case("ftruncate", "shortens an open file")
def _ftruncate(d: Path) -> None:
    with made(d / "f", b"0123456789").open("r+b") as file:
        file.truncate(4)
        check(file.read() == b"0123", "other content")
    check((d / "f").read_bytes() == b"0123", "other content after close")


@case("ftruncate", "lengthens an open file with zeros")
def _ftruncate_longer(d: Path) -> None:
    with made(d / "f", b"01").open("r+b") as file:
        file.truncate(6)
    check((d / "f").read_bytes() == b"01\0\0\0\0", "other content")


@case("granular", "permissions beyond the mode (NFSv4 access lists)", NO_XATTR)
def _acl(d: Path) -> None:
    # Linux has POSIX access lists instead, which are an extended attribute.
    value = bytes.fromhex("02000000 0100 0600 ffffffff 0400 0400 ffffffff 2000 0400 ffffffff")
    os.setxattr(made(d / "f"), "system.posix_acl_access", value)


@case("link", "makes a hard link", NO_LINKS)
def _link(d: Path) -> None:
    os.link(made(d / "f"), d / "g")
    check((d / "f").stat().st_nlink == 2, "no second name")


@case("link", "is refused with an error that programs know (they copy instead)")
def _link_refused(d: Path) -> None:
    try:
        os.link(made(d / "f"), d / "g")
    except OSError as error:
        known = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
        check(error.errno in known, str(error))


@case("mkdir", "makes a directory, and refuses one that is there (EEXIST)")
def _mkdir(d: Path) -> None:
    (d / "sub").mkdir()
    check((d / "sub").is_dir(), "no directory")
    refuses(errno.EEXIST, (d / "sub").mkdir)
    refuses(errno.ENOENT, (d / "none/sub").mkdir)
    refuses(errno.ENOTDIR, (made(d / "f") / "sub").mkdir)


@case("mkfifo", "makes a named pipe", NOT_A_FILE)
def _mkfifo(d: Path) -> None:
    os.mkfifo(d / "f")
    check(stat.S_ISFIFO((d / "f").stat().st_mode), "no pipe")


@case("mknod", "makes a socket", NOT_A_FILE)
def _socket(d: Path) -> None:
    os.chdir(d)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
    finally:
        os.chdir("/")


@case("mknod", "makes a regular file")
def _mknod(d: Path) -> None:
    os.mknod(d / "f", 0o600 | stat.S_IFREG)
    check((d / "f").read_bytes() == b"", "no file")


@case("open", "O_CREAT | O_EXCL makes a file once")
def _exclusive(d: Path) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(d / "f", flags))
    refuses(errno.EEXIST, lambda: os.open(d / "f", flags))


@case("open", "O_CREAT | O_EXCL: of many at once, one wins")
def _exclusive_race(d: Path) -> None:
    won: list[int] = []

    def attempt(number: int) -> None:
        try:
            os.close(os.open(d / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(len(won) == 1, f"{len(won)} won")


@case("open", "O_TRUNC empties a file")
def _truncating(d: Path) -> None:
    os.close(os.open(made(d / "f"), os.O_WRONLY | os.O_TRUNC))
    check((d / "f").stat().st_size == 0, "not empty")


@case("open", "O_APPEND: two writers lose nothing")
def _append(d: Path) -> None:
    with (d / "f").open("ab", buffering=0) as one, (d / "f").open("ab", buffering=0) as two:
        for number in range(50):
            one.write(b"1%03d\n" % number)
            two.write(b"2%03d\n" % number)
    lines = (d / "f").read_bytes().splitlines()
    check(len(set(lines)) == len(lines) == 100, f"{len(lines)} lines")


@case("open", "O_DIRECTORY, O_NOFOLLOW and missing files give their errors")
def _open_errors(d: Path) -> None:
    made(d / "f")
    (d / "link").symlink_to("f")
    refuses(errno.ENOTDIR, lambda: os.open(d / "f", os.O_RDONLY | os.O_DIRECTORY))
    refuses(errno.ELOOP, lambda: os.open(d / "link", os.O_RDONLY | os.O_NOFOLLOW))
    refuses(errno.ENOENT, lambda: os.open(d / "none", os.O_RDONLY))
    refuses(errno.EISDIR, lambda: os.open(d, os.O_WRONLY))


@case("open", "O_TMPFILE makes a file without a name", NO_LINKS)
def _tmpfile(d: Path) -> None:
    os.close(os.open(d, os.O_TMPFILE | os.O_RDWR))


@case("posix_fallocate", "reserves room, and lengthens the file")
def _fallocate(d: Path) -> None:
    with (d / "f").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 10_000)
    check((d / "f").stat().st_size == 10_000, f"{(d / 'f').stat().st_size} bytes")


@case("rename", "replaces a file in one step (os.replace)")
def _replace(d: Path) -> None:
    made(d / "old", b"old")
    made(d / "new", b"new").replace(d / "old")
    check((d / "old").read_bytes() == b"new", "other content")
    check(not (d / "new").exists(), "the former name is still there")


@case("rename", "a reader finds the old or the new content at any time")
def _replace_atomic(d: Path) -> None:
    target, stop, faults = made(d / "f", b"a" * 1000), threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            try:
                content = target.read_bytes()
                if len(content) != 1000 or len(set(content)) != 1:
                    faults.append(f"{len(content)} bytes")
            except OSError as error:
                faults.append(str(error))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for number in range(60):
            made(d / "new", (b"b", b"c")[number % 2] * 1000).replace(target)
    finally:
        stop.set()
        thread.join()
    check(not faults, f"{len(faults)} reads: {faults[:2]}")


@case("rename", "a directory with what is in it")
def _rename_directory(d: Path) -> None:
    (d / "a/b").mkdir(parents=True)
    made(d / "a/b/f")
    (d / "a").rename(d / "z")
    check((d / "z/b/f").read_bytes() == b"content", "other content")
    check(not (d / "a").exists(), "the former name is still there")


@case("rename", "a directory with many files")
def _rename_many(d: Path) -> None:
    _rename_full(d, 10 * UPLOAD)


@case("rename", "a directory with many files that are being uploaded", SPLIT)
def _rename_uploading(d: Path) -> None:
    _rename_full(d, 1.2)


def _rename_full(d: Path, delay: float) -> None:
    (d / "a").mkdir()
    for number in range(200):
        made(d / f"a/{number}", str(number).encode())
    time.sleep(delay)
    (d / "a").rename(d / "b")
    found = {path.name: path.read_bytes() for path in (d / "b").iterdir()}
    check(found == {str(n): str(n).encode() for n in range(200)}, f"{len(found)} files")


@case("rename", "over a file that is open: the reader keeps what it opened", REPLACED)
def _rename_over_open(d: Path) -> None:
    with made(d / "f", b"old").open("rb") as file:
        made(d / "new", b"new").replace(d / "f")
        check(file.read() == b"old", "the open file changed")
    check((d / "f").read_bytes() == b"new", "other content")


@case("rename", "of a file that is being written")
def _rename_open(d: Path) -> None:
    with (d / "part").open("wb") as file:
        file.write(b"first ")
        file.flush()
        (d / "part").rename(d / "whole")
        file.write(b"second")
    check((d / "whole").read_bytes() == b"first second", "other content")


@case("rename", "over a directory that is not empty is refused (ENOTEMPTY)", JOINED)
def _rename_not_empty(d: Path) -> None:
    (d / "a").mkdir()
    (d / "b").mkdir()
    made(d / "b/f")
    try:
        (d / "a").rename(d / "b")
    except OSError as error:
        check(error.errno in (errno.ENOTEMPTY, errno.EEXIST), str(error))
    else:
        raise AssertionError("it was not refused")
    check((d / "b/f").exists(), "what was in it is gone")


@case("rmdir", "removes an empty directory, and no other (ENOTEMPTY)")
def _rmdir(d: Path) -> None:
    (d / "sub").mkdir()
    made(d / "sub/f")
    refuses(errno.ENOTEMPTY, (d / "sub").rmdir)
    (d / "sub/f").unlink()
    (d / "sub").rmdir()
    check(not (d / "sub").exists(), "still there")


@case("symlink", "to a file, a directory, and to nothing")
def _symlink(d: Path) -> None:
    made(d / "f")
    (d / "sub").mkdir()
    for name, target in (("lf", "f"), ("ls", "sub"), ("ln", "none")):
        (d / name).symlink_to(target)
        check((d / name).readlink() == Path(target), "another target")
        check((d / name).is_symlink(), "no link")
    check((d / "lf").read_bytes() == b"content", "other content")
    check((d / "ls").is_dir(), "no directory")
    check(not (d / "ln").exists(), "it leads to something")
    check((d / "lf").lstat().st_size == 1, f"lstat: {(d / 'lf').lstat().st_size} bytes")


@case("symlink", "can be renamed and removed")
def _symlink_changes(d: Path) -> None:
    made(d / "f")
    (d / "a").symlink_to("f")
    (d / "a").rename(d / "b")
    check((d / "b").readlink() == Path("f"), "another target")
    (d / "b").unlink()
    check((d / "f").exists(), "the file is gone")


@case("truncate", "by name, right after the file was made", BEFORE_UPLOAD)
def _truncate_new(d: Path) -> None:
    path = made(d / "f", b"0123456789")
    os.truncate(path, 3)
    check(path.read_bytes() == b"012", "other content")


@case("truncate", "by name, shorter and longer")
def _truncate(d: Path) -> None:
    path = made(d / "f", b"0123456789")
    time.sleep(UPLOAD)
    os.truncate(path, 3)
    check(path.read_bytes() == b"012", "other content")
    os.truncate(path, 5)
    check(path.read_bytes() == b"012\0\0", "other content")


@case("unlink", "removes a file; a missing one is an error (ENOENT)")
def _unlink(d: Path) -> None:
    made(d / "f").unlink()
    check(not (d / "f").exists(), "still there")
    refuses(errno.ENOENT, (d / "f").unlink)


@case("unlink", "of an open file: it can be read and written until it is closed", REVIVED)
def _unlink_open(d: Path) -> None:
    with made(d / "f").open("r+b") as file:
        (d / "f").unlink()
        check(not (d / "f").exists(), "still there")
        check(file.read() == b"content", "other content")
        file.write(b" more")
        file.seek(0)
        check(file.read() == b"content more", "what was written is not there")


@case("utimensat", "sets the modification time")
def _utime(d: Path) -> None:
    path = made(d / "f")
    os.utime(path, (1_600_000_000, 1_500_000_000))
    check(path.stat().st_mtime == 1_500_000_000, f"{path.stat().st_mtime}")


@case("utimensat", "sets the access time", NO_ATIME)
def _atime(d: Path) -> None:
    path = made(d / "f")
    os.utime(path, (1_600_000_000, 1_500_000_000))
    check(path.stat().st_atime == 1_600_000_000, f"{path.stat().st_atime}")


@case("utimensat", "a file's time is still the same after its upload")
def _mtime_stays(d: Path) -> None:
    path = made(d / "f")
    before = path.stat().st_mtime_ns
    deadline = time.monotonic() + 8  # past the upload, and past a new listing
    while time.monotonic() < deadline:
        now = path.stat().st_mtime_ns
        check(now == before, f"it moved by {(now - before) / 1e9:.3f} s")
        time.sleep(0.25)


# -- what pjdfstest does not ask


@case("mmap", "reads")
def _mmap_read(d: Path) -> None:
    path = made(d / "f", os.urandom(1_000_000))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        check(view[:] == path.read_bytes(), "other content")


@case("mmap", "writes, shared (numpy.memmap, HDF5, LMDB)")
def _mmap_write(d: Path) -> None:
    path = made(d / "f", bytes(100_000))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[50_000:50_004] = b"here"
        view.flush()
    check(path.read_bytes()[50_000:50_004] == b"here", "it was not written")


@case("locks", "flock keeps a second process out")
def _flock(d: Path) -> None:
    _locks(made(d / "f"), "flock")


@case("locks", "fcntl keeps a second process out, also of a part")
def _fcntl(d: Path) -> None:
    _locks(made(d / "f"), "lockf")


def _locks(path: Path, kind: str) -> None:
    lock = getattr(fcntl, kind)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b')\n"
        f"try: fcntl.{kind}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(7)"
    )
    words = ["/usr/bin/python3", "-c", code, str(path)]
    with path.open("r+b") as file:
        lock(file, fcntl.LOCK_EX)
        check(subprocess.run(words).returncode == 7, "the second process got it too")
        lock(file, fcntl.LOCK_UN)
        check(subprocess.run(words).returncode == 0, "it is still locked")


@case("xattr", "user.* attributes can be set and read", NO_XATTR)
def _xattr(d: Path) -> None:
    path = made(d / "f")
    os.setxattr(path, "user.note", b"x")
    check(os.getxattr(path, "user.note") == b"x", "another value")


@case("sparse", "what was skipped reads as zeros")
def _sparse(d: Path) -> None:
    with (d / "f").open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")
    content = (d / "f").read_bytes()
    check(content == bytes(3_000_000) + b"end", f"{len(content)} bytes")


@case("sparse", "SEEK_DATA and SEEK_HOLE answer")
def _holes(d: Path) -> None:
    with made(d / "f").open("rb") as file:
        check(os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0, "no data at the beginning")
        check(os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 7, "no hole at the end")


@case("write", "in the middle of a file")
def _middle(d: Path) -> None:
    with made(d / "f", b"0123456789").open("r+b") as file:
        file.seek(3)
        file.write(b"xyz")
    check((d / "f").read_bytes() == b"012xyz6789", "other content")


@case("write", "is seen at once by who has the file open")
def _coherent(d: Path) -> None:
    with (d / "f").open("wb", buffering=0) as writer, (d / "f").open("rb") as reader:
        writer.write(b"first")
        check(reader.read() == b"first", "not seen")
        writer.write(b"second")
        check(reader.read() == b"second", "not seen")


@case("fsync", "of a file")
def _fsync(d: Path) -> None:
    with (d / "f").open("wb") as file:
        file.write(b"content")
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())


@case("fsync", "of a directory", NO_DIRECTORY_SYNC)
def _fsync_directory(d: Path) -> None:
    descriptor = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@case("names", "of 255 bytes")
def _long(d: Path) -> None:
    made(d / ("n" * 255))
    check([path.name for path in d.iterdir()] == ["n" * 255], "another name")


@case("names", "of 256 bytes are refused (ENAMETOOLONG)", LONG)
def _too_long(d: Path) -> None:
    refuses(errno.ENAMETOOLONG, lambda: made(d / ("n" * 256)))


ODD = (
    "with space", "päper-é", "实验", "emoji 🚀", "a\\b", 'quo"te', "new\nline", "100%", "a:b?*",
    ".hidden", "trailing.", "trailing ", " leading", "plus+and&", "~tilde", "[x]{y}",
)  # fmt: skip


@case("names", "odd ones: spaces, Unicode, a newline, `:?*&%+` and a backslash")
def _odd(d: Path) -> None:
    for name in ODD:
        made(d / name, name.encode())
    found = {path.name: path.read_bytes().decode() for path in d.iterdir()}
    check(found == {name: name for name in ODD}, str(set(ODD) ^ set(found)))


@case("names", "that are no UTF-8")
def _bytes(d: Path) -> None:
    path = os.fsencode(d) + b"/caf\xe9"
    with open(path, "wb") as file:  # noqa: PTH123 - pathlib has no names of bytes
        file.write(b"x")
    check(os.listdir(os.fsencode(d)) == [b"caf\xe9"], "another name")  # noqa: PTH208


@case("names", "that differ in case only")
def _case_names(d: Path) -> None:
    made(d / "Name", b"1")
    made(d / "name", b"2")
    check((d / "Name").read_bytes() == b"1", "they are one file")


@case("names", "a path of 50 directories")
def _deep(d: Path) -> None:
    path = d.joinpath(*(f"level{number}" for number in range(50)))
    path.mkdir(parents=True)
    check(made(path / "f").read_bytes() == b"content", "other content")


@case("readdir", "while files come and go: those that stay are listed once")
def _readdir(d: Path) -> None:
    for number in range(300):
        made(d / f"stay{number}")
    seen = []
    with os.scandir(d) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count % 30 == 0:
                made(d / f"come{count}")
                made(d / f"go{count}").unlink()
    stayed = sorted(name for name in seen if name.startswith("stay"))
    check(stayed == sorted(f"stay{n}" for n in range(300)), f"{len(stayed)} of 300")


@case("readdir", "a directory of 5,000 files")
def _big(d: Path) -> None:
    for number in range(5000):
        made(d / f"{number}", b"")
    check(len(os.listdir(d)) == 5000, f"{len(os.listdir(d))} files")  # noqa: PTH208


@case("statvfs", "tells of free room")
def _statvfs(d: Path) -> None:
    found = os.statvfs(d)
    check(found.f_bavail > 0, "none is free")
    check(found.f_namemax >= 255, f"names of {found.f_namemax} bytes")


@case("stat", "a file's number stays the same")
def _inode(d: Path) -> None:
    path = made(d / "f")
    before = path.stat().st_ino
    (d / "other").mkdir()
    made(d / "other/g")
    check(path.stat().st_ino == before, "it changed")


@case("stat", "a directory's time changes with what is in it")
def _directory_time(d: Path) -> None:
    os.utime(d, (1, 1))
    made(d / "f")
    check(d.stat().st_mtime > 1, "it stays")
