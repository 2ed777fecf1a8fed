"""Encrypting and decrypting messages: what comes back, under which keys, and what the mesh is asked."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, BinaryIO

import pytest

from strongroom.encryption import (
    ANY_KEY,
    AsyncEncryptionClient,
    DataKeyCache,
    EncryptionClient,
    MeshKey,
    inspect,
)
from strongroom.errors import StrongroomError
from tests.support.mesh_keys import MeshKeys

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TENANT = {"tenant": "a"}


@pytest.fixture
def mesh() -> MeshKeys:
    return MeshKeys()


def reason_of(refused: pytest.ExceptionInfo[StrongroomError]) -> str:
    return refused.value.reason


@pytest.mark.parametrize("size", [0, 1, 1024, 65_536, 65_537, 300_000])
def test_a_message_comes_back(mesh: MeshKeys, size: int) -> None:
    encryption = EncryptionClient(mesh, keys="payments")
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    message = encryption.encrypt(content, TENANT)
    assert encryption.decrypt(message, TENANT) == content
    assert content[:64] not in message or size < 64


def test_without_a_cache_each_message_has_a_data_key_of_its_own(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments")
    encryption.encrypt(b"one")
    encryption.encrypt(b"two")
    assert mesh.calls == 2


def test_with_a_cache_many_messages_make_one_call_in_each_direction(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", cache=DataKeyCache())
    messages = [encryption.encrypt(b"%d" % number, TENANT) for number in range(20)]
    assert [encryption.decrypt(message, TENANT) for message in messages] == [b"%d" % number for number in range(20)]
    assert mesh.calls == 2
    assert len({message[-40:] for message in messages}) == 20


def test_another_context_is_another_data_key_and_does_not_open(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", cache=DataKeyCache())
    message = encryption.encrypt(b"content", TENANT)
    assert encryption.decrypt(message, TENANT) == b"content"
    for other in ({"tenant": "b"}, {}, None, {**TENANT, "more": "1"}):
        with pytest.raises(StrongroomError) as refused:
            encryption.decrypt(message, other)
        assert reason_of(refused) == "CONTEXT_MISMATCH"
    encryption.encrypt(b"content", {"tenant": "b"})
    assert mesh.calls == 3


def test_a_stored_context_need_not_be_known(mesh: MeshKeys) -> None:
    message = EncryptionClient(mesh, keys="payments", store_context=True).encrypt(b"content", TENANT)
    assert EncryptionClient(mesh, keys="payments").decrypt(message) == b"content"
    assert inspect(message).context == TENANT
    with pytest.raises(StrongroomError) as refused:
        EncryptionClient(mesh, keys="payments").decrypt(message, {})
    assert reason_of(refused) == "CONTEXT_MISMATCH"


def test_any_one_of_several_keys_opens_a_message() -> None:
    here, there = MeshKeys(), MeshKeys("escrow")
    keys = [MeshKey("payments", here, mesh="eu"), MeshKey("vault", there, mesh="us")]
    message = EncryptionClient(here, keys=keys).encrypt(b"content", TENANT)
    for one in keys:
        assert EncryptionClient(here, keys=one).decrypt(message, TENANT) == b"content"
    here.is_away()
    assert EncryptionClient(here, keys=keys).decrypt(message, TENANT) == b"content"


def test_only_accepted_keys_open_a_message(mesh: MeshKeys) -> None:
    attackers = EncryptionClient(mesh, keys="escrow").encrypt(b"content")
    reader = EncryptionClient(mesh, keys="payments")
    calls = mesh.calls
    with pytest.raises(StrongroomError) as refused:
        reader.decrypt(attackers)
    assert reason_of(refused) == "KEY_NOT_ACCEPTED"
    assert "accounts/main/keys/escrow" in refused.value.message
    assert mesh.calls == calls
    assert reader.decrypt(attackers, keys=["payments", "escrow"]) == b"content"
    assert reader.decrypt(attackers, keys=ANY_KEY) == b"content"
    unnamed = EncryptionClient(mesh, keys="escrow", name_keys=False).encrypt(b"content")
    with pytest.raises(StrongroomError) as refused:
        reader.decrypt(unnamed)
    assert reason_of(refused) == "KEY_MISMATCH"


def test_a_cached_data_key_opens_nothing_for_who_does_not_accept_its_key(mesh: MeshKeys) -> None:
    cache = DataKeyCache()
    message = EncryptionClient(mesh, keys="escrow", cache=cache).encrypt(b"content")
    reader = EncryptionClient(mesh, keys="payments", cache=cache)
    assert reader.decrypt(message, keys="escrow") == b"content"
    with pytest.raises(StrongroomError) as refused:
        reader.decrypt(message)
    assert reason_of(refused) == "KEY_NOT_ACCEPTED"


def test_an_alias_is_accepted_for_its_key(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="alias/current")
    message = encryption.encrypt(b"content")
    assert inspect(message).keys[0].key == "accounts/main/keys/payments"
    assert encryption.decrypt(message) == b"content"


@pytest.mark.parametrize("keys", [[], "", ["payments", ""]])
def test_a_key_that_was_not_configured_does_not_come_to_mean_every_key(mesh: MeshKeys, keys: Iterable[str]) -> None:
    with pytest.raises(StrongroomError) as refused:
        EncryptionClient(mesh, keys=keys)
    assert reason_of(refused) == "FIELD_REQUIRED"


def test_a_message_moves_to_other_keys_without_a_change_of_its_body(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments")
    message = encryption.encrypt(b"content", TENANT)
    moved = encryption.rewrap(message, ["escrow"], TENANT)
    assert moved[-42:] == message[-42:]
    assert EncryptionClient(mesh, keys="escrow").decrypt(moved, TENANT) == b"content"
    with pytest.raises(StrongroomError) as refused:
        encryption.decrypt(moved, TENANT)
    assert reason_of(refused) == "KEY_NOT_ACCEPTED"


def test_inspection_calls_nobody(mesh: MeshKeys) -> None:
    message = EncryptionClient(mesh, keys=["payments", "escrow"]).encrypt(bytes(100_000), TENANT)
    calls = mesh.calls
    for source in (message, io.BytesIO(message)):
        found = inspect(source)
        assert [one.key.rpartition("/")[2] for one in found.keys] == ["payments", "escrow"]
        assert (found.size, found.context, found.chunk_size) == (100_000, None, 65_536)
    assert mesh.calls == calls


def test_a_bad_context_makes_no_data_key(mesh: MeshKeys) -> None:
    for context, reason in (({"": "a"}, "FIELD_INVALID"), ({"a": "v" * 9000}, "FIELD_TOO_LARGE")):
        with pytest.raises(StrongroomError) as refused:
            EncryptionClient(mesh, keys="payments").encrypt(b"content", context)
        assert reason_of(refused) == reason
    assert mesh.calls == 0


def test_nothing_secret_is_in_any_repr(mesh: MeshKeys) -> None:
    cache = DataKeyCache()
    encryption = EncryptionClient(mesh, keys="payments", cache=cache)
    message = encryption.encrypt(b"content")
    encryption.decrypt(message)
    (plaintext, _, _), *_ = mesh._wrapped.values()
    shown = repr([vars(room) for room in cache._all()]) + repr(encryption.keys) + repr(vars(encryption))
    assert repr(plaintext)[2:-1] not in shown
    assert plaintext.hex() not in shown


# Files and pieces


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_001])
@pytest.mark.parametrize("step", [1 << 20, 65_536, 10_007])
def test_files_hold_what_was_written(mesh: MeshKeys, size: int, step: int) -> None:
    encryption = EncryptionClient(mesh, keys="payments", cache=DataKeyCache())
    content = bytes(index * 7 % 251 for index in range(size))
    sealed = io.BytesIO()
    with encryption.open_encrypting(sealed, TENANT) as file:
        for start in range(0, size, step):
            file.write(content[start : start + step])
    message = sealed.getvalue()
    assert encryption.decrypt(message, TENANT) == content
    for source in (io.BytesIO(message), Unseekable(message)):
        opened = encryption.open_decrypting(source, TENANT)
        assert b"".join(iter(lambda: opened.read(step), b"")) == content  # noqa: B023
        assert opened.read() == b""
    pieces = encryption.encrypt_pieces(iter([content[:5], b"", content[5:]]), TENANT)
    assert b"".join(encryption.decrypt_pieces(pieces, TENANT)) == content
    assert mesh.calls == 2


class Unseekable(io.BytesIO):
    """A pipe: it cannot seek, and gives little at once."""

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 4000) if size and size > 0 else size)

    def readinto(self, buffer: object, /) -> int:
        return super().readinto(memoryview(buffer)[:4000])  # type: ignore[arg-type]


def test_a_read_anywhere_is_what_is_there(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", chunk_size_log2=6)
    content = bytes(index * 7 % 251 for index in range(1000))
    below = io.BytesIO(b"before" + encryption.encrypt(content))
    below.seek(6)
    file = encryption.open_decrypting(below)
    assert file.seekable()
    for start in (0, 1, 63, 64, 65, 500, 937, 960, 999, 1000, 5000):
        for size in (0, 1, 63, 64, 65, 200, -1):
            file.seek(start)
            assert file.read(size) == (content[start : start + size] if size >= 0 else content[start:])
    assert file.seek(-10, io.SEEK_END) == 990
    assert file.read() == content[-10:]
    text = io.TextIOWrapper(encryption.open_decrypting(io.BytesIO(encryption.encrypt(b"one\ntwo\n"))))  # type: ignore[type-var]
    assert text.readlines() == ["one\n", "two\n"]


def test_a_read_touches_no_more_than_its_chunks(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", chunk_size_log2=10)
    below = Counting(encryption.encrypt(bytes(1 << 20)))
    file = encryption.open_decrypting(below)
    before = below.count
    file.seek(500_000)
    assert len(file.read(100)) == 100
    assert below.count - before <= 2 * (1024 + 16)


class Counting(io.BytesIO):
    count = 0

    def readinto(self, buffer: object, /) -> int:
        count: int = super().readinto(buffer)  # type: ignore[arg-type]
        self.count += count
        return count


def test_nothing_unverified_stays_in_a_readers_buffer_and_a_refusal_is_no_end(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", chunk_size_log2=6)
    message = bytearray(encryption.encrypt(b"A" * 640))
    message[-300] ^= 1
    for source in (io.BytesIO(message), Unseekable(message)):
        file, buffer = encryption.open_decrypting(source), bytearray(640)
        for _ in range(2):
            with pytest.raises(StrongroomError) as refused:
                [b"" for _ in iter(lambda: file.readinto(buffer), 0)]  # noqa: B023
            assert reason_of(refused) == "MESSAGE_ALTERED"
            assert b"A" not in buffer


@pytest.mark.parametrize("cut", [1, 16, 17, 64, 80, 81, 160])
def test_a_file_that_was_cut_off_is_refused_when_opened_or_at_its_end(mesh: MeshKeys, cut: int) -> None:
    encryption = EncryptionClient(mesh, keys="payments", chunk_size_log2=6)
    message = encryption.encrypt(bytes(300))[:-cut]

    def whole(source: BinaryIO) -> bytes:
        return encryption.open_decrypting(source).read()

    for source in (io.BytesIO(message), Unseekable(message)):
        with pytest.raises(StrongroomError) as refused:
            whole(source)
        assert reason_of(refused) == "MESSAGE_ALTERED"
    with pytest.raises(StrongroomError) as refused:
        list(encryption.decrypt_pieces([message]))
    assert reason_of(refused) == "MESSAGE_ALTERED"


def interrupted(encryption: EncryptionClient, below: BinaryIO, size: int) -> None:
    with encryption.open_encrypting(below) as file:
        file.write(bytes(size))
        raise KeyboardInterrupt


def test_what_an_exception_left_unfinished_is_taken_for_whole_by_nobody(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", chunk_size_log2=6)
    for fill in (0, 64, 100, 128):
        below = io.BytesIO()
        with pytest.raises(KeyboardInterrupt):
            interrupted(encryption, below, fill)
        dropped = encryption.open_encrypting(below)
        del dropped
        with pytest.raises(StrongroomError):
            encryption.decrypt(below.getvalue())


class FullDisk(io.BytesIO):
    """Takes a part of what it is given once, and then again all of it."""

    failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self.failed and self.tell() > 500:
            self.failed = True
            raise OSError("no space left on device")
        return super().write(data)


def test_after_a_write_that_failed_nothing_follows(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", chunk_size_log2=6)
    below = FullDisk()
    file = encryption.open_encrypting(below)
    with pytest.raises(OSError, match="no space"):
        shutil.copyfileobj(io.BytesIO(bytes(6400)), file, 64)
    with pytest.raises(ValueError, match="ended"):
        file.write(b"more")
    with pytest.raises(ValueError, match="ended"):
        file.close()
    with pytest.raises(StrongroomError) as refused:
        encryption.decrypt(below.getvalue())
    assert reason_of(refused) == "MESSAGE_ALTERED"


def test_pieces_of_one_byte_do(mesh: MeshKeys) -> None:
    encryption = EncryptionClient(mesh, keys="payments", chunk_size_log2=6)
    message = encryption.encrypt(bytes(200))
    single = (message[at : at + 1] for at in range(len(message)))
    assert b"".join(encryption.decrypt_pieces(single)) == bytes(200)
    with pytest.raises(StrongroomError) as refused:
        list(encryption.decrypt_pieces(iter([b"GET / HTTP/1.1\r\n" * 10_000])))
    assert reason_of(refused) == "MESSAGE_NOT_RECOGNIZED"


# asyncio


def test_the_twins_do_the_same_and_block_no_loop(mesh: MeshKeys) -> None:
    gate, sync = asyncio.Event(), EncryptionClient(mesh, keys="payments", cache=DataKeyCache())
    encryption = AsyncEncryptionClient(sync)

    async def source(content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        # The mesh answers only once the loop has done something else.
        mesh.before = lambda: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)  # type: ignore[assignment]
        task = asyncio.create_task(encryption.encrypt(b"content", TENANT))
        await asyncio.sleep(0)
        gate.set()
        message = await task
        assert await encryption.decrypt(message, TENANT) == b"content"
        assert await encryption.encrypt(b"content", TENANT) != message
        content = bytes(200_000)
        pieces = [piece async for piece in encryption.encrypt_pieces(source(content), TENANT)]
        opened = [piece async for piece in encryption.decrypt_pieces(source(b"".join(pieces)), TENANT)]
        assert b"".join(opened) == content
        below = io.BytesIO()
        async with encryption.open_encrypting(below, TENANT) as file:
            await file.write(content)
        async with encryption.open_decrypting(io.BytesIO(below.getvalue()), TENANT) as reading:
            reading.seek(199_990)
            assert await reading.read() == bytes(10)
        with pytest.raises(StrongroomError):
            await encryption.decrypt(below.getvalue(), {"tenant": "b"})

    asyncio.run(run())
