"""Encrypted files: the vectors, the client and a reader written from docs/formats.md agree."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest

from strongroom import file_format
from strongroom.errors import StrongroomError
from tests.support.vectors import documented
from tests.support.vectors.own import vectors

Vector = Mapping[str, Any]


def ignore(count: int) -> None:
    del count


def read(data_key: bytes, file: bytes) -> bytes:
    """What the client makes of a file."""
    source, opened = io.BytesIO(file), io.BytesIO()
    header, commitment = file_format.read_header(source)
    file_format.decrypt_stream(data_key, header, commitment, source, opened, ignore)
    return opened.getvalue()


def write(data_key: bytes, header: file_format.Header, content: bytes) -> bytes:
    """What the client writes."""
    file = io.BytesIO()
    file_format.encrypt_stream(data_key, header, io.BytesIO(content), file, ignore)
    return file.getvalue()


@pytest.mark.parametrize("vector", vectors("encrypted_files", "valid"))
def test_a_file_is_read_and_written(vector: Vector) -> None:
    data_key, content, file = (bytes.fromhex(vector[part]) for part in ("data_key", "content", "file"))
    file_key, commitment = documented.file_keys(data_key, documented.file_header(vector))
    assert (file_key.hex(), commitment.hex()) == (vector["file_key"], vector["commitment"])
    assert documented.seal_file(vector) == file
    assert documented.open_file(vector) == content

    assert read(data_key, file) == content
    header, _ = file_format.read_header(io.BytesIO(file))
    assert write(data_key, header, content) == file


@pytest.mark.parametrize("vector", vectors("encrypted_files", "refused"))
def test_what_is_no_such_file_is_refused(vector: Vector) -> None:
    with pytest.raises(documented.RefusedError) as unreadable:
        documented.open_file(vector)
    assert str(unreadable.value) == vector["refused_with"]
    with pytest.raises(StrongroomError) as refused:
        read(bytes.fromhex(vector["data_key"]), bytes.fromhex(vector["file"]))
    assert refused.value.reason == vector["refused_with"]


@pytest.mark.parametrize("vector", vectors("encrypted_files", "valid"))
def test_a_flipped_bit_in_any_byte_is_refused(vector: Vector) -> None:
    data_key, file = bytes.fromhex(vector["data_key"]), bytes.fromhex(vector["file"])
    for bit in range(0, 8 * len(file), 7):
        altered = bytearray(file)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(documented.RefusedError):
            documented.open_file({**vector, "file": altered.hex()})
        with pytest.raises(StrongroomError) as refused:
            read(data_key, bytes(altered))
        assert refused.value.reason in ("FILE_ALTERED", "FILE_NOT_RECOGNIZED")
