"""TLS to targets, as a secret's target asks for it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA, TargetAddress


def ssl_context(address: TargetAddress) -> ssl.SSLContext | None:
    """What a connection to the address is checked with; None where it is not protected."""
    if address.tls == TARGET_TLS_DISABLED:
        return None
    context = ssl.create_default_context(cadata=address.ca_pem or None)
    context.check_hostname = address.tls != TARGET_TLS_VERIFY_CA
    return context


def trust_file(address: TargetAddress) -> str:
    """The certificates that a connection is checked with as a file, for libraries that read them from one; the system's
    where the target gives none. It is written when it is asked for first, and ends with the process."""
    return _kept(address.ca_pem) if address.ca_pem else ssl.get_default_verify_paths().cafile or ""


@contextmanager
def memory_file(content: bytes) -> Iterator[str]:
    """A path under which this process, and no other, reads `content`. It is in no folder, so that nothing is left of it
    however the process ends."""
    descriptor = _in_memory(content)
    try:
        yield _path(descriptor)
    finally:
        os.close(descriptor)


@cache
def _kept(content: str) -> str:
    return _path(_in_memory(content.encode()))


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("strongroom")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
