"""TLS to targets, as a secret's target asks for it."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA, TargetAddress


def ssl_context(address: TargetAddress) -> ssl.SSLContext | None:
    """What a connection to the address is checked with; None where it is not protected."""
    if address.tls == TARGET_TLS_DISABLED:
        return None
    context = ssl.create_default_context(cadata=address.ca_pem or None)
    context.check_hostname = address.tls != TARGET_TLS_VERIFY_CA
    return context


@contextmanager
def trust_file(address: TargetAddress) -> Iterator[str]:
    """The certificates that a connection is checked with as a file, for libraries that read them from one; the system's
    where the target gives none."""
    if not address.ca_pem:
        yield ssl.get_default_verify_paths().cafile or ""
        return
    with tempfile.NamedTemporaryFile("w", prefix="strongroom-ca-", suffix=".pem") as file:
        file.write(address.ca_pem)
        file.flush()
        yield file.name
