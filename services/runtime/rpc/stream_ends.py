"""When streams end by themselves: with what their callers proved who they are by."""

from __future__ import annotations

import threading

from services.runtime.access import identity
from services.runtime.background import UNTIL_WOKEN, Background
from services.runtime.call import Call
from services.runtime.clock import Clock, seconds
from services.runtime.rpc.streams import Stream

# The machine's clock may be set while nobody looks.
_LOOK_SECONDS = 1.0
_LEAST_SECONDS = 0.001


class StreamEnds:
    """Ends every stream of a process with TOKEN_EXPIRED once its caller's session or certificate has ended, whatever
    sends to it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Held for moments only: gRPC's own thread takes it when a call ends.
        self._lock = threading.Lock()
        self._streams: dict[Stream, tuple[Call, int]] = {}
        # Begun with the first stream: most processes have none.
        self._ending = Background(
            "ends of streams", self._end_due, "streams could not be ended", every=_LOOK_SECONDS, first=UNTIL_WOKEN
        )

    def follow(self, call: Call, stream: Stream) -> None:
        """Has a stream end with the credential of its call."""
        ends_us = identity.ends_us(call)
        if ends_us is None:
            return
        if ends_us <= self._clock.now_us():
            stream.end(identity.ended(call))
            return
        with self._lock:
            self._streams[stream] = call, ends_us
            if not self._ending.has_begun:
                self._ending.start()
        if not stream.on_end(lambda: self._forget(stream)):
            self._forget(stream)
        self._ending.wake()

    def stop(self) -> None:
        """Ends no more streams."""
        self._ending.stop()

    def _end_due(self) -> float:
        now = self._clock.now_us()
        with self._lock:
            followed = list(self._streams.items())
        for stream, (call, ends_us) in followed:
            if ends_us <= now:
                stream.end(identity.ended(call))
                self._forget(stream)
        left = [ends_us - now for _, (_, ends_us) in followed if ends_us > now]
        return min(_LOOK_SECONDS, max(_LEAST_SECONDS, seconds(min(left)))) if left else UNTIL_WOKEN

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._streams.pop(stream, None)
