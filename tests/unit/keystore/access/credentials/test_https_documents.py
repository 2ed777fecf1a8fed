"""Documents from servers that do not mean well."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from services.keystore.access.credentials import https_documents
from services.keystore.access.credentials.https_documents import DocumentError


class SlowServer:
    """Hands each connection to `behave`, before TLS or after it."""

    def __init__(self, files: CertificateFiles) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.certificate, files.key)
        self.ca_certificates = files.trust.read_text()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._socket.getsockname()[1]}/document"

    def serve(self, behave: Callable[[socket.socket], None]) -> None:
        def answer() -> None:
            with suppress(OSError):
                connection, _ = self._socket.accept()
                with connection:
                    behave(connection)

        threading.Thread(target=answer, daemon=True).start()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SlowServer]:
    server = SlowServer(DevelopmentAuthority(tmp_path / "authority").issue("service/issuer"))
    yield server
    server.close()


def drip(connection: socket.socket, content: bytes) -> None:
    while True:
        connection.sendall(content)
        time.sleep(0.05)


def test_a_handshake_that_never_ends_is_given_up(server: SlowServer) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # a ServerHello of 16,380 bytes
        drip(connection, b"\x03")

    server.serve(answer)
    with pytest.raises(DocumentError, match="too long"):
        https_documents.get(server.url, server.ca_certificates, seconds=0.5)


def test_headers_that_never_end_are_given_up(server: SlowServer) -> None:
    def answer(connection: socket.socket) -> None:
        with server.context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(b"HTTP/1.1 200 OK\r\nX-")
            drip(secured, b"a")

    server.serve(answer)
    with pytest.raises(DocumentError, match="too long"):
        https_documents.get(server.url, server.ca_certificates, seconds=0.5)


def test_a_server_that_hangs_up_is_not_said_to_be_slow(server: SlowServer) -> None:
    server.serve(lambda connection: connection.close())
    with pytest.raises(DocumentError) as error:
        https_documents.get(server.url, server.ca_certificates, seconds=5)
    assert "too long" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://issuer", "file:///etc/passwd", "https://", "https://user:secret@issuer/", "ftp://issuer"]
)
def test_nothing_but_https_is_fetched(url: str) -> None:
    with pytest.raises(DocumentError, match="no https URL"):
        https_documents.get(url)


@pytest.mark.parametrize("url", ["https://[::1", "https://issuer:port/", "https://issuer:99999/"])
def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(DocumentError, match="cannot be fetched"):
        https_documents.get(url)


def test_a_url_that_would_smuggle_a_header_is_not_fetched(server: SlowServer) -> None:
    server.serve(lambda connection: drip(connection, b"\x16"))
    with pytest.raises(DocumentError):
        https_documents.get(server.url + " HTTP/1.1\r\nX: y", server.ca_certificates, seconds=0.5)


def test_authorities_that_are_none_are_told(server: SlowServer) -> None:
    server.serve(lambda connection: connection.close())
    with pytest.raises(DocumentError, match="SSLError"):
        https_documents.get(server.url, "no certificate", seconds=0.5)
