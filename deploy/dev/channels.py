"""Channels into the mesh from outside, for tests, benchmarks and the wait until a service serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from deploy.dev.certificates import CertificateFiles

_OPTIONS: list[tuple[str, Any]] = [
    # A service that was restarted is found again at once.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    # Each channel is a connection of its own, so that several of them reach several workers.
    ("grpc.use_local_subchannel_pool", 1),
    # Nothing of the mesh is behind a proxy of this machine's.
    ("grpc.enable_http_proxy", 0),
    # A refusal is to be seen, not hidden by a retry.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 16 << 20),
]


@dataclass(frozen=True)
class Trust:
    """The authority that a connection checks the server against, for a client without a certificate."""

    trust: Path


def open_channel(address: str, identity: CertificateFiles | Trust) -> grpc.Channel:
    """A TLS channel to `address`; mTLS where `identity` has a certificate. The caller closes it."""
    trust = identity.trust.read_bytes()
    if isinstance(identity, CertificateFiles):
        credentials = grpc.ssl_channel_credentials(trust, identity.key.read_bytes(), identity.certificate.read_bytes())
    else:
        credentials = grpc.ssl_channel_credentials(trust)
    return grpc.secure_channel(address, credentials, options=_OPTIONS)
