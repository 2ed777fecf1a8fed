"""Fetches that are under way: whoever wants what is being fetched waits for that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from strongroom.errors import StrongroomError

Key = TypeVar("Key")
Value = TypeVar("Value")


class Fetches(Generic[Key, Value]):
    """One fetch for each key at a time, shared between threads."""

    def __init__(self, thread_name: str) -> None:
        """`thread_name` is of the threads that fetch beside their callers."""
        self._thread_name = thread_name
        self._under_way: dict[Key, Future[Value]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._under_way)

    def wait(self, key: Key, fetch: Callable[[Key], Value]) -> tuple[Value, bool]:
        """What is fetched, and whether this caller did it: `fetch` is not called while another's is under way. Raises
        what that raises, anew for each who waits."""
        future, is_mine = self._of(key)
        if is_mine:
            self._run(key, future, fetch)
        failure = future.exception()
        if isinstance(failure, StrongroomError):
            raise failure.renewed()
        return future.result(), is_mine

    def beside(self, key: Key, fetch: Callable[[Key], Value]) -> bool:
        """Fetches on a thread of its own; False where that is under way already, or no thread can be had."""
        future, is_mine = self._of(key)
        if not is_mine:
            return False
        thread = threading.Thread(target=self._run, args=(key, future, fetch), name=self._thread_name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The process has as many as it may, or ends: whoever waits meanwhile must not wait for ever.
            self._done(key)
            future.set_exception(StrongroomError("UNREACHABLE", f"{error}", code="UNAVAILABLE"))
            return False
        return True

    def _of(self, key: Key) -> tuple[Future[Value], bool]:
        """The fetch that is under way, or a new one that is the caller's to make."""
        with self._lock:
            present = self._under_way.get(key)
            if present is not None:
                return present, False
            future: Future[Value] = Future()
            self._under_way[key] = future
            return future, True

    def _run(self, key: Key, future: Future[Value], fetch: Callable[[Key], Value]) -> None:
        try:
            value = fetch(key)
        except BaseException as error:
            self._done(key)
            future.set_exception(error)
            if not isinstance(error, StrongroomError):
                raise
        else:
            self._done(key)
            future.set_result(value)

    def _done(self, key: Key) -> None:
        with self._lock:
            self._under_way.pop(key, None)
