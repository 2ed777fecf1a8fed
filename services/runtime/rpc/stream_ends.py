"""When streams end by themselves: with what their callers proved who they are by, or because they take nothing."""

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
    """Ends every stream of a process with TOKEN_EXPIRED once its caller's session or certificate has ended, and cuts
    those off whose callers take nothing, whatever sends to them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Held for moments only: gRPC's own thread takes it when a call ends.
        self._lock = threading.Lock()
        self._streams: dict[Stream, tuple[Call, int | None]] = {}
        # Begun with the first stream: most processes have none.
        self._looking = Background(
            "ends of streams", self._look, "streams could not be ended", every=_LOOK_SECONDS, first=UNTIL_WOKEN
        )

    def follow(self, call: Call, stream: Stream) -> None:
        """Looks after a stream of a call, whose credential it ends with."""
        ends_us = identity.ends_us(call)
        if ends_us is not None and ends_us <= self._clock.now_us():
            stream.end(identity.ended(call))
            return
        with self._lock:
            self._streams[stream] = call, ends_us
            if not self._looking.has_begun:
                self._looking.start()
        if not stream.on_end(lambda: self._forget(stream)):
            self._forget(stream)
        self._looking.wake()

    def stop(self) -> None:
        """Ends no more streams."""
        self._looking.stop()

    def _look(self) -> float:
        now = self._clock.now_us()
        with self._lock:
            followed = list(self._streams.items())
        for stream, (call, ends_us) in followed:
            if ends_us is not None and ends_us <= now:
                stream.end(identity.ended(call))
            # Afterwards, too: its end stands behind what was sent before.
            stream.cut_untaken()
        if not followed:
            return UNTIL_WOKEN
        left = [ends_us - now for _, (_, ends_us) in followed if ends_us is not None and ends_us > now]
        return min(_LOOK_SECONDS, max(_LEAST_SECONDS, seconds(min(left)))) if left else _LOOK_SECONDS

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._streams.pop(stream, None)
