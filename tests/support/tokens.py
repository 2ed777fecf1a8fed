"""PKCS#11 tokens to test with: SoftHSM2's, and Kryoptic's, which is another implementation altogether."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import Meter, NoOpMeter

from deploy.dev import softhsm
from deploy.dev.files import private_directory, write_file
from deploy.dev.pkcs11_faults import FunctionTable
from services.crypto.providers.pkcs11 import provider
from services.crypto.providers.pkcs11.module import Module
from services.crypto.providers.pkcs11.provider import Pkcs11Provider
from services.crypto.providers.pkcs11.root import RootProbe
from services.crypto.providers.pkcs11.sessions import PoolOptions, SessionPool
from services.crypto.providers.pkcs11.tokens import TokenChoice
from services.runtime.config import Telemetry as TelemetrySettings
from services.runtime.telemetry import Telemetry
from tools import kryoptic

_SECURITY_OFFICER = 0

SOFTHSM, KRYOPTIC = "softhsm2", "kryoptic"
MODULES = (SOFTHSM, KRYOPTIC)
LABEL = softhsm.LABEL


@dataclass(frozen=True)
class Token:
    """A fresh token of one of MODULES."""

    kind: str
    module: Path
    pin: str
    pin_file: Path
    objects: Path
    """The directory that holds everything in the token."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Crypto's `[provider]` table."""
        return {
            "kind": "pkcs11",
            "module": str(self.module),
            "token_label": LABEL,
            "pin_file": str(self.pin_file),
        }


def open_token(kind: str, directory: Path) -> Token:
    """A token without a root key in `directory`. Skips the test where the module is not installed."""
    return _softhsm(directory) if kind == SOFTHSM else _kryoptic(directory)


@contextmanager
def pool_of(
    token: Token, *, size: int = 1, pin: str | None = None, meter: Meter | None = None
) -> Iterator[SessionPool]:
    """The pool of sessions that crypto would have with the token, in this process.

    A module serves one pool at a time: hold it for a test module at most.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name, value in token.environment.items():
            environment.setenv(name, value)
        options = PoolOptions(TokenChoice(LABEL), pin or token.pin, size)
        module = Module(token.module)
        pool = SessionPool(module, options, RootProbe(), meter or NoOpMeter("tests"))
        try:
            yield pool
        finally:
            pool.close()


@contextmanager
def provider_of(
    token: Token, *, size: int = 1, meter: Meter | None = None
) -> Iterator[tuple[SessionPool, Pkcs11Provider]]:
    """The pool, and a provider on it, whose root key is made beforehand when the token has none."""
    with pool_of(token) as initial:
        provider.initialize(initial)
    with pool_of(token, size=size, meter=meter) as pool:
        yield pool, provider_in(pool)


@contextmanager
def softhsm_pool(directory: Path) -> Iterator[SessionPool]:
    """One session with a new SoftHSM2 token in `directory`, without a root key yet. Skips the test without SoftHSM2."""
    with pool_of(open_token(SOFTHSM, directory)) as pool:
        yield pool


def provider_in(pool: SessionPool) -> Pkcs11Provider:
    """The provider as crypto has it. The token has a root key."""
    return Pkcs11Provider(pool, Telemetry("crypto", TelemetrySettings()))


def _softhsm(directory: Path) -> Token:
    module = softhsm.find_module()
    if module is None:
        pytest.skip("SoftHSM2 (libsofthsm2.so, softhsm2-util) is not installed")
    token = softhsm.open_token(directory, module)
    return Token(
        SOFTHSM,
        module,
        token.pin_file.read_text(),
        token.pin_file,
        directory / "tokens",
        environment=token.environment,
    )


def _kryoptic(directory: Path) -> Token:
    module = kryoptic.find_module()
    if module is None:
        pytest.skip("Kryoptic's module is not built: `python -m tools.kryoptic`")
    objects = private_directory(private_directory(directory) / "kryoptic")
    configuration, pin_file = directory / "kryoptic.conf", directory / "pin"
    slot = {"slot": 1, "dbtype": "sqlite", "dbargs": str(objects / "token.sql")}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in slot.items())
    write_file(configuration, f"[[slots]]\n{lines}")
    write_file(pin_file, secrets.token_hex(16), mode=0o600)
    environment = {"KRYOPTIC_CONF": str(configuration)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KRYOPTIC_CONF", str(configuration))
        _make_token(Module(module), FunctionTable(module), slot=1, pin=pin_file.read_bytes())
    return Token(KRYOPTIC, module, pin_file.read_text(), pin_file, objects, environment)


def _make_token(module: Module, table: FunctionTable, slot: int, pin: bytes) -> None:
    """What softhsm2-util does for SoftHSM2: a token with its label and PINs, by the calls that PKCS#11 has for that."""
    so_pin = pin[::-1]
    module.initialize()
    table.succeed("C_InitToken", slot, so_pin, len(so_pin), LABEL.encode().ljust(32))
    session = table.opened(slot)
    table.succeed("C_Login", session, _SECURITY_OFFICER, so_pin, len(so_pin))
    table.succeed("C_InitPIN", session, pin, len(pin))
    module.finalize()
