"""The table of what was kept under which fault, for ``docs/reliability.md``."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from support.ground import Outcome

EVERY = bool(os.environ.get("TACCUINO_FAULT_ALL"))
"""Whether every fault is tried: each takes half a minute or more, and many are alike."""


def write_table(file: Path, outcomes: list[Outcome]) -> None:
    """Put what was kept into a file."""
    _write(file, "nothing lost", table(outcomes))


def write_times(file: Path, times: dict[str, dict[str, float]]) -> None:
    """Put how long what took into a file; ``times`` by the way, then by the action."""
    actions = list(dict.fromkeys(action for row in times.values() for action in row))
    rows = [
        f"| the object storage | {' | '.join(actions)} |",
        f"|---|{'--:|' * len(actions)}",
        *(
            f"| {way} | {' | '.join(f'{row[action]:.2g} s' for action in actions)} |"
            for way, row in times.items()
            if len(row) == len(actions)
        ),
    ]
    _write(file, "nothing hangs", "\n".join(rows) + "\n")


def _write(file: Path, name: str, text: str) -> None:
    """Put a table between its marks, which are added if they are not there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    there = file.read_text(encoding="utf-8") if file.exists() else ""
    if begin not in there:
        there += f"{begin}\n{end}\n"
    before, _, rest = there.partition(begin)
    _, _, after = rest.partition(end)
    file.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")


def table(outcomes: list[Outcome]) -> str:
    """A row for each fault, in the order in which they were first tried."""
    order = list(dict.fromkeys(outcome.fault for outcome in outcomes))
    rows = [
        "| fault | times | files saved | MB | refused | lost | in the bucket after (median, longest) |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    by_fault = sorted(outcomes, key=lambda outcome: order.index(outcome.fault))
    for fault, group in groupby(by_fault, key=lambda outcome: outcome.fault):
        found = list(group)
        seconds = [outcome.seconds for outcome in found]
        rows.append(
            f"| {fault} | {len(found)} | {sum(o.saved for o in found)} "
            f"| {sum(o.megabytes for o in found):.0f} | {sum(o.refused for o in found)} "
            f"| {sum(len(o.lost) for o in found)} "
            f"| {statistics.median(seconds):.1f} s, {max(seconds):.1f} s |"
        )
    return "\n".join(rows) + "\n"


def write_sites(file: Path, outcomes: Sequence[Any]) -> None:
    """Put what a crowd noticed of each fault of a site into a file."""
    rows = [
        (
            "| fault at one of two sites | requests | failed | of users at the other site "
            "| websockets dropped | a page again after (longest) | work again after (longest) "
            "| doing at the time | uploads under way | files saved | lost | servers twice |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|",
    ]
    for outcome in outcomes:
        pages = [trouble.page_after or 0 for trouble in outcome.troubles]
        work = [trouble.work_after or 0 for trouble in outcome.troubles]
        doing = Counter(trouble.doing for trouble in outcome.troubles)
        moments = ", ".join(f"{what} {n}" for what, n in doing.most_common()) or "-"
        rows.append(
            f"| {outcome.fault} | {outcome.requests} | {outcome.failed} | {outcome.elsewhere} "
            f"| {outcome.dropped} | {max(pages, default=0):.1f} s | {max(work, default=0):.1f} s "
            f"| {moments} | {outcome.uploads} | {outcome.saved} | {len(outcome.lost)} | {len(outcome.doubles)} |"
        )
    _write(file, "sites", "\n".join(rows) + "\n")
