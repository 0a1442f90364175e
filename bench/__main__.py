"""``scripts/bench NAME [--json FILE]``: run one benchmark, print its table, write its bars."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

NAMES = {"start": "click-to-ready of a notebook server, beside plain JupyterHub"}


def main() -> int:
    """Run the benchmark that the command line names; 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog="; ".join(f"{name}: {what}" for name, what in NAMES.items()),
    )
    parser.add_argument("name", choices=sorted(NAMES), help="the benchmark")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the bars, or print them",
    )
    parser.add_argument("--rounds", type=int, default=7, help="repetitions (default: 7)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    report = importlib.import_module(f"bench.{arguments.name}").run(rounds=arguments.rounds)
    report.print()
    if arguments.json == "-":
        print(report.as_json())
    elif arguments.json:
        Path(arguments.json).write_text(report.as_json() + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
