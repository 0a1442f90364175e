from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taccuino.server.status_file import MountReport, StatusFile
from taccuino.server.storage_notices import storage_notices, storage_summary

REPORT: dict[str, Any] = {"at": 1.0, "state": "mounted", "fault": None, "uploads_pending": 0}
AWAY = "cloud_storage/alice: the object storage at https://s3 can't be reached."
QUOTA = (
    "Not uploaded after 3 attempt(s), will be tried again: "
    "cloud_storage/alice/big.h5: the storage's quota is used up (QuotaExceeded)."
)


@pytest.mark.parametrize(
    ("content", "known"),
    [
        (None, False),
        ("", False),
        ('{"state": "moun', False),
        ("[]", False),
        ("{}", True),
        (json.dumps(REPORT | {"uploads_pending": "many", "upload_errors": 3}), True),
    ],
)
def test_a_missing_half_or_odd_file(tmp_path: Path, content: str | None, known: bool) -> None:
    path = tmp_path / "status.json"
    if content is not None:
        path.write_text(content)
    report = StatusFile(path).read()
    assert (report is not None) is known
    if report:
        assert (report.uploads_pending, report.upload_errors, report.conflicts) == (0, [], [])


def test_a_replaced_file_is_read_and_a_removed_one_forgotten(tmp_path: Path) -> None:
    path, new = tmp_path / "status.json", tmp_path / "new"
    file = StatusFile(path)
    for count in (1, 2):
        new.write_text(json.dumps(REPORT | {"uploads_pending": count}))
        new.replace(path)
        report = file.read()
        assert report
        assert report.uploads_pending == count
        assert file.read() is report  # not read again
    path.unlink()
    assert file.read() is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, []),
        ({"uploads_pending": 7}, []),  # it is in the status bar
        ({"fault": AWAY}, [("error", True, "can't be reached. It is tried again by itself")]),
        ({"fault": AWAY, "uploads_pending": 1}, [("error", True, "1 saved file waits")]),
        ({"fault": AWAY, "uploads_pending": 3}, [("error", True, "3 saved files wait")]),
        ({"state": "absent"}, [("error", True, "cloud_storage is not mounted")]),
        ({"state": "draining"}, []),
        (
            {"upload_errors": [QUOTA]},
            [("error", False, "Not uploaded: cloud_storage/alice/big.h5: the")],
        ),
        (
            {"upload_errors": ["cloud_storage/scratch/x: the object storage refuses access."]},
            [("error", False, "cloud_storage/scratch/x: the object storage")],
        ),
        (
            {"upload_errors": [f"cloud_storage/alice/{n}: no." for n in range(6)]},
            [("error", False, f"alice/{n}: no.") for n in range(4)]
            + [("error", False, "2 more files")],
        ),
        (
            {
                "conflicts": [
                    {"path": "cloud_storage/alice/a.ipynb", "copy": "cloud_storage/alice/b"}
                ]
            },
            [("warning", False, "a.ipynb was also changed elsewhere")],
        ),
        ({"conflicts": [{"path": None}, "x"]}, []),
    ],
)
def test_what_a_report_means(
    told: dict[str, Any], expected: list[tuple[str, bool, str]]
) -> None:
    found = storage_notices(MountReport(REPORT | told))
    assert len(found) == len(expected)
    for item, (level, banner, words) in zip(found, expected, strict=True):
        assert (item["level"], item["banner"]) == (level, banner)
        assert words in item["message"]
        assert banner or len(item["message"]) <= 140  # JupyterLab cuts the rest off


def test_the_same_matter_keeps_its_id() -> None:
    def ids(**told: Any) -> list[str]:
        return [item["id"] for item in storage_notices(MountReport(REPORT | told))]

    assert ids(fault=AWAY, uploads_pending=1) == ids(fault=AWAY, uploads_pending=2)
    assert ids(upload_errors=[QUOTA]) == ids(upload_errors=[QUOTA.replace("3", "4")])
    assert ids(upload_errors=[QUOTA]) != ids(upload_errors=[QUOTA.replace("big", "small")])


@pytest.mark.parametrize(
    ("usage", "numbers"),
    [
        ({"used_bytes": 5, "quota_bytes": 10}, (5, 10)),
        ({"used_bytes": 5, "quota_bytes": None}, (5, None)),
        ({"used_bytes": "5", "quota_bytes": 0}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_usage_may_be_unknown(usage: dict[str, Any], numbers: tuple[Any, Any]) -> None:
    summary = storage_summary(None, usage, "alice")
    assert (summary["used_bytes"], summary["quota_bytes"], summary["known"]) == (
        *numbers,
        False,
    )
    assert storage_summary(MountReport(REPORT), usage, "alice")["uploads_pending"] == 0


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (QUOTA, "Delete what you no longer need"),
        ("cloud_storage/scratch/x: the object storage refuses access.", "cloud_storage/alice."),
        ("cloud_storage/alice/x: odd.", "the upload is tried again."),
    ],
)
def test_an_upload_that_failed_comes_with_advice(error: str, advice: str) -> None:
    summary = storage_summary(MountReport(REPORT | {"upload_errors": [error]}), {}, "alice")
    (told,) = summary["upload_errors"]
    assert advice in told["advice"]
    assert error.endswith(told["message"])
