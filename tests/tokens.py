"""A SoftHSM2 token in the test's own process, for what no service would let a test see or do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deploy.dev import softhsm
from services.crypto.providers.pkcs11 import Pkcs11Provider
from services.crypto.providers.pkcs11_sessions import SessionPool
from services.runtime.config import Telemetry as TelemetrySettings
from services.runtime.telemetry import Telemetry


@contextmanager
def softhsm_pool(directory: Path) -> Iterator[SessionPool]:
    """One session with a new token in `directory`, without a root key yet. Skips the test without SoftHSM2.

    The module serves one token at a time: hold it for a test module at most.
    """
    module = softhsm.find_module()
    if module is None:
        pytest.skip("SoftHSM2 (libsofthsm2.so, softhsm2-util) is not installed")
    token = softhsm.open_token(directory, module)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in token.environment.items():
            environment.setenv(name, value)
        with closing(SessionPool(token.module, token.label, token.pin_file.read_text(), 1)) as pool:
            yield pool


def provider_in(pool: SessionPool) -> Pkcs11Provider:
    """The provider as crypto has it. The token has a root key."""
    return Pkcs11Provider(pool, Telemetry("crypto", TelemetrySettings()))
