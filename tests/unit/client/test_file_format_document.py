"""docs/formats.md, "Encrypted file": a reader written from the text alone, and the text's own vectors."""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strongroom import file_format
from strongroom.errors import StrongroomError

FORMATS = Path(__file__).parents[3] / "docs/formats.md"
DATA_KEY, SALT, PREFIX = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 71))


def vector(name: str) -> bytes:
    """A block of the text."""
    block = re.search(rf"^```{name}\n(.*?)^```", FORMATS.read_text(), re.DOTALL | re.MULTILINE)
    assert block, name
    return bytes.fromhex(block[1].replace("\n", ""))


def keys() -> tuple[bytes, bytes]:
    """RFC 5869, by hand."""
    info = b"strongroom file v1" + vector("file-header")
    extracted = hmac.digest(SALT, DATA_KEY, hashlib.sha256)
    first = hmac.digest(extracted, info + b"\x01", hashlib.sha256)
    return first, hmac.digest(extracted, first + info + b"\x02", hashlib.sha256)


def written(length: int) -> bytes:
    """The file of the text's content of `length` bytes, written chunk by chunk as the text says."""
    file_key, commitment = keys()
    content = bytes(range(length))
    pieces = [content[start : start + 64] for start in range(0, length, 64)] or [b""]
    chunks = b""
    for number, piece in enumerate(pieces):
        nonce = PREFIX + struct.pack(">IB", number, number == len(pieces) - 1)
        cipher = Cipher(algorithms.AES(file_key), modes.GCM(nonce)).encryptor()
        chunks += cipher.update(piece) + cipher.finalize() + cipher.tag
    return vector("file-header") + commitment + chunks


def ignore(count: int) -> None:
    del count


def read(sealed: bytes) -> bytes:
    """What the client makes of a file."""
    source, opened = io.BytesIO(sealed), io.BytesIO()
    header, commitment = file_format.read_header(source)
    file_format.decrypt_stream(DATA_KEY, header, commitment, source, opened, ignore)
    return opened.getvalue()


def test_the_header_has_the_fields_of_the_text() -> None:
    header = vector("file-header")
    assert header == b"\x89SRFILE\x01\x06" + SALT + PREFIX + struct.pack(">H", 18) + b"encrypted data key"


def test_file_key_and_commitment_are_those_of_the_text() -> None:
    assert b"".join(keys()) == vector("file-keys")


@pytest.mark.parametrize("length", [0, 100, 128])
def test_text_independent_writer_and_client_agree(length: int) -> None:
    sealed = written(length)
    assert sealed == vector("file-header") + keys()[1] + vector(f"file-chunks-{length}")
    assert read(sealed) == bytes(range(length))
    header, _ = file_format.read_header(io.BytesIO(sealed))
    again = io.BytesIO()
    file_format.encrypt_stream(DATA_KEY, header, io.BytesIO(bytes(range(length))), again, ignore)
    assert again.getvalue() == sealed


def test_what_the_text_says_is_refused_is_refused() -> None:
    sealed = written(128)
    before, first, last = sealed[:-160], sealed[-160:-80], sealed[-80:]
    refused = [
        before + first,
        before + last + first,
        before + first + last + last,
        sealed + b"\x00",
        sealed[:-1],
        before + first + vector("file-chunk-empty"),
        *(_flipped(sealed, position) for position in range(8 * 8, 8 * len(sealed), 7)),
    ]
    for file in refused:
        with pytest.raises(StrongroomError) as refusal:
            read(file)
        assert refusal.value.reason == "FILE_ALTERED"


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
