"""Which parts of a changed file are here."""

from __future__ import annotations

import pytest

from taccuino.storage.mount_plane.ranges import Range, covers, local_ranges, merged

R = Range


@pytest.mark.parametrize(
    ("size", "before", "recorded", "written", "found"),
    [
        (0, 0, [], [], []),
        (50, 0, [], [], [R(0, 50)]),  # emptied, or new: all of it is here
        (50, 50, [R(0, 50)], [], [R(0, 50)]),  # was here when it was first changed
        (80, 50, [R(0, 50)], [], [R(0, 80)]),  # and has grown
        (30, 50, [R(0, 50)], [], [R(0, 30)]),  # or became shorter
        (50, 50, [R(5, 9)], [R(20, 25)], [R(5, 9), R(20, 25)]),  # a part is in the object
        (60, 50, [R(5, 9)], [], [R(5, 9), R(50, 60)]),  # the end is new
        (60, 50, [R(40, 55)], [R(8, 41)], [R(8, 60)]),
        (30, 50, [R(40, 45)], [], []),  # what was cut off
    ],
)
def test_local_ranges(
    size: int, before: int, recorded: list[Range], written: list[Range], found: list[Range]
) -> None:
    assert local_ranges(size, before, recorded, written) == found


def test_merged() -> None:
    assert merged([R(5, 5), R(9, 12), R(0, 3), R(3, 4), R(10, 11)]) == [R(0, 4), R(9, 12)]


def test_covers() -> None:
    assert covers([R(0, 4), R(6, 9)], R(7, 9))
    assert covers([], R(3, 3))
    assert not covers([R(0, 4), R(6, 9)], R(3, 7))
