"""What an application encrypts with: messages under data keys that only the mesh can open."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import BinaryIO

from strongroom.calls.crypto.results import Context
from strongroom.encryption.cache import DataKeyCache, Room
from strongroom.encryption.keys import KeyCalls, Keys, MeshKey, keys_of, new_data_key, wrapped_under
from strongroom.encryption.message.body import MessageKeys, Take
from strongroom.encryption.message.context import canonical
from strongroom.encryption.message.header import (
    CHUNK_SIZE_LOG2,
    CHUNK_SIZE_LOG2_RANGE,
    Header,
    head_end,
    is_head_there,
    read_header,
)
from strongroom.encryption.message.opening import OpenedHeader, open_header
from strongroom.encryption.message.whole import open_body, seal_body
from strongroom.encryption.streams.files import DecryptingFile, DecryptingStream, EncryptingFile
from strongroom.encryption.streams.opening import Opener
from strongroom.encryption.streams.reading import whole_reads
from strongroom.encryption.streams.sealing import Sealer
from strongroom.errors import StrongroomError

Lookup = tuple[tuple[str, str], ...] | None
Opened = OpenedHeader[MeshKey]
Asked = tuple[bytes, Lookup]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What messages of one data key begin with: header and tag, and the keys of their bodies.

    `key_version` and `event_id` are of the call that made the data key.
    """

    header: Header
    data: bytes
    keys: MessageKeys = field(repr=False)
    key_version: str
    event_id: str


class EncryptionClient:
    """Encrypts messages of any size here, under data keys that the mesh wraps (docs/encryption.md).

        encryption = EncryptionClient(client, keys=["payments"], cache=DataKeyCache())
        message = encryption.encrypt(b"4111 1111 1111 1111", {"tenant": "a"})
        content = encryption.decrypt(message, {"tenant": "a"})

    It may be shared between threads. Every message is bound to its encryption context, and opens under any one of the
    keys that it was written for.

    Args:
        client: reaches the mesh of keys that are given by name.
        keys: what messages are encrypted under, all of them, and the only ones that `decrypt` accepts unless it is told
            others: names, or `MeshKey`s with clients of their own.
        cache: keeps data keys for messages to come; without, each message asks the mesh.
        store_context: write the encryption context itself into messages, so that readers need not know it. Otherwise
            its digest is written, by which a context that is easily guessed can be guessed.
        name_keys: write the names of the keys into messages, so that a reader of several keys asks for the right one.
        chunk_size_log2: the size of chunks as a power of two, 6 to 20.
    """

    def __init__(
        self,
        client: KeyCalls,
        keys: Keys,
        *,
        cache: DataKeyCache | None = None,
        store_context: bool = False,
        name_keys: bool = True,
        chunk_size_log2: int = CHUNK_SIZE_LOG2,
    ) -> None:
        if chunk_size_log2 not in CHUNK_SIZE_LOG2_RANGE:
            raise StrongroomError("FIELD_INVALID", "chunks have 2^6 to 2^20 bytes", field="chunk_size_log2")
        self._client = client
        self.keys = keys_of(client, keys)
        self._store_context = store_context
        self._name_keys = name_keys
        self._chunk_size_log2 = chunk_size_log2
        self._chunk_size = 1 << chunk_size_log2
        self._cache = cache
        self._begin = self._begun  # bound once, not with every message
        self._at_hand: Callable[[Lookup, int, Callable[[Lookup], Beginning]], Beginning | None] = _nothing_at_hand
        self._writing: Room[Lookup, Beginning] | None = None
        self._reading: Room[Asked, Opened] | None = None
        if cache is not None:
            self._writing = cache.room(("encrypt", self.keys, store_context, name_keys, chunk_size_log2))
            self._at_hand = self._writing.at_hand
            self._reading = cache.room(("decrypt", self.keys))

    def encrypt(self, content: bytes, context: Context = None) -> bytes:
        """The message that holds `content`, some 240 bytes longer with one key.

        `context` is the encryption context: pairs that the message is bound to, not secret, up to 8,192 bytes in all.
        Raises what `Client.generate_data_key` does where no data key is at hand, FIELD_INVALID or FIELD_TOO_LARGE.
        """
        # As `begin` and `seal_body` in one, for messages that take hardly longer than a call in Python.
        size = len(content)
        lookup = None if not context else tuple(context.items()) if len(context) == 1 else _lookup(context)
        beginning = self._at_hand(lookup, size, self._begin) or self.begin(context, size)
        if size <= self._chunk_size:
            return beginning.keys.seal(content, beginning.data)
        return beginning.data + seal_body(beginning.keys, content, self._chunk_size)

    def decrypt(self, message: bytes, context: Context = None, *, keys: Keys | None = None) -> bytes:
        """The content of a message, all of it verified.

        `context` is the one that it was encrypted with; where none is given and the message holds it, that. Only a
        message under one of `keys` is opened, by default those of this client; `ANY_KEY` accepts what is under any key
        that the client may use. Raises MESSAGE_NOT_RECOGNIZED, MESSAGE_VERSION_UNKNOWN, MESSAGE_CHUNK_SIZE_INVALID,
        MESSAGE_ALTERED, CONTEXT_MISMATCH, KEY_NOT_ACCEPTED, and what `Client.decrypt` does.
        """
        message = bytes(message)  # a view, as database drivers answer, cannot be looked up
        end = head_end(message)
        opened = self.open_head(message[:end], context, keys, len(message) - end)
        return open_body(opened.keys, message, end, opened.header.chunk_size)

    def encrypt_at_hand(self, content: bytes, context: Context = None) -> bytes | None:
        """What `encrypt` answers, where a data key is at hand for it; None where it would call the mesh."""
        if self._writing is None:
            return None
        beginning = self._writing.at_hand(_lookup(context) or None, len(content), self._begun)
        return None if beginning is None else beginning.data + seal_body(beginning.keys, content, self._chunk_size)

    def decrypt_at_hand(self, message: bytes, context: Context = None, *, keys: Keys | None = None) -> bytes | None:
        """What `decrypt` answers, where its data key is at hand; None where it would call the mesh."""
        if self._reading is None or keys is not None:
            return None
        end = head_end(message)
        opened = self._reading.at_hand((message[:end], _lookup(context)), len(message) - end, self._open)
        if opened is None:
            return None
        return open_body(opened.keys, message, end, opened.header.chunk_size)

    def rewrap(self, message: bytes, keys: Keys, context: Context = None, *, accepted: Keys | None = None) -> bytes:
        """A message under other keys, with the same body: it opens under `keys` and no longer under those of before.

        Whoever could open it before may have kept its data key. `accepted` are the keys that it may be under now, by
        default those of this client. Raises what `decrypt` and `encrypt` do.
        """
        end = head_end(message)
        return self.rewrapped_head(self.open_head(message[:end], context, accepted), keys) + message[end:]

    def rewrapped_head(self, opened: Opened, keys: Keys) -> bytes:
        """Header and header tag of a message under other keys, for the body that it has. Raises what `encrypt` does."""
        wrapped = wrapped_under(keys_of(self._client, keys), opened.data_key, opened.context, name_keys=self._name_keys)
        data = replace(opened.header, wrapped_keys=tuple(wrapped)).to_bytes()
        return data + opened.keys.header_tag(data)

    def open_encrypting(self, file: BinaryIO, context: Context = None, *, close_file: bool = False) -> EncryptingFile:
        """A binary file to write content to, whose message goes into `file`, in constant memory.

        The message is whole once it is closed; a `with` block that ends with an exception leaves it cut off, so that no
        reader takes it for whole. `close_file` closes `file` with it.
        """
        return EncryptingFile(file, self.sealer(context), close_file=close_file)

    def open_decrypting(
        self, file: BinaryIO, context: Context = None, *, keys: Keys | None = None, close_file: bool = False
    ) -> DecryptingFile | DecryptingStream:
        """A binary file to read the content of the message in `file` from, in constant memory.

        Where `file` can seek, so can it, and a read decrypts no more than the chunks that it is from; that nothing is
        missing at the message's end is known at once. Of another file each chunk is verified before it is handed out,
        and the end when it is reached: what was read before may have been cut off, so keep it aside until then.
        `close_file` closes `file` with it. Raises what `decrypt` does.
        """
        found = read_header(whole_reads(file))
        head = found.data + found.tag
        opened = self.open_head(head, context, keys)
        if file.seekable():
            spent = self._spent(head, context, keys)
            return DecryptingFile(file, opened.keys, opened.header.chunk_size, spent, close_file=close_file)
        return DecryptingStream(file, self.opener_of(opened, head, context, keys), close_file=close_file)

    def encrypt_pieces(self, pieces: Iterable[bytes], context: Context = None) -> Iterator[bytes]:
        """The message of a content that comes in pieces, in pieces."""
        ready: list[bytes] = []
        sealer = self.sealer(context)(lambda part: ready.append(bytes(part)))
        for piece in pieces:
            sealer.update(piece)
            yield from ready
            ready.clear()
        sealer.finish()
        yield from ready

    def decrypt_pieces(
        self, pieces: Iterable[bytes], context: Context = None, *, keys: Keys | None = None
    ) -> Iterator[bytes]:
        """The content of a message that comes in pieces, in pieces.

        Each was verified, and that none is missing when the iterator ends without an exception. Raises what `decrypt`
        does.
        """
        head, source = b"", iter(pieces)
        while not is_head_there(head) and (piece := next(source, None)) is not None:
            head += piece
        end = head_end(head)
        opener = self.opener(head[:end], context, keys=keys)
        for piece in chain((head[end:],), source):
            yield from map(bytes, opener.update(piece))
        yield from map(bytes, opener.finish())

    def sealer(self, context: Context = None) -> Callable[[Take], Sealer]:
        """What makes a message of a content that comes in pieces, for whoever takes its parts."""
        return self.sealer_of(self.begin(context), context)

    def sealer_of(self, beginning: Beginning, context: Context) -> Callable[[Take], Sealer]:
        """What goes on behind what `begin` answered for this context."""
        spent = None if self._writing is None else partial(self._writing.spend, _lookup(context) or None)
        return lambda take: Sealer(beginning.keys, beginning.data, self._chunk_size, take, spent)

    def opener(self, head: bytes, context: Context = None, *, keys: Keys | None = None) -> Opener:
        """What gives the content behind a message's header and header tag. Raises what `decrypt` does."""
        return self.opener_of(self.open_head(head, context, keys), head, context, keys)

    def opener_of(self, opened: Opened, head: bytes, context: Context = None, keys: Keys | None = None) -> Opener:
        """What goes on behind what `open_head` answered for the same."""
        return Opener(opened.keys, opened.header.chunk_size, self._spent(head, context, keys))

    def begin(self, context: Context = None, size: int = 0) -> Beginning:
        """What a message of `size` bytes begins with. Raises what `encrypt` does."""
        lookup = _lookup(context) or None
        if self._writing is None:
            return self._begun(lookup)
        return self._writing.get(lookup, size, self._begun)

    def _begun(self, context: Lookup) -> Beginning:
        pairs = dict(context or ())
        # What has no canonical form is refused before a data key is made.
        canonical(pairs)
        made = new_data_key(self.keys, pairs, name_keys=self._name_keys)
        header = Header.of(
            made.wrapped_keys, pairs, store_context=self._store_context, chunk_size_log2=self._chunk_size_log2
        )
        keys = MessageKeys(made.plaintext, header.chunk_size_log2, header.context_digest)
        data = header.to_bytes()
        return Beginning(header, data + keys.header_tag(data), keys, made.key_version, made.event_id)

    def open_head(self, head: bytes, context: Context = None, keys: Keys | None = None, size: int = 0) -> Opened:
        """What a message's header and header tag open to, for `size` bytes behind them. Raises what `decrypt` does."""
        lookup = head, _lookup(context)
        if keys is None:
            return self._reading.get(lookup, size, self._open) if self._reading is not None else self._open(lookup)
        accepted = keys_of(self._client, keys)
        room = self._room_of(accepted)
        if room is None:
            return _opened_under(accepted, lookup)
        return room.get(lookup, size, partial(_opened_under, accepted))

    def _room_of(self, accepted: tuple[MeshKey, ...]) -> Room[Asked, Opened] | None:
        return None if self._cache is None else self._cache.room(("decrypt", accepted))

    def _spent(self, head: bytes, context: Context, keys: Keys | None) -> Callable[[int], None] | None:
        """What counts bytes that are decrypted with the data key of a header."""
        room = self._reading if keys is None else self._room_of(keys_of(self._client, keys))
        return None if room is None else partial(room.spend, (head, _lookup(context)))

    def _open(self, lookup: Asked) -> Opened:
        return _opened_under(self.keys, lookup)


def _nothing_at_hand(lookup: Lookup, size: int, begin: Callable[[Lookup], Beginning]) -> None:
    del lookup, size, begin


def _opened_under(accepted: tuple[MeshKey, ...], lookup: Asked) -> Opened:
    head, context = lookup
    pairs = None if context is None else dict(context)
    return open_header(read_header(io.BytesIO(head).read), pairs, accepted, MeshKey.unwrap)


def _lookup(context: Context) -> Lookup:
    """What tells encryption contexts apart, in whatever order their pairs are; none given is none of them."""
    if context is None:
        return None
    try:
        return tuple(sorted(context.items()))
    except TypeError:
        return tuple(context.items())  # what is no text is refused where its canonical form is made
