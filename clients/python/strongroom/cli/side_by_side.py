"""Several things at a time: what waits is given up, and what runs is told, when whoever asked for them stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    items: Sequence[Item],
    work: Callable[[Item, threading.Event], Result],
    ended: Callable[[Item, Future[Result]], None],
    at_once: int,
) -> None:
    """Does the work for every item, `at_once` of them at a time, and tells of each that has ended, in this thread.

    Whatever is raised here meanwhile, as Ctrl-C is, begins no further item. The event is set then: what is in work may
    end sooner, and is waited for.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(at_once, thread_name_prefix="work") as pool:
        futures = {pool.submit(copy_context().run, work, item, stopped): item for item in items}
        try:
            for future in as_completed(futures):
                ended(futures[future], future)
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
