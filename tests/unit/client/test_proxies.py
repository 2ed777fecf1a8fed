"""A call that went to a proxy says so: gRPC obeys the environment, and its own error names the service alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.dev.certificates import DevelopmentAuthority
from deploy.dev.topology import free_port
from strongroom import Client, ClientCertificate, StrongroomError
from strongroom.proxies import described


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_the_error_of_a_call_names_the_proxy_and_not_its_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    proxy, service = (f"127.0.0.1:{free_port()}" for _ in range(2))
    monkeypatch.setenv(variable, f"http://somebody:hunter2@{proxy}")
    files = DevelopmentAuthority(tmp_path).issue("user/admin")
    credentials = ClientCertificate(files.certificate, files.key)
    with (
        Client({"keystore": service}, credentials, trust=files.trust, account="main", timeout=3) as client,
        pytest.raises(StrongroomError) as refused,
    ):
        client.keys.get("k")
    assert f"keystore at {service} (through the proxy {proxy} of {variable}" in refused.value.message
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "exceptions", "is_direct"),
    [
        ("127.0.0.1:1", "127.0.0.1", True),
        ("127.0.0.1:1", "localhost, 127.0.0.0/8", True),
        ("keystore.mesh.example:1", ".example", True),
        ("dns:///keystore.mesh.example:1", "mesh.example", True),
        ("[::1]:1", "::1", True),
        ("a.example:1,b.test:2", ".example", False),
        ("a.example:1,b.test:2", ".example,.test", True),
        ("127.0.0.1:1", "", False),
        ("127.0.0.1:1", "10.0.0.0/8", False),
    ],
)
def test_what_no_proxy_names_is_reached_directly(address: str, exceptions: str, *, is_direct: bool) -> None:
    environment = {"https_proxy": "http://proxy.example:3128", "no_proxy": exceptions}
    assert (described(address, environment) == address) is is_direct


def test_without_a_proxy_nothing_is_said() -> None:
    assert described("a:1", {}) == "a:1"
    assert described("a:1", {"http_proxy": ""}) == "a:1"
