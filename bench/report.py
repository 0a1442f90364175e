"""What a benchmark says: a table for people, bars for programs."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table


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

    @property
    def holds(self) -> bool:
        """Whether every bar holds."""
        return all(bar.holds for bar in self.bars)

    def median(self, row: str) -> float:
        """The median of a row."""
        return statistics.median(self.rows[row])

    def print(self) -> None:
        """Print the rows and the bars."""
        table = Table("", "median", "least", "most", "n", title=f"bench {self.name}")
        for name, values in self.rows.items():
            numbers = (statistics.median(values), min(values), max(values))
            table.add_row(name, *(f"{number:.2f} s" for number in numbers), str(len(values)))
        console = Console()
        console.print(table)
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
