"""Encrypting and decrypting files: what appears at the destination, and when nothing does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from strongroom.calls.crypto.results import DataKey, Decrypted
from strongroom.client import Client
from strongroom.errors import StrongroomError
from strongroom.files import decrypt_file, encrypt_file

VERSION = "accounts/main/keys/payments/versions/1"


class OneKey:
    """What of the client files need: data keys that are their own ciphertexts, bound to a context."""

    def __init__(self) -> None:
        self.calls = 0

    def generate_data_key(self, key: str, context: Mapping[str, str] | None, *, byte_count: int) -> DataKey:
        self.calls += 1
        data_key = os.urandom(byte_count)
        return DataKey(data_key, self._sealed(data_key, context), key, VERSION, "made")

    def decrypt(self, ciphertext: bytes, context: Mapping[str, str] | None, *, key: str) -> Decrypted:
        self.calls += 1
        if self._sealed(ciphertext[:32], context) != ciphertext:
            raise StrongroomError("CIPHERTEXT_INVALID", "it does not decrypt")
        return Decrypted(ciphertext[:32], key, VERSION, "opened")

    def _sealed(self, data_key: bytes, context: Mapping[str, str] | None) -> bytes:
        return data_key + repr(sorted((context or {}).items())).encode()


@pytest.fixture
def client() -> Client:
    return cast(Client, OneKey())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "report.pdf"
    path.write_bytes(os.urandom((2 << 20) + 17))
    return path


def test_a_file_comes_back(client: Client, source: Path, tmp_path: Path) -> None:
    sealed, opened = tmp_path / "sealed", tmp_path / "opened"
    seen: list[int] = []
    result = encrypt_file(client, "payments", source, sealed, context={"tenant": "a"}, progress=seen.append)
    assert (result.size, sum(seen), len(seen)) == (source.stat().st_size, source.stat().st_size, 3)
    assert (result.key_version, result.event_id) == (VERSION, "made")
    assert decrypt_file(client, sealed, opened, context={"tenant": "a"}).event_id == "opened"
    assert opened.read_bytes() == source.read_bytes()


def test_an_empty_file_comes_back(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    encrypt_file(client, "payments", tmp_path / "empty", tmp_path / "sealed")
    assert decrypt_file(client, tmp_path / "sealed", tmp_path / "opened").size == 0
    assert (tmp_path / "opened").read_bytes() == b""


def test_a_pipe_can_be_encrypted(client: Client, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    encrypt_file(client, "payments", Path(f"/dev/fd/{reading}"), tmp_path / "sealed")
    os.close(reading)
    decrypt_file(client, tmp_path / "sealed", tmp_path / "opened")
    assert (tmp_path / "opened").read_bytes() == b"through a pipe"


def test_files_are_for_their_owner_alone(client: Client, source: Path, tmp_path: Path) -> None:
    encrypt_file(client, "payments", source, tmp_path / "sealed")
    decrypt_file(client, tmp_path / "sealed", tmp_path / "opened")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("sealed", "opened")} == {0o600}


@pytest.mark.parametrize("damage", ["flip", "cut at a chunk", "append"])
def test_nothing_appears_when_verification_fails(client: Client, source: Path, tmp_path: Path, damage: str) -> None:
    sealed = tmp_path / "sealed"
    encrypt_file(client, "payments", source, sealed)
    content = bytearray(sealed.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    elif damage == "append":
        content += b"x"
    else:
        del content[-(17 + 16) :]
    sealed.write_bytes(content)
    before = set(tmp_path.iterdir())
    with pytest.raises(StrongroomError) as refusal:
        decrypt_file(client, sealed, tmp_path / "opened")
    assert refusal.value.reason == "FILE_ALTERED"
    assert set(tmp_path.iterdir()) == before


def test_a_failed_overwrite_leaves_the_old_file(client: Client, source: Path, tmp_path: Path) -> None:
    sealed, opened = tmp_path / "sealed", tmp_path / "opened"
    encrypt_file(client, "payments", source, sealed)
    sealed.write_bytes(sealed.read_bytes()[:-1])
    opened.write_bytes(b"precious")
    with pytest.raises(StrongroomError):
        decrypt_file(client, sealed, opened, overwrite=True)
    assert opened.read_bytes() == b"precious"


def test_another_context_is_refused(client: Client, source: Path, tmp_path: Path) -> None:
    encrypt_file(client, "payments", source, tmp_path / "sealed", context={"tenant": "a"})
    with pytest.raises(StrongroomError) as refusal:
        decrypt_file(client, tmp_path / "sealed", tmp_path / "opened", context={"tenant": "b"})
    assert refusal.value.reason == "CIPHERTEXT_INVALID"


def test_an_existing_file_is_refused_before_any_key_is_made(client: Client, source: Path, tmp_path: Path) -> None:
    existing = tmp_path / "existing"
    existing.write_bytes(b"precious")
    with pytest.raises(StrongroomError) as refusal:
        encrypt_file(client, "payments", source, existing)
    assert refusal.value.reason == "FILE_EXISTS"
    assert existing.read_bytes() == b"precious"
    assert cast(OneKey, client).calls == 0
    encrypt_file(client, "payments", source, existing, overwrite=True)
    assert existing.read_bytes()[1:7] == b"SRFILE"


def test_a_file_that_appears_meanwhile_is_not_overwritten(client: Client, source: Path, tmp_path: Path) -> None:
    destination = tmp_path / "sealed"

    def meanwhile(count: int) -> None:
        del count
        destination.write_bytes(b"somebody else's")

    with pytest.raises(StrongroomError) as refusal:
        encrypt_file(client, "payments", source, destination, progress=meanwhile)
    assert refusal.value.reason == "FILE_EXISTS"
    assert destination.read_bytes() == b"somebody else's"
    assert {path.name for path in tmp_path.iterdir()} == {"report.pdf", "sealed"}


def test_a_file_may_replace_its_own_source(client: Client, source: Path) -> None:
    content = source.read_bytes()
    encrypt_file(client, "payments", source, source, overwrite=True)
    decrypt_file(client, source, source, overwrite=True)
    assert source.read_bytes() == content


def test_a_symbolic_link_is_followed(client: Client, source: Path, tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    encrypt_file(client, "payments", source, tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").stat().st_size > source.stat().st_size


def test_what_is_no_regular_file_is_not_replaced(client: Client, source: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for destination in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(StrongroomError) as refusal:
            encrypt_file(client, "payments", source, destination, overwrite=True)
        assert refusal.value.reason == "FILE_NOT_REGULAR"


def test_an_interrupt_leaves_nothing_behind(client: Client, source: Path, tmp_path: Path) -> None:
    def interrupt(count: int) -> None:
        del count
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encrypt_file(client, "payments", source, tmp_path / "sealed", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["report.pdf"]
