"""A message from a content that comes piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator

from strongroom.encryption.message.body import NONCE_PREFIX_BYTES, TAG_BYTES, MessageKeys
from strongroom.encryption.streams.reading import Piece

_BATCH_BYTES = 1 << 18
_NOTHING = memoryview(b"")


class Sealer:
    """Takes pieces of a content and gives pieces of its message.

    What it gives is its own memory, which is used again: take or copy it before the next. `spent` is told the bytes of
    the content at its end. Not for several threads.
    """

    def __init__(
        self, keys: MessageKeys, beginning: bytes, chunk_size: int, spent: Callable[[int], None] | None = None
    ) -> None:
        prefix = os.urandom(NONCE_PREFIX_BYTES)
        self._cipher = keys.cipher(prefix)
        self._spent = spent
        self._size = chunk_size
        self._number = 0
        # The last chunk is marked so: as long as it may be the last, one is kept back.
        self._kept = memoryview(bytearray(chunk_size))
        self._filled = 0
        self._kept_view = _NOTHING
        self._begun = memoryview(beginning + prefix)
        # Few chunks at a time: what is written stays in the processor's cache until it is taken.
        self._sealed = memoryview(bytearray(max(1, _BATCH_BYTES // chunk_size) * (chunk_size + TAG_BYTES)))

    def update(self, piece: Piece) -> Iterator[memoryview]:
        """What of the message is ready with this piece. Raises MESSAGE_TOO_LARGE."""
        yield from self._beginning()
        data = memoryview(piece).cast("B")
        if data and self._kept_view:
            kept, self._kept_view = self._kept_view, _NOTHING
            yield self._seal(kept, last=False)
        while len(data):
            if self._filled == 0 and len(data) > self._size:
                data = yield from self._seal_through(data)
                continue
            if self._filled == 0 and len(data) == self._size and isinstance(piece, bytes):
                # Nobody changes it: it need not be copied.
                self._kept_view = data
                return
            room = self._size - self._filled
            if room == 0:
                yield self._seal(self._kept, last=False)
                self._filled = 0
                continue
            taken = data[:room]
            self._kept[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            data = data[room:]

    def finish(self) -> Iterator[memoryview]:
        """The end of the message."""
        yield from self._beginning()
        content = self._kept_view or self._kept[: self._filled]
        if self._spent is not None:
            self._spent(self._number * self._size + len(content))
        yield self._seal(content, last=True)

    def _beginning(self) -> Iterator[memoryview]:
        if self._begun:
            begun, self._begun = self._begun, _NOTHING
            yield begun

    def _seal_through(self, data: memoryview) -> Generator[memoryview, None, memoryview]:
        """Whole chunks without a copy, as far as more follows; answers what is left."""
        size, sealed_size = self._size, self._size + TAG_BYTES
        while len(data) > size:
            count = min((len(data) - 1) // size, len(self._sealed) // sealed_size)
            self._cipher.seal_run(self._number, count, size, data, self._sealed)
            self._number += count
            data = data[count * size :]
            yield self._sealed[: count * sealed_size]
        return data

    def _seal(self, content: memoryview, *, last: bool) -> memoryview:
        sealed = self._sealed[: len(content) + TAG_BYTES]
        self._cipher.seal(self._number, last, content, sealed)
        self._number += 1
        return sealed
