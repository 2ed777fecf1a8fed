"""Answers that go on: a stream of messages to one caller, kept by whoever sends, without a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from services.runtime.errors import StrongroomError
from services.runtime.mesh.channels import NO_RETRY

STATUS_DETAILS = "grpc-status-details-bin"

UNTAKEN_SECONDS = 15.0
"""For so long a message may wait to be taken."""
_LAST_SECONDS = 1.0

Trailers = tuple[tuple[str, str | bytes], ...]
"""What a caller is told beside an answer or an error: names and values of trailing metadata."""


def error_trailers(error: StrongroomError, *, final: bool = True) -> Trailers:
    """What an error is told in. One that is `final` came of a method that may have begun: gRPC does not repeat the call
    by itself."""
    details = (STATUS_DETAILS, error.to_status().SerializeToString())
    return (details, NO_RETRY) if final else (details,)


"""What a service answers is final; channels repeat only what no service answered."""


class Stream:
    """The caller's end of one call. `send` waits while the caller takes nothing, so it is for threads that may: for as
    long as it takes whoever looks after streams (`StreamEnds`) to cut the call off. Nothing else waits."""

    def __init__(self, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        self._context = context
        self._send = send
        self._lock = threading.Lock()
        self._over: StrongroomError | None = None
        self._over_since = 0.0
        self._sending_since: float | None = None

    @property
    def active(self) -> bool:
        """Whether the caller still listens, and may."""
        return self._over is None and self._context.is_active()

    def on_end(self, tell: Callable[[], None]) -> bool:
        """Has `tell` called when the call ends, however that may be; False when it has ended."""
        return self._context.add_callback(tell)

    def send(self, message: Any) -> None:
        """Sends one message."""
        with self._lock:
            if self.active:
                self._sending_since = time.monotonic()
                try:
                    self._send(message)
                finally:
                    self._sending_since = None
        # Whoever ended it meanwhile could not wait for that message.
        self._end_if_over()

    def end(self, error: StrongroomError) -> None:
        """Ends the call with an error, without waiting: behind the message that is on its way, where one is. No other
        follows it."""
        if self._over is None:
            self._over_since = time.monotonic()
            self._over = error
        self._end_if_over()

    @property
    def waits_seconds(self) -> float:
        """For how long the message that is on its way has waited to be taken; 0 without one."""
        since = self._sending_since
        return time.monotonic() - since if since is not None else 0.0

    def cut(self) -> None:
        """Ends the call at once, without a word. Whoever sends goes on."""
        self._context.cancel()

    def cut_untaken(self) -> None:
        """Cuts the call off where the message that is on its way has not been taken in 15 seconds, or the call's end in
        one."""
        is_late = self._over is not None and time.monotonic() - self._over_since > _LAST_SECONDS
        if self.waits_seconds > UNTAKEN_SECONDS or (is_late and self._context.is_active()):
            self.cut()

    def _end_if_over(self) -> None:
        if self._over is not None and self._lock.acquire(blocking=False):
            try:
                self._end(self._over)
            finally:
                self._lock.release()

    def _end(self, error: StrongroomError) -> None:
        if self._context.is_active():
            self._context.set_trailing_metadata(error_trailers(error))
            self._context.set_code(error.code)
            self._context.set_details(error.message)
            self._send(None)
