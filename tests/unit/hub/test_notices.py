from __future__ import annotations

import pytest

from taccuino.hub.notices import Notice, ServerFacts, notices, seconds_until_culled
from taccuino.settings import CullingSettings
from taccuino.storage.admin_ops import BucketUsage

NOW = 1_000_000.0
CULLING = CullingSettings(idle_seconds=3600, warn_seconds=300)


def facts(**known) -> ServerFacts:
    base = {"now": NOW, "started": NOW - 7200, "last_activity": NOW, "busy": False}
    return ServerFacts(**{**base, **known})


@pytest.mark.parametrize(
    ("culling", "idle", "busy", "left"),
    [
        ({}, 0, False, 3600),
        ({}, 3500, False, 100),
        ({}, 4000, False, -400),
        ({}, 4000, True, None),  # a kernel runs
        ({}, 4000, None, None),  # nobody knows: it might
        ({"cull_busy": True}, 3500, True, 100),
        ({"enabled": False}, 4000, False, None),
        ({"max_age_seconds": 7300}, 0, True, 100),  # started two hours ago
        ({"max_age_seconds": 9000}, 3500, False, 100),
    ],
)
def test_when_a_server_is_stopped(culling, idle, busy, left):
    settings = CULLING.model_copy(update=culling)
    activity = {"last_activity": NOW - idle, "busy": busy}
    assert seconds_until_culled(settings, now=NOW, started=NOW - 7200, **activity) == left


@pytest.mark.parametrize(
    ("idle", "busy", "told"),
    [
        (0, False, None),
        (3299, False, None),
        (3301, False, "stops in 5 minutes"),
        (3545, False, "stops in 1 minute."),
        (3590, False, "stops within a minute"),
        (3590, True, None),
    ],
)
def test_a_user_is_warned_before_a_server_stops(idle, busy, told):
    found = notices(facts(last_activity=NOW - idle, busy=busy), CULLING)
    assert [told in notice.message for notice in found] == ([True] if told else [])


def test_a_warning_keeps_its_id_until_something_happens():
    def id_at(now, last_activity):
        (notice,) = notices(facts(now=now, last_activity=last_activity), CULLING)
        return notice.id

    assert id_at(NOW + 3400, NOW) == id_at(NOW + 3500, NOW) != id_at(NOW + 3500, NOW + 60)


def test_the_longest_time_of_a_server_is_told_apart():
    settings = CULLING.model_copy(update={"max_age_seconds": 7300})
    (notice,) = notices(facts(busy=True), settings)
    assert "longest time" in notice.message


def test_uploads_and_storage_come_first_and_say_what_is_safe():
    found = notices(
        facts(
            last_activity=NOW - 3500,
            upload_errors=["a.txt: quota exceeded", "b.txt"],
            uploads_pending=500,
            fault="The object storage is away.",
        ),
        CULLING,
    )
    assert [notice.level for notice in found] == ["error", "error", "warning", "info"]
    assert "a.txt: quota exceeded (and 1 more)" in found[0].message
    assert "safe on this machine" in found[0].message
    assert found[1].message.startswith("The object storage is away. It is tried again")
    assert "500 files" in found[3].message


def test_what_the_spawner_tells_is_passed_on():
    told = Notice("oom-1", "warning", "A process needed more than the server's memory.")
    assert notices(facts(told=[told], uploads_pending=500), CULLING)[0] == told


@pytest.mark.parametrize(("age", "count"), [(60, 1), (2 * 86400, 0)])
def test_the_last_failure_is_told_for_a_day(age, count):
    failure = {"message": "It used more than its 2G of memory.", "at": NOW - age}
    found = notices(facts(last_failure=failure), CULLING)
    assert len(found) == count


@pytest.mark.parametrize(
    ("used", "quota", "said"),
    [
        (184 << 30, 200 << 30, ("quota-nearly-full", "92% full (184 GiB of 200 GiB)")),
        (199 << 30, 200 << 30, ("quota-full", "does not fit is not uploaded")),
        (100 << 30, 200 << 30, None),
        (184 << 30, None, None),
    ],
)
def test_a_bucket_that_gets_full_is_told(used, quota, said):
    found = notices(facts(usage=BucketUsage(used, 3, quota)), CULLING)
    assert bool(found) == bool(said)
    if said:
        assert found[0].id == said[0]
        assert said[1] in found[0].message
