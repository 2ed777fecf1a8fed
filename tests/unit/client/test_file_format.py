"""The encrypted file: what it holds comes back, and everything else is refused."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom import file_format
from strongroom.errors import StrongroomError
from strongroom.file_format import TAG_BYTES, Header

KEY = bytes(range(32))
ENCRYPTED_KEY = b"\x01\x01" + bytes(92)
SMALL = 6  # chunks of 64 bytes
CHUNK = 64
HEADER_BYTES = 50 + len(ENCRYPTED_KEY) + 32


def test_every_length_around_chunk_borders_comes_back() -> None:
    for length in [0, 1, 63, 64, 65, 127, 128, 129, 640]:
        content = _content(length)
        sealed = _encrypt(content)
        chunks = max(1, -(-length // CHUNK))
        assert len(sealed) == HEADER_BYTES + length + chunks * TAG_BYTES
        assert _decrypt(sealed) == content


@given(st.binary(max_size=400), st.integers(6, 10))
def test_any_content_comes_back_in_any_chunk_size(content: bytes, chunk_size_log2: int) -> None:
    assert _decrypt(_encrypt(content, chunk_size_log2)) == content


def test_sources_and_sinks_that_move_one_byte_at_a_time_do() -> None:
    content = _content(200)
    sealed = Dribble()
    file_format.encrypt_stream(KEY, _header(), Dribble(content), sealed, _ignore)
    source, opened = Dribble(sealed.getvalue()), Dribble()
    header, commitment = file_format.read_header(source)
    file_format.decrypt_stream(KEY, header, commitment, source, opened, _ignore)
    assert opened.getvalue() == content


def test_progress_adds_up_to_the_size_of_the_content() -> None:
    seen: list[int] = []
    size = file_format.encrypt_stream(KEY, _header(), io.BytesIO(_content(200)), io.BytesIO(), seen.append)
    assert (size, seen) == (200, [64, 64, 64, 8])


def test_the_same_content_is_never_encrypted_the_same_way_twice() -> None:
    assert _encrypt(b"content", header=None) != _encrypt(b"content", header=None)


@settings(max_examples=300)
@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    sealed = bytearray(_encrypt(_content(data.draw(st.integers(0, 200)))))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))
    _assert_refused(bytes(sealed), "FILE_ALTERED", *(["FILE_NOT_RECOGNIZED"] if position < 8 else []))


def test_truncation_at_any_byte_is_refused_also_at_chunk_borders() -> None:
    sealed = _encrypt(_content(3 * CHUNK))
    for length in range(len(sealed)):
        _assert_refused(sealed[:length], "FILE_ALTERED" if length >= 50 else "FILE_NOT_RECOGNIZED")


@given(st.binary(min_size=1, max_size=200))
def test_anything_appended_is_refused(tail: bytes) -> None:
    for length in (0, 10, CHUNK, 2 * CHUNK):
        _assert_refused(_encrypt(_content(length)) + tail)


def test_an_appended_chunk_of_its_own_is_refused() -> None:
    sealed = _encrypt(_content(2 * CHUNK))
    last = sealed[-(CHUNK + TAG_BYTES) :]
    _assert_refused(sealed + last)


@given(st.permutations(range(4)))
def test_chunks_in_another_order_are_refused(order: list[int]) -> None:
    if order == [0, 1, 2, 3]:
        return
    sealed = _encrypt(_content(4 * CHUNK))
    chunks = _chunks(sealed)
    _assert_refused(sealed[:HEADER_BYTES] + b"".join(chunks[number] for number in order))


@pytest.mark.parametrize("dropped", range(4))
def test_a_missing_chunk_is_refused(dropped: int) -> None:
    sealed = _encrypt(_content(4 * CHUNK))
    chunks = _chunks(sealed)
    del chunks[dropped]
    _assert_refused(sealed[:HEADER_BYTES] + b"".join(chunks))


@pytest.mark.parametrize("repeated", range(4))
def test_a_repeated_chunk_is_refused(repeated: int) -> None:
    sealed = _encrypt(_content(4 * CHUNK))
    chunks = _chunks(sealed)
    chunks.insert(repeated, chunks[repeated])
    _assert_refused(sealed[:HEADER_BYTES] + b"".join(chunks))


def test_a_chunk_of_another_file_under_the_same_data_key_is_refused() -> None:
    one, other = _encrypt(_content(2 * CHUNK), header=None), _encrypt(_content(2 * CHUNK), header=None)
    _assert_refused(one[: HEADER_BYTES + CHUNK + TAG_BYTES] + other[HEADER_BYTES + CHUNK + TAG_BYTES :])


def test_the_header_of_another_file_under_the_same_data_key_is_refused() -> None:
    one, other = _encrypt(b"one", header=None), _encrypt(b"two", header=None)
    _assert_refused(one[:HEADER_BYTES] + other[HEADER_BYTES:])


def test_an_empty_last_chunk_after_others_is_refused_though_it_is_sealed_right() -> None:
    header = _header()
    cipher = file_format.ChunkCipher(KEY, header)
    full, empty = bytearray(CHUNK + TAG_BYTES), bytearray(TAG_BYTES)
    cipher.seal(0, False, memoryview(bytes(CHUNK)), memoryview(full))
    cipher.seal(1, True, memoryview(b""), memoryview(empty))
    _assert_refused(header.to_bytes() + cipher.commitment + bytes(full) + bytes(empty))


def test_another_data_key_is_refused_before_any_chunk_is_tried() -> None:
    sealed = io.BytesIO(_encrypt(_content(3 * CHUNK)))
    header, commitment = file_format.read_header(sealed)
    opened = io.BytesIO()
    for key in (bytes(32), KEY[:16], b""):
        with pytest.raises(StrongroomError) as refusal:
            file_format.decrypt_stream(key, header, commitment, sealed, opened, _ignore)
        assert refusal.value.reason == "FILE_ALTERED"
    assert opened.getvalue() == b""


@given(st.binary(max_size=300))
def test_what_is_no_encrypted_file_is_not_recognized(content: bytes) -> None:
    with pytest.raises(StrongroomError) as refusal:
        file_format.read_header(io.BytesIO(content))
    assert refusal.value.reason == "FILE_NOT_RECOGNIZED"


def test_a_newer_format_version_is_named() -> None:
    sealed = bytearray(_encrypt(b""))
    sealed[7] = 2
    with pytest.raises(StrongroomError, match="version 2") as refusal:
        _decrypt(bytes(sealed))
    assert refusal.value.reason == "FILE_NOT_RECOGNIZED"


def test_a_file_has_at_most_two_to_the_32_chunks() -> None:
    cipher = file_format.ChunkCipher(KEY, _header())
    with pytest.raises(StrongroomError) as refusal:
        cipher.seal(1 << 32, True, memoryview(b""), memoryview(bytearray(TAG_BYTES)))
    assert refusal.value.reason == "FIELD_TOO_LARGE"


class Dribble(io.BytesIO):
    """A file that reads and writes one byte a call, as pipes may."""

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        return super().readinto(buffer[:1])

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        return super().write(data[:1])


def _content(length: int) -> bytes:
    return bytes(number % 251 for number in range(length))


def _header(chunk_size_log2: int = SMALL) -> Header:
    return Header(ENCRYPTED_KEY, bytes(32), bytes(7), chunk_size_log2)


def _encrypt(content: bytes, chunk_size_log2: int = SMALL, header: Header | bool | None = True) -> bytes:
    """With `header=None`, one with a fresh salt and prefix, as in real files; else one that is always the
    same.
    """
    used = Header.fresh(ENCRYPTED_KEY, chunk_size_log2) if header is None else _header(chunk_size_log2)
    sealed = io.BytesIO()
    file_format.encrypt_stream(KEY, used, io.BytesIO(content), sealed, _ignore)
    return sealed.getvalue()


def _decrypt(sealed: bytes) -> bytes:
    source, opened = io.BytesIO(sealed), io.BytesIO()
    header, commitment = file_format.read_header(source)
    file_format.decrypt_stream(KEY, header, commitment, source, opened, _ignore)
    return opened.getvalue()


def _chunks(sealed: bytes) -> list[bytes]:
    size = CHUNK + TAG_BYTES
    return [sealed[start : start + size] for start in range(HEADER_BYTES, len(sealed), size)]


def _assert_refused(sealed: bytes, *reasons: str) -> None:
    with pytest.raises(StrongroomError) as refusal:
        _decrypt(sealed)
    assert refusal.value.reason in (reasons or ("FILE_ALTERED",))


def _ignore(count: int) -> None:
    del count
