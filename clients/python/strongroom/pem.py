"""The PEM files that connections are made with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import grpc

from strongroom.credentials import AssumedRole, CertificateSession, ClientCertificate, Credentials
from strongroom.errors import StrongroomError

Stamps = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Pem:
    """PEM files to connect with. Without `trust`, the system's certificate authorities are trusted."""

    trust: Path | None
    certificate: Path | None
    key: Path | None

    @classmethod
    def of(cls, trust: Path | None, credentials: Credentials | None) -> Pem:
        """The files that go with `credentials`."""
        while isinstance(credentials, AssumedRole):
            credentials = credentials.source
        if isinstance(credentials, ClientCertificate | CertificateSession):
            return cls(trust, credentials.certificate, credentials.key)
        return cls(trust, None, None)

    def stamps(self) -> Stamps | None:
        """What differs once a file was replaced; None where one is not there."""
        try:
            files = [path.stat() for path in (self.trust, self.certificate, self.key) if path]
        except OSError:
            return None
        return tuple((file.st_mtime_ns, file.st_ino) for file in files)

    def whole_credentials(self, stamps: Stamps) -> grpc.ChannelCredentials | None:
        """Credentials from files that are whole and fit each other, as long as they are those with `stamps`; else None.

        gRPC itself takes a certificate with another's key, or half a file, and connects nowhere with it.
        """
        import ssl

        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if self.trust:
                context.load_verify_locations(self.trust)
            if self.certificate and self.key:
                context.load_cert_chain(self.certificate, self.key, lambda: "")  # else it would ask the terminal
            credentials = self.channel_credentials()
        except (OSError, ValueError, StrongroomError):
            return None
        return credentials if self.stamps() == stamps else None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials from what the files hold now. Raises CREDENTIALS_UNREADABLE, also for what is none: gRPC itself
        would say of a file that is no PEM only that there is no connection.
        """
        try:
            trust, key, certificate = (
                path.read_bytes() if path else None for path in (self.trust, self.key, self.certificate)
            )
        except OSError as error:
            raise StrongroomError(
                "CREDENTIALS_UNREADABLE", f"{error.filename}: {error.strerror}", code="FAILED_PRECONDITION"
            ) from error
        for path, content, kind in (
            (self.trust, trust, b"CERTIFICATE"),
            (self.certificate, certificate, b"CERTIFICATE"),
            (self.key, key, b"PRIVATE KEY"),
        ):
            if content is not None and not re.search(rb"-----BEGIN [A-Z ]*%s-----" % kind, content):
                raise StrongroomError(
                    "CREDENTIALS_UNREADABLE",
                    f"{path}: holds no {kind.decode().lower()} in PEM",
                    code="FAILED_PRECONDITION",
                )
        return grpc.ssl_channel_credentials(trust, key, certificate)
