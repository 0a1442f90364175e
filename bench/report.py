"""What a benchmark says: a table for people, bars for programs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table


def percentile(values: Sequence[float], part: float) -> float:
    """The value that this part of all (0.99, say) is within: the nearest rank."""
    # 0.07 * 100 is a little more than 7.
    rank = math.ceil(round(part * len(values), 9))
    return sorted(values)[max(rank, 1) - 1]


@dataclass(frozen=True)
class Bar:
    """A value that must not exceed its limit."""

    name: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the value is within its limit."""
        return self.value <= self.limit


@dataclass
class Report:
    """The measured rows (seconds, one list a row) and the bars."""

    name: str
    rows: dict[str, list[float]] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, value: float, unit: str = "s") -> None:
        """Note a measurement."""
        self.rows.setdefault(row, []).append(value)
        self.units[row] = unit

    @property
    def holds(self) -> bool:
        """Whether every bar holds."""
        return all(bar.holds for bar in self.bars)

    def median(self, row: str) -> float:
        """The median of a row."""
        return statistics.median(self.rows[row])

    def percentile(self, row: str, part: float) -> float:
        """The value that this part of a row (0.99, say) is within: of few, the most."""
        return percentile(self.rows[row], part)

    def print(self) -> None:
        """Print the rows and the bars."""
        columns = ("", "median", "99 of 100", "least", "most", "n")
        table = Table(*columns, title=f"bench {self.name}")
        for name, values in self.rows.items():
            numbers = (self.median(name), self.percentile(name, 0.99), min(values), max(values))
            unit = self.units.get(name, "s")
            table.add_row(
                name, *(f"{number:.2f} {unit}" for number in numbers), str(len(values))
            )
        console = Console()
        console.print(table)
        self.print_bars(console)

    def print_bars(self, console: Console) -> None:
        """Print the bars."""
        for bar in self.bars:
            verdict = "[green]holds[/]" if bar.holds else "[red]does not hold[/]"
            console.print(f"{bar.name}: {bar.value:.3f} (limit {bar.limit}) {verdict}")

    def as_json(self) -> str:
        """``{"name", "bars": [{"name", "value", "limit", "holds"}]}``."""
        bars = [
            asdict(bar) | {"value": round(bar.value, 4), "holds": bar.holds}
            for bar in self.bars
        ]
        return json.dumps({"name": self.name, "bars": bars}, indent=2)


@dataclass
class Listing(Report):
    """Rows of several different columns, and sentences below them."""

    head: list[str] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def print(self) -> None:
        """Print the table, the sentences and the bars."""
        table = Table(*self.head, title=f"bench {self.name}")
        for line in self.lines:
            table.add_row(*line)
        console = Console()
        console.width = max(console.width, 120)
        console.print(table)
        for note in self.notes:
            console.print(note, markup=False)
        self.print_bars(console)

    def as_markdown(self) -> str:
        """The table for a document, and the sentences."""
        return "\n".join([_markdown([self.head, *self.lines]), "", *self.notes])


@dataclass
class Comparison(Report):
    """Several sides, each of which did the same: ``values[operation][side]``."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, operation: str, side: str, value: float, unit: str = "s") -> None:
        """Note a measurement."""
        self.values.setdefault(operation, {}).setdefault(side, []).append(value)
        self.units[operation] = unit

    def fails(self, operation: str, side: str, reason: str) -> None:
        """Note that a side can't do it."""
        self.values.setdefault(operation, {})
        self.failures[operation, side] = reason

    def median(self, row: str, side: str = "") -> float:
        """The median of what a side did."""
        return statistics.median(self.values[row][side])

    @property
    def sides(self) -> list[str]:
        """All sides, as they first came."""
        return list(dict.fromkeys(side for sides in self.values.values() for side in sides))

    def table(self) -> list[list[str]]:
        """The head, then a row an operation: each side's median (least to most)."""
        rows = [["", *self.sides]]
        for operation, sides in self.values.items():
            cells = [self._cell(operation, side, sides.get(side)) for side in self.sides]
            rows.append([operation, *cells])
        return rows

    def _cell(self, operation: str, side: str, values: list[float] | None) -> str:
        if (operation, side) in self.failures:
            return "fails"
        if not values:
            return ""
        least, middle, most = min(values), statistics.median(values), max(values)
        text = f"{_short(middle)} {self.units[operation]}"
        return text if len(values) == 1 else f"{text} ({_short(least)}-{_short(most)})"

    def print(self) -> None:
        """Print the table, why what fails does, and the bars."""
        head, *rows = self.table()
        table = Table(*head, title=f"bench {self.name}: median (least-most)")
        for row in rows:
            table.add_row(*row)
        console = Console()
        console.print(table)
        for (operation, side), reason in self.failures.items():
            console.print(f"{side} fails: {operation}: {reason}", markup=False)
        self.print_bars(console)

    def as_markdown(self) -> str:
        """The table for a document."""
        return _markdown(self.table())


def _markdown(table: list[list[str]]) -> str:
    """A table whose first line is its head."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
