"""A message from a content that comes piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable

from strongroom.encryption.message.body import NONCE_PREFIX_BYTES, TAG_BYTES, MessageKeys, Take
from strongroom.encryption.streams.reading import Piece

_NOTHING = memoryview(b"")
# Few chunks at a time: what is sealed stays in the processor's cache until it is taken.
_BATCH_BYTES = 1 << 17


class Sealer:
    """Takes pieces of a content and gives parts of its message to `take`.

    `beginning` is the message's header with its tag; `spent` is told the bytes of the content at its end. Not for
    several threads.
    """

    def __init__(
        self,
        keys: MessageKeys,
        beginning: bytes,
        chunk_size: int,
        take: Take,
        spent: Callable[[int], None] | None = None,
    ) -> None:
        prefix = os.urandom(NONCE_PREFIX_BYTES)
        self._cipher = keys.cipher(prefix)
        self._take = take
        self._spent = spent
        self._size = chunk_size
        self._number = 0
        # The last chunk is marked so: as long as it may be the last, one is kept back.
        self._kept = memoryview(bytearray(chunk_size))
        self._filled = 0
        self._kept_view = _NOTHING
        self._begun = memoryview(beginning + prefix)
        self._has_ended = False
        sealed_size = chunk_size + TAG_BYTES
        whole = memoryview(bytearray(max(1, _BATCH_BYTES // chunk_size) * sealed_size))
        self._places = [whole[start : start + sealed_size] for start in range(0, len(whole), sealed_size)]

    def update(self, piece: Piece) -> None:
        """Goes on with this piece. Raises MESSAGE_TOO_LARGE, and ValueError once the message has ended."""
        self._turn()
        self._sealed_on(piece)
        self._has_ended = False

    def _turn(self) -> None:
        if self._has_ended:
            raise ValueError("the message has ended")
        # Until all of it is taken: after a failure halfway nothing follows that would be read as if it were whole, and
        # no nonce comes twice.
        self._has_ended = True

    def _sealed_on(self, piece: Piece) -> None:
        self._begin()
        data = memoryview(piece).cast("B")
        if data and self._kept_view:
            kept, self._kept_view = self._kept_view, _NOTHING
            self._seal(kept, last=False)
        while len(data):
            if self._filled == 0 and len(data) > self._size:
                sealed = self._cipher.seal_run(self._number, data, self._places, self._take)
                self._number += sealed // self._size
                data = data[sealed:]
                continue
            if self._filled == 0 and len(data) == self._size and isinstance(piece, bytes):
                # Nobody changes it: it need not be copied.
                self._kept_view = data
                return
            room = self._size - self._filled
            if room == 0:
                self._seal(self._kept, last=False)
                self._filled = 0
                continue
            taken = data[:room]
            self._kept[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            data = data[room:]

    def finish(self) -> None:
        """Ends the message. Raises ValueError where it has ended, also by a failure."""
        self._turn()
        self._begin()
        content = self._kept_view or self._kept[: self._filled]
        if self._spent is not None:
            self._spent(self._number * self._size + len(content))
        self._seal(content, last=True)

    def _begin(self) -> None:
        if self._begun:
            begun, self._begun = self._begun, _NOTHING
            self._take(begun)

    def _seal(self, content: memoryview, *, last: bool) -> None:
        sealed = self._places[0][: len(content) + TAG_BYTES]
        self._cipher.seal(self._number, last, content, sealed)
        self._number += 1
        self._take(sealed)
