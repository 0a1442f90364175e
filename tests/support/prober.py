"""A program that times what a user does in ``cloud_storage``; run inside a server.

Standard library only: its text is sent into the container. Each probe runs in a process of its
own, so that one that hangs is seen as such, and prints one JSON object with its seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from pathlib import Path

LIMIT = 60.0


def probe(what: str, path: str) -> str:
    """Do one thing; what came of it."""
    if what == "list":
        return f"{len(list(Path(path).iterdir()))} entries"
    if what == "read":
        return f"{len(Path(path).read_bytes())} bytes"
    if what == "write":
        Path(path).write_bytes(b"written while the storage was away")
        return "saved"
    raise ValueError(what)


def _timed(what: str, path: str, answers: multiprocessing.Queue[tuple[float, str]]) -> None:
    began = time.monotonic()
    try:
        result = probe(what, path)
    except OSError as error:
        result = f"error: {error.strerror}"
    answers.put((time.monotonic() - began, result))


def main(*probes: str) -> None:
    """Run probes, given as ``name=what:path``, at the same time."""
    running = {}
    for text in probes:
        name, _, rest = text.partition("=")
        what, _, path = rest.partition(":")
        answers: multiprocessing.Queue[tuple[float, str]] = multiprocessing.Queue()
        process = multiprocessing.Process(target=_timed, args=(what, path, answers))
        process.start()
        running[name] = (process, answers)
    end = time.monotonic() + LIMIT
    found = {}
    for name, (process, answers) in running.items():
        process.join(max(0.1, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            found[name] = (LIMIT, "hangs")
        else:
            found[name] = answers.get(timeout=1)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
