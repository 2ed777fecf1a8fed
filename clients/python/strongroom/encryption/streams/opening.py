"""A content from a message that comes piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from strongroom.encryption.message.body import NONCE_PREFIX_BYTES, TAG_BYTES, ChunkCipher, MessageKeys
from strongroom.encryption.message.refusals import altered
from strongroom.encryption.streams.reading import Piece

_BATCH_BYTES = 1 << 18


class Opener:
    """Takes pieces of a message behind its header tag, and gives pieces of its content.

    What it gives was verified, and is its own memory, which is used again: take or copy it before the next. That
    nothing is missing is known when `finish` has ended; `spent` is told the bytes of the content then. Not for several
    threads.
    """

    def __init__(self, keys: MessageKeys, chunk_size: int, spent: Callable[[int], None] | None = None) -> None:
        self._keys = keys
        self._cipher: ChunkCipher | None = None
        self._spent = spent
        self._prefix = b""
        self._size = chunk_size
        self._sealed_size = chunk_size + TAG_BYTES
        self._number = 0
        # Only what follows a chunk tells that it is not the last: one is kept back.
        self._kept = memoryview(bytearray(self._sealed_size))
        self._filled = 0
        self._content = memoryview(bytearray(max(1, _BATCH_BYTES // chunk_size) * chunk_size))

    def update(self, piece: Piece) -> Iterator[memoryview]:
        """What of the content is ready with this piece. Raises MESSAGE_ALTERED or MESSAGE_TOO_LARGE."""
        data = self._behind_prefix(memoryview(piece).cast("B"))
        while len(data):
            if self._filled == 0 and len(data) > self._sealed_size:
                data = yield from self._open_through(data)
                continue
            room = self._sealed_size - self._filled
            if room == 0:
                yield self._open(last=False)
                self._filled = 0
                continue
            taken = data[:room]
            self._kept[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            data = data[room:]

    def finish(self) -> Iterator[memoryview]:
        """The end of the content. Raises MESSAGE_ALTERED where the message was cut off."""
        length = self._filled - TAG_BYTES
        # One content has one encoding: an empty chunk is for an empty message alone.
        if self._cipher is None or length < 0 or (length == 0 and self._number > 0):
            raise altered()
        content = self._open(last=True)
        if self._spent is not None:
            self._spent((self._number - 1) * self._size + length)
        yield content

    def _behind_prefix(self, data: memoryview) -> memoryview:
        if self._cipher is not None:
            return data
        missing = NONCE_PREFIX_BYTES - len(self._prefix)
        self._prefix += data[:missing]
        if len(self._prefix) == NONCE_PREFIX_BYTES:
            self._cipher = self._keys.cipher(self._prefix)
        return data[missing:]

    def _open_through(self, data: memoryview) -> Generator[memoryview, None, memoryview]:
        """Whole chunks without a copy, as far as more follows; answers what is left."""
        size, sealed_size = self._size, self._sealed_size
        while len(data) > sealed_size:
            count = min((len(data) - 1) // sealed_size, len(self._content) // size)
            self._known_cipher.open_run(self._number, count, size, data, self._content)
            self._number += count
            data = data[count * sealed_size :]
            yield self._content[: count * size]
        return data

    def _open(self, *, last: bool) -> memoryview:
        content = self._content[: self._filled - TAG_BYTES]
        self._known_cipher.open(self._number, last, self._kept[: self._filled], content)
        self._number += 1
        return content

    @property
    def _known_cipher(self) -> ChunkCipher:
        # Chunks come behind the nonce prefix.
        assert self._cipher is not None  # noqa: S101
        return self._cipher
