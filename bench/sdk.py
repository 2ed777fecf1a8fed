"""`sdk`: what the encryption SDK costs beside bare AES-GCM and beside other SDKs, in one process.

Caches are warm, so the mesh has no part in it but in what coalescing saves. What is compared takes turns in short
rounds, so that a figure is a ratio of times on the same machine at the same time; its median is told.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import BinaryIO, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench import sdk_languages
from bench.report import Report, Target
from bench.sdk_subjects import KEY, RememberedKeys, aws_cached, tink_envelope
from deploy.dev.clients import by_certificate
from deploy.dev.mesh import Mesh, MeshOptions
from strongroom import Client
from strongroom.encryption import DataKeyCache, EncryptionClient
from strongroom.encryption.message.body import NONCE_PREFIX_BYTES, Layout, body_bytes_of

NAME = "sdk"
TARGETS = {
    "kib_vs_bare": Target(0.25),
    "kib_vs_tink": Target(1.0),
    "kib_vs_aws_sdk": Target(3.0),
    "stream_vs_bare": Target(0.8),
    "stream_mib": Target(64.0, at_most=True),
    "random_read_ms": Target(2.0, at_most=True),
    "coalesced_vs_unary": Target(3.0),
    **sdk_languages.targets(),
}

_KIB = 1024
_MIB = 1 << 20
_PIECE = _MIB
_OBJECT_BYTES = 10 << 30
_READ_BYTES = 4096
_THREADS = 64

Work = Callable[[int], object]


def run(*, quick: bool) -> Report:
    """Measures messages, streams, reads, and calls."""
    figures = {**_messages(quick=quick), **_streams(quick=quick)}
    figures["stream_mib"] = _stream_mib(256 if quick else 1024)
    figures["random_read_ms"] = _random_read_ms(50 if quick else 200)
    figures |= _coalesced(seconds=2.0 if quick else 5.0)
    figures |= sdk_languages.measured(10 if quick else 60)
    return Report(NAME, figures, TARGETS)


def _encryption() -> EncryptionClient:
    return EncryptionClient(RememberedKeys(), keys=KEY, cache=DataKeyCache(max_messages=1 << 40))


def _messages(*, quick: bool) -> dict[str, float]:
    """Messages of a kibibyte: how many times as fast the SDK is as others."""
    content, context, encryption = os.urandom(_KIB), {"tenant": "a"}, _encryption()
    bare, bare_decrypt = _bare(content)
    tink, aws, message = tink_envelope(), aws_cached(), encryption.encrypt(content)
    encrypt, decrypt = encryption.encrypt, encryption.decrypt

    def sdk(count: int) -> None:
        for _ in range(count):
            encrypt(content)

    rounds = 40 if quick else 150
    return {
        "kib_vs_bare": _ratio(bare, sdk, 2000, rounds),
        "kib_with_context_vs_bare": _ratio(bare, _repeated(encrypt, content, context), 2000, rounds),
        "kib_decrypt_vs_bare": _ratio(bare_decrypt, _repeated(decrypt, message), 2000, rounds),
        "kib_vs_tink": _ratio(_repeated(tink, content), sdk, 500, rounds),
        "kib_vs_aws_sdk": _ratio(_repeated(aws, content), sdk, 50, rounds),
        "kib_microseconds": 1e6 * _seconds(sdk, 20_000) / 20_000,
    }


def _bare(content: bytes) -> tuple[Work, Work]:
    """A message as short as can be, a random nonce and the ciphertext, and its decryption."""
    cipher, urandom = AESGCM(os.urandom(32)), os.urandom

    def encrypt(count: int) -> None:
        for _ in range(count):
            nonce = urandom(12)
            nonce + cipher.encrypt(nonce, content, None)

    nonce = urandom(12)
    message = nonce + cipher.encrypt(nonce, content, None)

    def decrypt(count: int) -> None:
        for _ in range(count):
            cipher.decrypt(message[:12], message[12:], None)

    return encrypt, decrypt


def _repeated(one: Callable[..., object], *given: object) -> Work:
    def work(count: int) -> None:
        for _ in range(count):
            one(*given)

    return work


def _streams(*, quick: bool) -> dict[str, float]:
    """A gibibyte in pieces of a mebibyte, beside bare AES-GCM over chunks of the same size."""
    piece, encryption = os.urandom(_PIECE), _encryption()
    chunk = encryption.begin().header.chunk_size
    cipher, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    source, sealed = memoryview(piece), memoryview(bytearray(chunk + 16))

    def bare(count: int) -> None:
        for _ in range(count):
            for start in range(0, _PIECE, chunk):
                cipher.encrypt_into(nonce, source[start : start + chunk], None, sealed)

    def sdk(count: int) -> None:
        with encryption.open_encrypting(cast("BinaryIO", _Nowhere())) as file:
            for _ in range(count):
                file.write(piece)

    rounds = 8 if quick else 32
    return {"stream_vs_bare": _ratio(bare, sdk, 32, rounds), "stream_gib_s": 1 / _seconds(sdk, 256) / 4}


class _Nowhere(io.RawIOBase):
    """Takes whatever is written."""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        return len(data)  # type: ignore[arg-type]


def _stream_mib(mebibytes: int) -> float:
    """Peak memory of a process that encrypts and decrypts so much as a stream, over that of an idle interpreter."""
    work = f"import bench.sdk; bench.sdk.stream_through({mebibytes})"
    # Of this program alone: what getrusage says begins with the process that it was started from.
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    with_work, idle = (
        int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for code in (f"{work}\n{peak}", peak)
    )
    return (with_work - idle) / 1024


def stream_through(mebibytes: int) -> None:
    """Encrypts so much, and decrypts it again as it comes, in a process of its own."""
    encryption, piece = _encryption(), bytes(_PIECE)
    pieces = encryption.decrypt_pieces(encryption.encrypt_pieces(piece for _ in range(mebibytes)))
    assert sum(map(len, pieces)) == mebibytes * _PIECE


def _random_read_ms(reads: int) -> float:
    """Opening a message of 10 GiB in a file and reading 4 KiB from its middle, with its data key at hand.

    The file has holes: of a message that large, only the chunks that are read are really there.
    """
    encryption = _encryption()
    with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory:
        path = Path(directory) / "object"
        places = _large_object(path, encryption, reads)

        def read(place: int) -> float:
            began = time.perf_counter()
            with path.open("rb", buffering=0) as below:
                file = encryption.open_decrypting(below)
                file.seek(place)
                assert len(file.read(_READ_BYTES)) == _READ_BYTES
            return 1000 * (time.perf_counter() - began)

        read(places[0])
        return median(map(read, places))


def _large_object(path: Path, encryption: EncryptionClient, count: int) -> list[int]:
    """Writes what is read of a large message, and answers where the reads begin."""
    beginning = encryption.begin()
    size = beginning.header.chunk_size
    body = body_bytes_of(_OBJECT_BYTES, size)
    layout, prefix = Layout(body, size), os.urandom(NONCE_PREFIX_BYTES)
    cipher, start = beginning.keys.cipher(prefix), len(beginning.data) + NONCE_PREFIX_BYTES
    numbers = range(layout.chunks // 2, layout.chunks // 2 + count)
    with path.open("wb") as file:
        file.truncate(start + body)
        file.write(beginning.data + prefix)
        for number in (*numbers, layout.chunks - 1):
            offset, length = layout.sealed_range(number)
            sealed = bytearray(length)
            cipher.seal(number, number == layout.chunks - 1, memoryview(bytes(length - 16)), memoryview(sealed))
            file.seek(start + offset)
            file.write(sealed)
    return [number * size + 1000 for number in numbers]


def _coalesced(seconds: float) -> dict[str, float]:
    """Single calls of 64 threads to a mesh, sent as they are and gathered."""
    with (
        tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory,
        Mesh(Path(directory), MeshOptions(provider="local")) as mesh,
    ):
        with _client(mesh) as client:
            key = client.keys.create("bench").name
            unary = _calls_a_second(client, key, seconds)
        with _client(mesh, coalesce=True) as client:
            coalesced = _calls_a_second(client, key, seconds)
    return {"coalesced_vs_unary": coalesced / unary, "unary_calls_s": unary, "coalesced_calls_s": coalesced}


def _client(mesh: Mesh, *, coalesce: bool = False) -> Client:
    return by_certificate(mesh, coalesce=coalesce)


def _calls_a_second(client: Client, key: str, seconds: float) -> float:
    client.encrypt(key, b"warm")
    content, ends = os.urandom(64), time.monotonic() + seconds

    def calls(_: int) -> int:
        count = 0
        while time.monotonic() < ends:
            client.encrypt(key, content)
            count += 1
        return count

    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(calls, range(_THREADS))) / seconds


def _ratio(other: Work, sdk: Work, count: int, rounds: int) -> float:
    """How many times as fast the SDK is as the other, round by round, by the median."""
    for work in (other, sdk):
        work(count)
    return median(_seconds(other, count) / _seconds(sdk, count) for _ in range(rounds))


def _seconds(work: Work, count: int) -> float:
    began = time.perf_counter()
    work(count)
    return time.perf_counter() - began
