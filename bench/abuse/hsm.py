"""Keys made in the token by one tenant: what sixteen RSA-4096 at once cost another tenant's decrypts there."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bench.abuse.town import Town
from bench.load import Method, elsewhere
from bench.report import Target
from strongroom import Client, StrongroomError
from strongroom.crypto.v1.crypto_pb2 import DecryptRequest

TARGETS = {"hsm_generation_decrypt_p99_vs_quiet": Target(2.0, at_most=True)}
PROVIDER = "pkcs11"
"""The mesh's."""

_AT_ONCE = 16


def measure(town: Town, *, quick: bool) -> dict[str, float]:
    """Decrypts under a key in the token, alone and while another tenant has keys made."""
    hostile = town.tenant("hostile")
    key = town.victim.keys.create("in-token", protection_level="HSM").name
    sealed = town.victim.encrypt(key, bytes(64)).ciphertext
    decrypt = Method(
        town.mesh.address("crypto", "public"),
        "/strongroom.crypto.v1.CryptoService/Decrypt",
        DecryptRequest(ciphertext=sealed).SerializeToString(),
        town.victim.access.sessions.create().token,
    )
    rounds, seconds = (1, 3.0) if quick else (3, 10.0)
    return town.beside(
        "hsm_generation_decrypt", lambda: _generating(hostile), rounds=rounds, seconds=seconds, method=decrypt
    )


@contextmanager
def _generating(hostile: Client) -> Iterator[None]:
    numbers, stop = itertools.count(), threading.Event()

    def make() -> None:
        elsewhere(threading.get_native_id())
        while not stop.is_set():
            name = f"rsa-{id(stop):x}-{next(numbers)}"
            with suppress(StrongroomError):
                hostile.keys.create(name, spec="RSA_4096", usage="SIGN_VERIFY", protection_level="HSM")
            stop.wait(0.05)

    threads = [threading.Thread(target=make, daemon=True) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
