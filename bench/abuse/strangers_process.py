"""Somebody who knows nothing but an address: `python -m bench.abuse.strangers_process ATTACK ADDRESS`.

`silent`: connections full of calls whose message never comes. `unfinished`: messages of 8 MiB, all but their last byte.
A call that the server ends is begun anew. It says READY once everything was begun, and ends with its input.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from bench.abuse.raw_http2 import RawConnection, message

_MESSAGE_BYTES = 8 << 20
_PAUSE_SECONDS = 0.05
_LONGEST_BEGINNING_SECONDS = 30.0


class Attacker:
    """One connection full of calls."""

    def __init__(self, connection: RawConnection, path: str, streams: int, *, fills: bool) -> None:
        self._connection = connection
        self._path = path
        self._rest = 0 if not fills else _MESSAGE_BYTES - 1
        self._calls = {self._begin(): self._rest for _ in range(streams)}

    def go_on(self) -> bool:
        """Sends what the server takes and begins anew what it has ended; False once it takes nothing more."""
        sent = 0
        for stream in self._calls.keys() & self._connection.ended:
            del self._calls[stream]
            self._calls[self._begin()] = self._rest
        for stream, rest in self._calls.items():
            if rest:
                some = self._connection.send_some(stream, rest)
                self._calls[stream] -= some
                sent += some
        return sent > 0

    def _begin(self) -> int:
        data = message(b"", length=_MESSAGE_BYTES) if self._rest else None
        return self._connection.call(self._path, data=data)


@contextmanager
def _connections(arguments: argparse.Namespace) -> Iterator[list[RawConnection]]:
    pair = (arguments.certificate, arguments.key) if arguments.certificate else None
    made = [RawConnection(arguments.address, arguments.trust, pair) for _ in range(arguments.connections)]
    try:
        yield made
    finally:
        for connection in made:
            connection.close()


def main() -> int:
    """Attacks until its input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.abuse.strangers_process")
    parser.add_argument("attack", choices=("silent", "unfinished"))
    parser.add_argument("address")
    parser.add_argument("--path", required=True)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--streams", type=int, default=100, help="of each connection")
    for name in ("trust", "certificate", "key"):
        parser.add_argument(f"--{name}", type=Path)
    arguments = parser.parse_args()
    over = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=await_end, daemon=True).start()
    fills = arguments.attack == "unfinished"
    with _connections(arguments) as connections:
        attackers = [Attacker(one, arguments.path, arguments.streams, fills=fills) for one in connections]
        deadline = time.monotonic() + _LONGEST_BEGINNING_SECONDS
        for turn in count():
            busy = [attacker.go_on() for attacker in attackers]
            if turn == 0 and not fills:
                print("READY", flush=True)
            elif fills and (not any(busy) or time.monotonic() > deadline):
                print("READY", flush=True)
                fills = False
            if not any(busy) and over.wait(_PAUSE_SECONDS):
                return 0
            if over.is_set():
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
