"""The encryption client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import BinaryIO, ParamSpec, TypeVar

from strongroom.calls.crypto.results import Context
from strongroom.encryption.client import EncryptionClient
from strongroom.encryption.keys import Keys
from strongroom.encryption.message.header import head_end, is_head_there
from strongroom.encryption.streams.files import DecryptingFile, DecryptingStream, EncryptingFile

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

# What takes a loop less time than to hand it to a thread.
_INLINE_BYTES = 1 << 16


class AsyncEncryptionClient:
    """An encryption client whose methods block no event loop: what asks the mesh or takes long runs in a thread.

    What a data key is at hand for, and is small, is done at once: it takes a loop a few microseconds.
    """

    def __init__(self, client: EncryptionClient) -> None:
        self._client = client

    async def encrypt(self, content: bytes, context: Context = None) -> bytes:
        """The message that holds `content`."""
        if len(content) <= _INLINE_BYTES:
            message = self._client.encrypt_at_hand(content, context)
            if message is not None:
                return message
        return await in_thread(self._client.encrypt, content, context)

    async def decrypt(self, message: bytes, context: Context = None, *, keys: Keys | None = None) -> bytes:
        """The content of a message, all of it verified."""
        if len(message) <= _INLINE_BYTES:
            content = self._client.decrypt_at_hand(message, context, keys=keys)
            if content is not None:
                return content
        return await in_thread(self._client.decrypt, message, context, keys=keys)

    async def rewrap(
        self, message: bytes, keys: Keys, context: Context = None, *, accepted: Keys | None = None
    ) -> bytes:
        """A message under other keys, with the same body."""
        return await in_thread(self._client.rewrap, message, keys, context, accepted=accepted)

    @asynccontextmanager
    async def open_encrypting(self, file: BinaryIO, context: Context = None) -> AsyncIterator[AsyncEncryptingFile]:
        """A file to write content to, whose message goes into `file`; without an end where the block raises."""
        opened = await in_thread(self._client.open_encrypting, file, context)
        try:
            yield AsyncEncryptingFile(opened)
        except BaseException:
            opened.abort()
            raise
        await in_thread(opened.close)

    @asynccontextmanager
    async def open_decrypting(
        self, file: BinaryIO, context: Context = None, *, keys: Keys | None = None
    ) -> AsyncIterator[AsyncDecryptingFile]:
        """A file to read the content of the message in `file` from."""
        yield AsyncDecryptingFile(await in_thread(self._client.open_decrypting, file, context, keys=keys))

    async def encrypt_pieces(self, pieces: AsyncIterable[bytes], context: Context = None) -> AsyncIterator[bytes]:
        """The message of a content that comes in pieces, in pieces."""
        ready: list[bytes] = []
        sealer = (await in_thread(self._client.sealer, context))(lambda part: ready.append(bytes(part)))
        async for piece in pieces:
            await in_thread(sealer.update, piece)
            for part in ready:
                yield part
            ready.clear()
        await in_thread(sealer.finish)
        for part in ready:
            yield part

    async def decrypt_pieces(
        self, pieces: AsyncIterable[bytes], context: Context = None, *, keys: Keys | None = None
    ) -> AsyncIterator[bytes]:
        """The content of a message that comes in pieces, in pieces; whole where no exception ends the iterator."""
        head, source = b"", aiter(pieces)
        while not is_head_there(head) and (piece := await anext(source, None)) is not None:
            head += piece
        end = head_end(head)
        opener = await in_thread(self._client.opener, head[:end], context, keys=keys)
        for content in await in_thread(_copies, opener.update, head[end:]):
            yield content
        async for piece in source:
            for content in await in_thread(_copies, opener.update, piece):
                yield content
        for content in await in_thread(_copies, opener.finish):
            yield content


class AsyncEncryptingFile:
    """What `open_encrypting` writes to."""

    def __init__(self, file: EncryptingFile) -> None:
        self._file = file

    async def write(self, data: bytes) -> int:
        """Encrypts all of `data`."""
        return await in_thread(self._file.write, data)


class AsyncDecryptingFile:
    """What `open_decrypting` reads from; it can seek where the file below can."""

    def __init__(self, file: DecryptingFile | DecryptingStream) -> None:
        self._file = file

    async def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all; fewer at the end."""
        return await in_thread(self._file.read, size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves there. Raises where the file cannot seek."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next read begins."""
        return self._file.tell()


async def in_thread(function: Callable[Given, Answer], *given: Given.args, **named: Given.kwargs) -> Answer:
    """What a function answers, run in a thread of the loop's own."""
    # Most programs that encrypt have no loop.
    import asyncio

    return await asyncio.to_thread(function, *given, **named)


def _copies(pieces: Callable[Given, Iterator[memoryview]], *given: Given.args, **named: Given.kwargs) -> list[bytes]:
    return [bytes(piece) for piece in pieces(*given, **named)]
