"""Messages as files: content is written into one, or read out of one, anywhere in it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from strongroom.encryption.message.body import NONCE_PREFIX_BYTES, TAG_BYTES, Layout, MessageKeys, Take
from strongroom.encryption.message.refusals import altered
from strongroom.encryption.streams.opening import Opener
from strongroom.encryption.streams.reading import fill, whole_reads
from strongroom.encryption.streams.sealing import Sealer
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_BATCH_BYTES = 1 << 18


class EncryptingFile(io.BufferedIOBase):
    """A binary file that is written to once, from its beginning; the message goes into another file.

    Closing it writes the message's end. One that is dropped, or left by an exception, stays without end, so that no
    reader takes it for whole.
    """

    def __init__(self, file: BinaryIO, sealer: Callable[[Take], Sealer], *, close_file: bool = False) -> None:
        self._file = file
        self._close_file = close_file
        self._sealer = sealer(_writing(file))
        self._written = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """How many bytes of content were written."""
        return self._written

    def write(self, data: ReadableBuffer, /) -> int:
        """Encrypts all of `data`; the last chunk waits for what follows. Raises MESSAGE_TOO_LARGE."""
        self._check_open()
        piece = data if isinstance(data, bytes) else memoryview(data).cast("B")
        self._sealer.update(piece)
        self._written += len(piece)
        return len(piece)

    def close(self) -> None:
        """Writes the end of the message."""
        if self.closed:
            return
        try:
            self._sealer.finish()
            self._file.flush()
        finally:
            self.abort()

    def abort(self) -> None:
        """Leaves the message without an end."""
        if not self.closed:
            super().close()
            if self._close_file:
                self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __enter__(self) -> Self:
        return self

    def __del__(self) -> None:
        # What could not be made has nothing to close.
        if hasattr(self, "_written"):
            self.abort()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("write to a message that was closed")


class DecryptingStream(io.BufferedIOBase):
    """The content of a message in a file that cannot seek.

    Every byte that is read was verified; that nothing was cut off is known when a read has answered the end.
    """

    def __init__(self, file: BinaryIO, opener: Opener, *, close_file: bool = False) -> None:
        self._file = file
        self._close_file = close_file
        self._opener = opener
        self._sealed = memoryview(bytearray(_BATCH_BYTES))
        self._pieces = self._decrypted()
        self._ready = memoryview(b"")
        self._refusal: StrongroomError | None = None
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """How many bytes of content were read."""
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads up to as much as the buffer holds; 0 at the end. Raises MESSAGE_ALTERED or MESSAGE_TOO_LARGE."""
        view = memoryview(buffer).cast("B")
        while view and not self._ready:
            piece = self._next_piece()
            if piece is None:
                return 0
            self._ready = piece
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        self._at += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes, or all; fewer at the end."""
        parts: list[bytes] = []
        left = -1 if size is None else size
        while left != 0 and (part := self.read1(left)):
            parts.append(part)
            left -= len(part) if left > 0 else 0
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, as they come."""
        buffer = bytearray(_BATCH_BYTES if size < 0 else min(size, _BATCH_BYTES))
        return bytes(buffer[: self.readinto(buffer)])

    def close(self) -> None:
        """Ends reading."""
        if not self.closed:
            super().close()
            if self._close_file:
                self._file.close()

    def _next_piece(self) -> memoryview | None:
        # Whoever reads on after a refusal must not take it for the end.
        if self._refusal is not None:
            raise self._refusal.renewed()
        try:
            return next(self._pieces, None)
        except StrongroomError as refusal:
            self._refusal = refusal
            raise

    def _decrypted(self) -> Iterator[memoryview]:
        while count := fill(self._file, self._sealed):
            yield from self._opener.update(self._sealed[:count])
        yield from self._opener.finish()


class DecryptingFile(io.BufferedIOBase):
    """The content of a message in a file that can seek: read anywhere, in constant memory.

    That the message is whole is verified when it is opened, by its last chunk; each chunk when it is read. Several
    threads may read it through `read_at`. `spent` is told bytes of content that were decrypted.
    """

    def __init__(
        self,
        file: BinaryIO,
        keys: MessageKeys,
        chunk_size: int,
        spent: Callable[[int], None] | None = None,
        *,
        close_file: bool = False,
    ) -> None:
        start = file.tell()
        length = file.seek(0, io.SEEK_END) - start
        if length < NONCE_PREFIX_BYTES + TAG_BYTES:
            raise altered()
        self._layout = Layout(length - NONCE_PREFIX_BYTES, chunk_size)
        file.seek(start)
        self._spent = spent
        self._cipher = keys.cipher(whole_reads(file)(NONCE_PREFIX_BYTES))
        self._file = file
        self._close_file = close_file
        self._start = start + NONCE_PREFIX_BYTES
        self._chunk_size = chunk_size
        self._lock = threading.Lock()
        self._at = 0
        # The chunk that was read last, for reads that go on in it.
        self._chunk = bytearray(chunk_size)
        self._chunk_number = -1
        self._sealed = memoryview(bytearray(chunk_size + TAG_BYTES))
        self._load(self._layout.chunks - 1)

    @property
    def size(self) -> int:
        """Bytes of the content, verified."""
        return self._layout.content_bytes

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves there; beyond the end there is nothing to read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise ValueError("there is no such place in the content")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads as much as the buffer holds, less at the end. Raises MESSAGE_ALTERED."""
        count = self.read_at(self._at, buffer)
        self._at += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes, or all; fewer at the end. Raises MESSAGE_ALTERED."""
        left = max(0, self.size - self._at)
        buffer = bytearray(left if size is None or size < 0 else min(size, left))
        self.readinto(buffer)
        return bytes(buffer)

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, and no more than a mebibyte at once."""
        return self.read(_BATCH_BYTES if size < 0 else min(size, _BATCH_BYTES))

    def close(self) -> None:
        """Ends reading."""
        if not self.closed:
            super().close()
            if self._close_file:
                self._file.close()

    def read_at(self, offset: int, buffer: WriteableBuffer) -> int:
        """Reads from `offset` on, wherever others read; answers how many bytes. Raises MESSAGE_ALTERED."""
        if self.closed:
            raise ValueError("read of a file that was closed")
        view = memoryview(buffer).cast("B")[: max(0, self.size - offset)]
        with self._lock:
            done = 0
            while done < len(view):
                done += self._read_some(offset + done, view[done:])
        return len(view)

    def _read_some(self, offset: int, view: memoryview) -> int:
        number, within = divmod(offset, self._chunk_size)
        whole = min(len(view) // self._chunk_size, self._layout.chunks - 1 - number)
        if within == 0 and whole > 0 and number != self._chunk_number:
            return self._read_run(number, min(whole, max(1, _BATCH_BYTES // self._chunk_size)), view)
        if number != self._chunk_number:
            self._load(number)
        piece = memoryview(self._chunk)[within : self._layout.sealed_range(number)[1] - TAG_BYTES][: len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def _read_run(self, number: int, count: int, view: memoryview) -> int:
        """Whole chunks, decrypted to where they are wanted."""
        sealed_size = self._chunk_size + TAG_BYTES
        if len(self._sealed) < count * sealed_size:
            self._sealed = memoryview(bytearray(count * sealed_size))
        sealed = self._fetched(number * sealed_size, count * sealed_size)
        self._cipher.open_run(number, count, self._chunk_size, sealed, view)
        if self._spent is not None:
            self._spent(count * self._chunk_size)
        return count * self._chunk_size

    def _load(self, number: int) -> None:
        start, length = self._layout.sealed_range(number)
        self._chunk_number = -1
        content = memoryview(self._chunk)[: length - TAG_BYTES]
        self._cipher.open(number, number == self._layout.chunks - 1, self._fetched(start, length), content)
        self._chunk_number = number
        if self._spent is not None:
            self._spent(len(content))

    def _fetched(self, start: int, length: int) -> memoryview:
        self._file.seek(self._start + start)
        sealed = self._sealed[:length]
        if fill(self._file, sealed) < length:
            raise altered()
        return sealed


def _writing(file: BinaryIO) -> Take:
    """What writes all of a part into a file, however little that takes at once."""
    write = file.write

    def take(part: memoryview) -> None:
        while (written := write(part) or 0) < len(part):
            part = part[written:]

    return take
