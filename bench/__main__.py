"""``scripts/bench NAME [--json FILE]``: run one benchmark, print its table, write its bars."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

NAMES = {
    "start": "click-to-ready of a notebook server, beside plain JupyterHub",
    "storm": "500 users at once on stand-in servers, beside plain JupyterHub",
    "restart": "a killed hub with 1,000 servers serves again, beside plain JupyterHub",
    "page": "login to a usable JupyterLab and a first output, beside plain JupyterHub",
    "edge": "requests, websockets and new routes of the edge, beside configurable-http-proxy",
    "scale": "latency with up to 2,000 running servers, on one site and on two",
    "posix": "POSIX operations in cloud_storage, beside ext4",
    "storage": "work in cloud_storage, beside rclone without a cache and s3fs",
}


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
    parser.add_argument("--rounds", type=int, help="repetitions")
    parser.add_argument("--markdown", metavar="FILE", help="write the table for a document")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    benchmark = importlib.import_module(f"bench.{arguments.name}")
    report = benchmark.run(rounds=arguments.rounds or benchmark.ROUNDS)
    report.print()
    if arguments.markdown:
        Path(arguments.markdown).write_text(report.as_markdown() + "\n")
    if arguments.json == "-":
        print(report.as_json())
    elif arguments.json:
        Path(arguments.json).write_text(report.as_json() + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
