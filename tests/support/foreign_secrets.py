"""Servers that speak the HTTP APIs of Vault's key/value engines and of AWS Secrets Manager, as far as reading goes."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

VAULT_TOKEN = "hvs.of-the-tests"
PAGE = 2


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # the base class's name
        del format

    def answer(self, code: int, document: object) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Vault:
    """A key/value engine at `secret/`: each secret by its path, None for one whose newest version is deleted."""

    def __init__(self, secrets: Mapping[str, Mapping[str, Any] | None], *, version: int = 2) -> None:
        self.secrets = dict(secrets)
        self.version = version
        self.unreadable: set[str] = set()
        self.written: dict[str, str] = {}
        """What stands in an answer in place of a secret's fields."""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers requests."""
        vault = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                self._serve(self.command)

            def do_LIST(self) -> None:
                self._serve("LIST")

            def _serve(self, method: str) -> None:
                parts = urlsplit(self.path)
                if "list" in parse_qs(parts.query):
                    method = "LIST"
                if self.headers.get("X-Vault-Token") != VAULT_TOKEN:
                    self.answer(403, {"errors": ["permission denied"]})
                    return
                code, document = vault.answer(method, unquote(parts.path).removeprefix("/v1/secret").strip("/"))
                self.answer(code, document)

        return Handler

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        """The status and document of one request."""
        kind, _, name = path.partition("/") if self.version == 2 else ("data", "", path)
        if method == "LIST":
            return self._listed(name)
        if name in self.unreadable:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        if name not in self.secrets or kind != "data":
            return 404, {"errors": []}
        fields = self.secrets[name]
        if name in self.written:
            data = self.written[name]
            if self.version == 2:
                data = '{"metadata": {"custom_metadata": null, "version": 1}, "data": ' + data + "}"
            return 200, f'{{"request_id": "x", "data" : {data}, "warnings": null}}'.encode()
        if self.version == 1:
            return 200, {"data": fields}
        metadata: dict[str, Any] = {
            "version": 3,
            "deletion_time": "" if fields else "2026-01-01T00:00:00Z",
            "destroyed": False,
        }
        metadata["custom_metadata"] = {"team": "shop"} if fields else None
        return (200 if fields is not None else 404), {"data": {"data": fields, "metadata": metadata}}

    def _listed(self, folder: str) -> tuple[int, Any]:
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        below = [name.removeprefix(prefix) for name in self.secrets if name.startswith(prefix)]
        keys = {name.partition("/")[0] + ("/" if "/" in name else "") for name in below}
        return (200, {"data": {"keys": sorted(keys)}}) if keys else (404, {"errors": []})


class Aws:
    """Secrets Manager: each secret by its name, text or bytes."""

    def __init__(self, secrets: Mapping[str, str | bytes | None]) -> None:
        self.secrets = dict(secrets)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers requests."""
        aws = self

        class Handler(_Quiet):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                action = self.headers["X-Amz-Target"].removeprefix("secretsmanager.")
                if "Credential=" not in self.headers.get("Authorization", ""):
                    self.answer(400, {"__type": "AccessDeniedException"})
                    return
                code, document = aws.answer(action, request)
                self.answer(code, document)

        return Handler

    def answer(self, action: str, request: Mapping[str, Any]) -> tuple[int, Any]:
        """The status and document of one request."""
        if action == "ListSecrets":
            return 200, self._page(int(request.get("NextToken", "0")))
        value = self.secrets.get(str(request["SecretId"]))
        if value is None:
            return 400, {"__type": "ResourceNotFoundException", "Message": "Secrets Manager can't find it."}
        if isinstance(value, bytes):
            return 200, {"Name": request["SecretId"], "SecretBinary": b64encode(value).decode()}
        return 200, {"Name": request["SecretId"], "SecretString": value}

    def _page(self, start: int) -> dict[str, Any]:
        names = sorted(self.secrets)
        page: dict[str, Any] = {
            "SecretList": [
                {
                    "Name": name,
                    "Description": f"about {name}",
                    "Tags": [{"Key": "team", "Value": "shop"}, {"Key": "aws:made-by", "Value": "x"}],
                }
                for name in names[start : start + PAGE]
            ]
        }
        if start + PAGE < len(names):
            page["NextToken"] = str(start + PAGE)
        return page


@contextmanager
def serving(what: Vault | Aws) -> Iterator[str]:
    """Its URL, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), what.handler())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
