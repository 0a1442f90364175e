"""What is laid into the user's workarea and into the server's runtime directory."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["EXAMPLES", "lay_out", "make_runtime_directory", "write_aws_config"]

EXAMPLES = Path(__file__).parent / "examples"

_AWS_CONFIG = """\
# Written at each start. Keys are not here: every AWS SDK asks the agent for fresh ones.
[default]
region = {region}
# RadosGW (before its release 18) knows neither trailing checksums nor, without a wildcard
# domain, buckets as host names.
request_checksum_calculation = when_required
response_checksum_validation = when_required
s3 =
    addressing_style = path
"""


def lay_out(workarea: Path, examples: Path = EXAMPLES) -> list[str]:
    """Make ``local/`` and copy the examples that are not there yet.

    What the user changed, or made a directory of, is theirs: an existing path is never written.
    A user who deleted an example gets it back at the next start.

    Returns
    -------
    list of str
        A sentence for each thing that failed, such as on a full disk. Never raises ``OSError``:
        a server without examples is better than none.
    """
    problems: list[str] = []
    try:
        (workarea / "local").mkdir(exist_ok=True)
        target = workarea / "examples"
        target.mkdir(exist_ok=True)
        for source in sorted(examples.iterdir()):
            if source.is_file() and not source.name.startswith((".", "__")):
                _copy_new(source, target / source.name)
    except OSError as error:
        problems.append(
            f"The examples could not be laid into {workarea} ({error.strerror or error}). "
            "Remove files that you no longer need, then restart the server."
        )
    return problems


def _copy_new(source: Path, target: Path) -> None:
    """Copy a file in one step, unless something has the name already."""
    if os.path.lexists(target):
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        partial.write_bytes(source.read_bytes())
        # A link fails where a rename would replace what appeared meanwhile.
        os.link(partial, target)
    except FileExistsError:
        pass  # another server of the same user was faster
    finally:
        partial.unlink(missing_ok=True)


def make_runtime_directory(parent: Path = Path("/tmp")) -> Path:  # noqa: S108 - made 0700, below
    """A new directory of this server's own, outside the workarea, mode 0700.

    Raises
    ------
    OSError
        If it can't be made; nothing works without.
    """
    for attempt in range(100):
        path = parent / f"taccuino-{os.getpid()}-{attempt}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"no free name for a runtime directory in {parent}")


def write_aws_config(directory: Path, region: str) -> Path:
    """Write the AWS configuration file and return its path."""
    path = directory / "aws-config"
    path.write_text(_AWS_CONFIG.format(region=region), encoding="utf-8")
    return path
