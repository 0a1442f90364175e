"""Why a start failed: evidence in, words out."""

from __future__ import annotations

import pytest

from taccuino.engines.errors import (
    ContainerExitedError,
    EngineError,
    EngineUnreachableError,
    FirewallError,
    ImageMissingError,
    NetworkPoolExhaustedError,
    ServerFailedError,
    StartStalledError,
    StorageUnavailableError,
)
from taccuino.engines.failures import Evidence, clean_log, explain_failure, memory_notice
from taccuino.errors import TaccuinoError

EXITED = ContainerExitedError("ended")
NO_SPACE = EngineError("write /var/lib/x: no space left on device", 500)
NO_PROGRAM = EngineError('exec: "x": executable file not found in $PATH', 500)
NO_PROGRAM_IN_DOCKER = EngineError(
    "OCI runtime create failed: runc create failed: unable to start container process: "
    'exec: "/x": stat /x: no such file or directory: unknown',
    400,
)


@pytest.mark.parametrize(
    ("evidence", "reason", "retryable", "words"),
    [
        (
            Evidence(ImageMissingError("no such image"), image="x/y:1"),
            "image_missing",
            False,
            "x/y:1",
        ),
        (
            Evidence(EXITED, exit_code=137, oom_kills=1, memory=2**31),
            "out_of_memory",
            False,
            "2G",
        ),
        (Evidence(EXITED, exit_code=137), "exited", True, "was killed (code 137)"),
        (Evidence(EXITED, exit_code=139), "exited", True, "crashed (code 139)"),
        (Evidence(EXITED, exit_code=3), "exited", True, "ended with code 3"),
        (Evidence(EXITED, exit_code=0), "exited", True, "ended with code 0"),
        (
            Evidence(EXITED, exit_code=127, image="x"),
            "image_unusable",
            False,
            "not in the image",
        ),
        (Evidence(EXITED, exit_code=126, image="x"), "image_unusable", False, "not a program"),
        (Evidence(NO_PROGRAM, image="x"), "image_unusable", False, "not in the image"),
        (
            Evidence(NO_PROGRAM_IN_DOCKER, image="x"),
            "image_unusable",
            False,
            "not in the image",
        ),
        (Evidence(NO_SPACE), "disk_full", False, "is full"),
        (Evidence(NetworkPoolExhaustedError("")), "networks_exhausted", False, "No network"),
        (Evidence(FirewallError("")), "firewall", False, "apart"),
        (Evidence(EngineUnreachableError("")), "engine_unreachable", True, "does not answer"),
        (Evidence(EngineError("odd", 500)), "engine_error", True, "try again"),
        (
            Evidence(StorageUnavailableError("no disk.")),
            "storage_unreachable",
            True,
            "no disk.",
        ),
        (Evidence(ServerFailedError("no port")), "server_failed", True, "no port"),
        (Evidence(ServerFailedError("no port"), exit_code=1), "server_failed", True, "no port"),
        (
            Evidence(StartStalledError(""), phase="Starting Jupyter"),
            "timeout",
            True,
            "Starting Jupyter",
        ),
        (Evidence(TaccuinoError("in words")), "error", False, "in words"),
        (Evidence(KeyError("secret detail")), "internal", False, "unforeseen"),
        (
            Evidence(exit_code=1, was_ready=True),
            "exited",
            False,
            "Your server ended with code 1",
        ),
        (
            Evidence(exit_code=137, oom_kills=2, memory=2**29, was_ready=True),
            "out_of_memory",
            False,
            "was stopped",
        ),
        (Evidence(was_ready=True), "gone", False, "is gone"),
    ],
)
def test_table(evidence: Evidence, reason: str, retryable: bool, words: str) -> None:
    failure = explain_failure(evidence)
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert words in failure.message
    assert "secret detail" not in failure.message
    assert failure.exit_code == evidence.exit_code


def test_html_is_escaped() -> None:
    failure = explain_failure(Evidence(EXITED, exit_code=1, log="<script>alert(1)</script>"))
    assert "<script>" not in failure.html
    assert "&lt;script&gt;" in failure.html
    assert "<script>" not in explain_failure(Evidence(ServerFailedError("<script>"))).html


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("\x1b[31mred\x1b[0m\r\n\n\x07bell", "red\nbell"),
        ("http://x/?token=0123456789abc&a=1", "http://x/?token=[hidden]&a=1"),
        ('"client_secret": "abcdefgh"', '"client_secret": "[hidden]"'),
        (
            "\n".join(f"line {n}" for n in range(30)),
            "\n".join(f"line {n}" for n in range(18, 30)),
        ),
        ("x" * 500, "x" * 199 + "…"),
        ("", ""),
    ],
)
def test_clean_log(text: str, clean: str) -> None:
    assert clean_log(text) == clean


def test_state_is_what_the_home_page_shows() -> None:
    state = explain_failure(Evidence(exit_code=1, was_ready=True)).as_state()
    assert set(state) == {"reason", "message", "at"}


@pytest.mark.parametrize(("kills", "words"), [(1, "A process of"), (3, "3 processes of")])
def test_memory_notice(kills: int, words: str) -> None:
    notice = memory_notice(kills)
    assert notice["id"] == f"oom-{kills}"
    assert notice["message"].startswith(words)
