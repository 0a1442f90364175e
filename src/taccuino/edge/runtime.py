"""HAProxy's admin socket (its runtime API), for asyncio.

One connection a batch: the commands go in one line, separated by semicolons, and HAProxy
answers each with its text and an empty line, then closes ("Unix Socket commands" in its
management guide). A command that HAProxy refuses is an error here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from taccuino.errors import TaccuinoError

__all__ = ["EdgeError", "EdgeUnreachableError", "RuntimeAPI"]

_WORD = re.compile(r"^[A-Za-z0-9._~%:/#@+-]+$")
_LINE_LIMIT = 12_000
"""Characters in one line of commands; HAProxy's buffer holds 16,384."""
_ABSENT = ("entry not found.", "Key not found.")


class EdgeError(TaccuinoError):
    """The edge could not be configured, or refused what it was asked."""


class EdgeUnreachableError(EdgeError):
    """Nothing listens at the admin socket: HAProxy is not running, or is just starting."""


class RuntimeAPI:
    """A client of the admin socket; it holds no connection between calls.

    Parameters
    ----------
    socket
        Path of the admin socket.
    timeout
        Seconds that one batch may take.
    """

    def __init__(self, socket: Path, timeout: float = 5.0) -> None:
        self.socket = socket
        self.timeout = timeout

    async def show_map(self, name: str) -> dict[str, str]:
        """The entries of a map; ``name`` is its file's path in HAProxy's configuration."""
        (answer,) = await self.execute([f"show map {_word(name)}"])
        entries = {}
        for line in answer.splitlines():
            parts = line.split(" ", 2)
            if len(parts) != 3 or not parts[0].startswith("0x"):
                raise EdgeError(f"HAProxy refused to show the map {name}: {line[:200]}")
            entries[parts[1]] = parts[2]
        return entries

    async def put(self, name: str, entries: Mapping[str, str]) -> None:
        """Set entries, adding those that are not there.

        ``add map`` alone would keep an old entry beside the new one, and serve the old.
        """
        changes = {_word(key): _word(value) for key, value in entries.items()}
        answers = await self.execute(
            [f"set map {_word(name)} {key} {value}" for key, value in changes.items()]
        )
        absent = [
            f"add map {name} {key} {value}"
            for (key, value), answer in zip(changes.items(), answers, strict=True)
            if not self._present(answer, f"set {key}")
        ]
        for answer in await self.execute(absent):
            self._present(answer, "add to the map")

    async def remove(self, name: str, keys: Iterable[str]) -> None:
        """Remove entries; one that is not there is no error."""
        answers = await self.execute([f"del map {_word(name)} {_word(key)}" for key in keys])
        for answer in answers:
            self._present(answer, "delete from the map")

    async def worker_pid(self) -> int:
        """Process id of the HAProxy worker that answers; a reload changes it."""
        text = await self._exchange("show info")
        match = re.search(r"^Pid: (\d+)$", text, re.MULTILINE)
        if match is None:
            raise EdgeError(f"HAProxy's admin socket {self.socket} tells no process id")
        return int(match[1])

    async def execute(self, commands: Sequence[str]) -> list[str]:
        """Run commands in order; the text that each answered, without its last newline.

        Only for commands whose answer holds no empty line. More commands than fit into one
        line are sent in several.

        Raises
        ------
        EdgeUnreachableError
            If nothing listens at the socket.
        EdgeError
            If HAProxy does not answer in time, or not to each command.
        """
        answers: list[str] = []
        for line in _lines(commands):
            answers += _answers(await self._exchange(line))
        if len(answers) != len(commands):
            raise EdgeError(
                f"HAProxy answered {len(answers)} of {len(commands)} commands at "
                f"{self.socket}: {' '.join(answers)[:200]!r}"
            )
        return answers

    async def _exchange(self, line: str) -> str:
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    writer.write(line.encode("ascii") + b"\n")
                    answer = await reader.read()
                finally:
                    writer.close()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise EdgeUnreachableError(
                f"HAProxy's admin socket {self.socket}: {error.strerror or error}; "
                "is the edge running? See 'taccuino status'"
            ) from error
        except TimeoutError:
            raise EdgeError(
                f"HAProxy's admin socket {self.socket}: no answer in {self.timeout:g} s"
            ) from None
        except OSError as error:
            raise EdgeError(f"HAProxy's admin socket {self.socket}: {error}") from error
        return answer.decode("utf-8", errors="replace")

    @staticmethod
    def _present(answer: str, what: str) -> bool:
        """Whether the entry was there; an answer of any other kind is a refusal."""
        if not answer:
            return True
        if answer in _ABSENT:
            return False
        raise EdgeError(f"HAProxy refused to {what}: {answer[:200]}")


def _word(text: str) -> str:
    """The text, if it is one plain word to HAProxy: it can't end or add a command."""
    if not _WORD.match(text):
        raise EdgeError(f"{text[:80]!r} can't be part of a command to HAProxy")
    return text


def _lines(commands: Sequence[str]) -> list[str]:
    """The commands joined into as few lines as HAProxy's buffer allows."""
    lines: list[str] = []
    length = 0
    for command in commands:
        if not lines or length + len(command) > _LINE_LIMIT:
            lines.append(command)
            length = len(command)
        else:
            lines[-1] += ";" + command
            length += len(command) + 1
    return lines


def _answers(text: str) -> list[str]:
    """Each answer of a batch: the lines before an empty one."""
    answers: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        if line:
            lines.append(line)
        else:
            answers.append("\n".join(lines))
            lines = []
    if lines:
        answers.append("\n".join(lines))
    return answers
