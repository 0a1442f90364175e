"""Tasks that wait for each other, done at the same time where they do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

__all__ = ["Task", "run_in_order"]


@dataclass(frozen=True)
class Task:
    """Something to do once other tasks are done."""

    name: str
    action: Callable[[Callable[[], bool]], None]
    """Called with a function that says whether to give up, since another task failed."""
    after: tuple[str, ...] = ()
    """Names of the tasks to be done before; names that are not among the tasks are ignored."""


def run_in_order(tasks: Sequence[Task], *, workers: int = 4) -> None:
    """Do all tasks, each as soon as those it waits for are done.

    When one fails no other is begun, those under way are told to give up, and the first
    failure is raised.

    Raises
    ------
    ValueError
        If tasks wait for each other in a circle.
    """
    names = {task.name for task in tasks}
    waiting = list(tasks)
    done: set[str] = set()
    stopped = threading.Event()
    failure: BaseException | None = None
    under_way: dict[Future[None], str] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while waiting or under_way:
                if failure is None:
                    free = [t for t in waiting if set(t.after) & names <= done]
                    if not free and not under_way:
                        circle = ", ".join(task.name for task in waiting)
                        raise ValueError(f"these wait for each other: {circle}")
                    for task in free:
                        waiting.remove(task)
                        under_way[pool.submit(task.action, stopped.is_set)] = task.name
                elif not under_way:
                    break
                finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in finished:
                    name = under_way.pop(future)
                    if error := future.exception():
                        failure = failure or error
                        stopped.set()
                    else:
                        done.add(name)
        finally:
            stopped.set()
    if failure is not None:
        raise failure
