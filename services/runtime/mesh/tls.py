"""TLS from files that may be replaced while the service runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from services.runtime.config import Tls


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain, its private key and the certificates it trusts, all PEM."""

    certificate: bytes
    key: bytes
    trust: bytes

    def __repr__(self) -> str:
        return "Identity(<redacted>)"


class TlsFiles:
    """The service's certificate, read again whenever one of its files has changed."""

    def __init__(self, settings: Tls) -> None:
        self.trust_domain = settings.trust_domain
        self._paths = (settings.certificate, settings.key, settings.trust)
        self._lock = threading.Lock()
        self._stamps = self._stat()
        self._identity = self._read()

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """The files: the certificate, its key, and whom to trust."""
        return self._paths

    def current(self) -> Identity:
        """What the files hold now. While a replacement is half done (unreadable files), what they held before."""
        with self._lock:
            try:
                stamps = self._stat()
                if stamps != self._stamps:
                    self._identity = self._read()
                    self._stamps = stamps
            except OSError:
                pass
            return self._identity

    def server_credentials(self, *, require_client_certificate: bool) -> grpc.ServerCredentials:
        """Credentials for a listener; each handshake sees the files as they are then."""
        loaded = self.current()
        offered = [loaded]

        def configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration(
                [(identity.key, identity.certificate)], root_certificates=identity.trust
            )

        def changed() -> grpc.ServerCertificateConfiguration | None:
            identity = self.current()
            if identity is offered[0]:
                return None
            offered[0] = identity
            return configuration(identity)

        return grpc.dynamic_ssl_server_credentials(
            configuration(loaded),
            changed,  # type: ignore[arg-type]  # None, "as before", is what gRPC documents
            require_client_authentication=require_client_certificate,
        )

    def _stat(self) -> tuple[tuple[int, int], ...]:
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in map(Path.stat, self._paths))

    def _read(self) -> Identity:
        certificate, key, trust = (path.read_bytes() for path in self._paths)
        return Identity(certificate, key, trust)


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Credentials for connecting to another service of the mesh over mTLS."""
    return grpc.ssl_channel_credentials(identity.trust, identity.key, identity.certificate)
