"""A tenant without permission sends batches of a thousand encryption contexts for another's key, without a pause."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing

from bench.abuse.town import Town
from bench.load import Method, Shape
from bench.report import BenchmarkError, Target
from strongroom.crypto.v1.crypto_pb2 import BatchEncryptRequest, EncryptItem
from strongroom.errors import StrongroomError

TARGETS = {
    "tenant_batches_p99_vs_quiet": Target(2.0, at_most=True),
    "log_bytes_per_denied_call": Target(4096, at_most=True),
}

_CONTEXTS = 1_000
_FILLING = 4_000
_THREADS = 14
_CALLS = 8


def measure(town: Town, *, quick: bool) -> Mapping[str, float]:
    """The victim's latency beside such batches, and how much of its account's log one of them takes."""
    mallory = town.tenant("mallory")
    items = [(b"x", {"n": str(number), "filling": "x" * _FILLING}) for number in range(_CONTEXTS)]
    before = _log_bytes(town)
    for _ in range(_CALLS):
        try:
            mallory.batch_encrypt(town.key, items)
        except StrongroomError as error:
            if error.reason == "QUOTA_EXCEEDED":
                # Refused batches count tenfold, and these come fast.
                time.sleep(error.retry_after_seconds or 1.0)
            elif error.reason != "PERMISSION_DENIED":
                raise BenchmarkError(f"the attack was answered {error.reason}") from error
        else:
            raise BenchmarkError("the attack was permitted")
    figures = {"log_bytes_per_denied_call": (_log_bytes(town) - before) / _CALLS}
    request = BatchEncryptRequest(
        key=town.key, items=[EncryptItem(plaintext=data, encryption_context=context) for data, context in items]
    )
    attack = Method(
        town.mesh.address("crypto", "public"),
        "/strongroom.crypto.v1.CryptoService/BatchEncrypt",
        request.SerializeToString(),
        mallory.access.sessions.create().token,
    )
    rounds, seconds = (1, 4.0) if quick else (5, 8.0)
    flood = Shape(connections=_THREADS, streams=1)
    return figures | town.beside("tenant_batches", lambda: town.flood(attack, flood), rounds=rounds, seconds=seconds)


def _log_bytes(town: Town) -> int:
    """How many bytes the leaves of the log have."""
    path = town.mesh.database_url("audit").removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        (total,) = connection.execute("SELECT coalesce(sum(length(leaf)), 0) FROM leaves").fetchone()
    return int(total)
