"""How many threads each step may start: one that was taken over would else leave its user, or its pod, none to start.

The kernel counts them by user alone, whom the steps share with the service and on a machine with others. So each start
waits until the process that forks steps lets it be (seccomp_unotify(2)), which is where they are counted.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

MAX_THREADS = 64
"""So many threads a step may start in all; libraries need about twenty."""
# linux/seccomp.h: struct seccomp_notif and seccomp_notif_resp, and what is asked with them.
_NOTIFICATION_BYTES = 80
_ANSWER = struct.Struct("=QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_GO_ON = 1


@dataclass(slots=True)
class _Starts:
    """Those of one step."""

    pid: int
    count: int = 0


class StepThreads:
    """Counts the threads that steps start, for whoever polls."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._told: dict[int, tuple[socket.socket, int]] = {}
        self._starts: dict[int, _Starts] = {}

    def expect(self, teller: socket.socket, pid: int) -> None:
        """Waits for a step to send, by its end of this socket, the descriptor that its starts are heard by."""
        self._told[teller.fileno()] = teller, pid
        self._poll.register(teller, select.POLLIN)

    def hears(self, fd: int) -> bool:
        """Whether a descriptor is of these."""
        return fd in self._told or fd in self._starts

    def look(self, fd: int) -> int | None:
        """Does what a descriptor that is ready asks for; the process of a step that starts too many threads, whose next
        one is not let be."""
        if fd in self._told:
            self._listen(fd)
            return None
        # As of now: to receive what is not there would wait for it.
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        events = dict(poll.poll(0)).get(fd, 0)
        if events & select.POLLIN:
            return self._let_be(fd, self._starts[fd])
        if events:
            self.forget(self._starts[fd].pid)
        return None

    def forget(self, pid: int) -> None:
        """That a step has ended."""
        for fd in [fd for fd, starts in self._starts.items() if starts.pid == pid]:
            self._poll.unregister(fd)
            os.close(fd)
            del self._starts[fd]
        for fd in [fd for fd, (_, teller_pid) in self._told.items() if teller_pid == pid]:
            self._take(fd)[0].close()

    def _let_be(self, fd: int, starts: _Starts) -> int | None:
        heard = bytearray(_NOTIFICATION_BYTES)
        starts.count += 1
        if starts.count > MAX_THREADS:
            return starts.pid
        # It may have been ended meanwhile.
        with suppress(OSError):
            fcntl.ioctl(fd, _RECEIVE, heard, True)
            (number,) = struct.unpack_from("=Q", heard)
            fcntl.ioctl(fd, _SEND, _ANSWER.pack(number, 0, 0, _GO_ON))
        return None

    def _listen(self, fd: int) -> None:
        teller, pid = self._take(fd)
        with teller, suppress(OSError):
            _, listeners, _, _ = socket.recv_fds(teller, 1, 1)
            for listener in listeners:
                self._starts[listener] = _Starts(pid)
                self._poll.register(listener, select.POLLIN)

    def _take(self, fd: int) -> tuple[socket.socket, int]:
        self._poll.unregister(fd)
        return self._told.pop(fd)


def tell(teller: socket.socket, listener: int) -> None:
    """In a step: sends the descriptor, and keeps none."""
    socket.send_fds(teller, [b"x"], [listener])
    os.close(listener)
