"""An OIDC issuer: a real HTTPS server with a discovery document and a key set. Its keys rotate, and it misbehaves as it
is told.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from deploy.dev.certificates import CertificateFiles

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/keys"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Issuer:
    """Signs tokens, and publishes the keys that verify them; `fetched` lists what was asked for, below its own path."""

    def __init__(self, files: CertificateFiles) -> None:
        self.ca_certificates = files.trust.read_text()
        self.fetched: list[str] = []
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.keys: list[dict[str, Any]] = []
        self._private: PrivateKey | None = None
        self._key_id = ""
        self._algorithm = ""
        self.rotate()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix(issuer.path)
                issuer.fetched.append(path)
                issuer.answers.get(path, issuer.answer)(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        # A port may be given out again, and a mesh takes an issuer in but once.
        self.path = f"/{uuid.uuid4()}"
        self.url = f"https://localhost:{self._server.server_port}{self.path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def rotate(self, algorithm: str = "RS256", *, keep: bool = False) -> None:
        """A new key, in place of those before or beside them."""
        made = _private_key(algorithm)
        self._private, self._algorithm = made, algorithm
        self._key_id = f"key-{time.monotonic_ns()}"
        published = {**public_jwk(made), "kid": self._key_id, "use": "sig"}
        self.keys = [*self.keys, published] if keep else [published]

    def token(self, subject: str, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for `strongroom` of the newest key, valid for ten minutes; None takes a claim away."""
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": "strongroom",
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not None}
        headers = {"kid": self._key_id} if header is None else header
        assert self._private is not None
        return jwt.encode(said, self._private, algorithm=self._algorithm, headers=headers)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """What an issuer that is well answers."""
        documents = {
            self.path + DISCOVERY: {"issuer": self.url, "jwks_uri": self.url + JWKS},
            self.path + JWKS: {"keys": self.keys},
        }
        if request.path not in documents:
            send(request, 404, b"")
        else:
            send(request, 200, json.dumps(documents[request.path]).encode())


def send(request: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    """Answers a request."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def public_jwk(key: PrivateKey) -> dict[str, Any]:
    """The public half, as a key set has it."""
    if isinstance(key, rsa.RSAPrivateKey):
        return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)


def _private_key(algorithm: str) -> PrivateKey:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        return ec.generate_private_key(curve)
    return rsa.generate_private_key(65537, 2048)
