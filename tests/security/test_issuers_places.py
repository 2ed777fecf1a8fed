"""Where keystore goes for an OIDC issuer's keys, and what the issuer may have it keep."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.keystore.access.credentials import https_documents
from services.keystore.access.credentials.https_documents import DocumentError
from services.keystore.access.credentials.issuer_keys import IssuerKeys
from services.keystore.access.credentials.later_notes import IssuerFetches
from services.keystore.access.records.resources import OidcProvider
from services.keystore.settings import Oidc
from services.runtime.config import Database
from services.runtime.errors import StrongroomError
from services.runtime.storage.database import open_database
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.sealing import sealed

LINK_LOCAL = ("169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "[::]", "224.0.0.1", "[ff02::1]")  # noqa: S104


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a connection was begun to; none is made."""
    begun: list[str] = []

    def connect(address: tuple[str, int], *_: object) -> socket.socket:
        begun.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    return begun


@pytest.mark.parametrize("host", LINK_LOCAL)
def test_no_issuer_is_where_clouds_tell_machines_their_secrets(host: str, connected: list[str]) -> None:
    with pytest.raises(DocumentError, match="nothing is asked"):
        https_documents.get(f"https://{host}/latest/meta-data")
    assert connected == []


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "metadata.example", "0251.0376.0251.0376"])
def test_what_a_name_stands_for_counts(host: str, connected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(DocumentError, match="nothing is asked"):
        https_documents.get(f"https://{host}/")
    assert connected == []


def test_the_mesh_says_which_networks_have_no_issuer(connected: list[str]) -> None:
    refused = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
    for host in ("10.1.2.3", "[fd00::1]", "[::ffff:10.1.2.3]"):
        with pytest.raises(DocumentError, match="nothing is asked"):
            https_documents.get(f"https://{host}/", refused=refused)
    assert connected == []
    with pytest.raises(DocumentError, match="ConnectionRefusedError"):
        https_documents.get("https://192.0.2.7/", refused=refused)
    assert connected == ["192.0.2.7"]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.0.192"),
        *("[::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::a00:1]", "[2002:a00:1::]", "localhost"),
    ],
)
def test_an_issuer_is_inside_the_network_only_where_the_mesh_says_so(host: str, connected: list[str]) -> None:
    with pytest.raises(DocumentError, match="nothing is asked"):
        https_documents.get(f"https://{host}/", private=Oidc().private_networks)
    assert connected == []
    inside = [ip_network(network) for network in ("0.0.0.0/0", "::/0")]
    with pytest.raises(DocumentError, match="ConnectionRefusedError"):
        https_documents.get(f"https://{host}/", private=inside)
    assert connected


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "jwks_uri",
    [
        "https://a/\x00",
        "https://a/\ud800",
        "https://a/\x1b[2J",
        "https://a/" + "x" * 9_000,
        "http://a/",
        "https://a:x/",
    ],
    ids=lambda uri: repr(uri[:16]),
)
def test_a_document_says_no_more_than_a_caller_may(engine: Engine, jwks_uri: str) -> None:
    asked: list[str] = []

    def get(url: str, _certificates: str) -> Mapping[str, Any]:
        asked.append(url)
        return {"issuer": "https://issuer", "jwks_uri": jwks_uri}

    keys = IssuerKeys(IssuerFetches(engine), get, StillClock())
    provider = OidcProvider("accounts/a/oidcProviders/p", "https://issuer", ("a",), "", "", "", "", revision=1)
    with pytest.raises(StrongroomError, match="OIDC_PROVIDER_UNREACHABLE"):
        keys.find(provider, {"alg": "EdDSA", "kid": "one"})
    assert asked == ["https://issuer/.well-known/openid-configuration"]
