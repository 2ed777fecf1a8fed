"""Where targets may be: what is refused by default, what rules open, and that names are resolved once."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploy.dev.certificates import CertificateFiles
from deploy.dev.configs import Configuration
from deploy.dev.topology import free_ports
from services.runtime.errors import Reason, StrongroomError
from services.runtime.outside.public_addresses import is_public
from services.secrets.core.destinations import Place, address_of
from services.secrets.rotation.rotators.reach import EVERY_ACCOUNT, NetworkRules, Reach, TargetRule
from services.secrets.settings import SecretsSettings, TargetSettings, store_places

PUBLIC = "93.184.216.34"


def reach(*rules: TargetRule, listed: tuple[str, ...] = (), own: tuple[Place, ...] = (), public: bool = True) -> Reach:
    return Reach("acme", NetworkRules(rules, public, own), (listed,) if listed else ())


def refused(found: Reach, host: str, port: int = 5432) -> bool:
    try:
        return not found.address(Place(host, port))
    except StrongroomError as error:
        assert error.reason is Reason.DESTINATION_NOT_ALLOWED, error.reason
        return True


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "192.0.2.1", "198.18.0.1", "240.0.0.1",
    ],
)  # fmt: skip
def test_addresses_inside_are_refused_by_default(address: str) -> None:
    assert refused(reach(), address)


def test_public_ones_are_not_unless_only_rules_count() -> None:
    assert reach().address(Place(PUBLIC, 5432)) == PUBLIC
    assert refused(reach(public=False), PUBLIC)
    found = address_of("2606:4700::1111")
    assert found is not None
    assert is_public(found)


def test_a_rule_opens_places_to_its_accounts_alone() -> None:
    ours = TargetRule(("acme",), ("10.0.0.0/8:5432",))
    assert reach(ours).address(Place("10.1.2.3", 5432)) == "10.1.2.3"
    assert refused(reach(ours), "10.1.2.3", 22)
    assert refused(reach(TargetRule(("other",), ("10.0.0.0/8",))), "10.1.2.3")
    assert reach(TargetRule((EVERY_ACCOUNT,), ("10.0.0.0/8",))).address(Place("10.1.2.3", 1)) == "10.1.2.3"


def test_the_meshs_own_servers_are_opened_by_name_and_port_alone() -> None:
    own = (Place("10.0.0.1", 6379),)
    assert refused(reach(TargetRule((EVERY_ACCOUNT,), ("0.0.0.0/0",)), own=own), "10.0.0.1", 6379)
    assert refused(reach(TargetRule((EVERY_ACCOUNT,), ("10.0.0.1/32",)), own=own), "10.0.0.1", 6379)
    assert refused(reach(own=(Place(PUBLIC, 6379),)), PUBLIC, 6379)
    exact = TargetRule((EVERY_ACCOUNT,), ("10.0.0.1:6379",))
    assert reach(exact, own=own).address(Place("10.0.0.1", 6379)) == "10.0.0.1"


def test_a_name_is_judged_by_what_it_resolves_to_and_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([["10.0.0.9"], [PUBLIC], ["127.0.0.1", PUBLIC]])
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(answers)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    # What the attacker's name server says first, and what it says next, are each judged and pinned.
    assert refused(reach(), "rebind.example")
    assert reach().address(Place("rebind.example", 5432)) == PUBLIC
    assert reach().address(Place("rebind.example", 5432)) == PUBLIC
    assert len(asked) == 3


def test_an_owners_list_is_asked_for_the_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved)
    assert refused(reach(listed=("10.0.0.0/8",)), "db.example")
    assert reach(listed=("93.184.0.0/16:5432",)).address(Place("db.example", 5432)) == PUBLIC
    assert reach(listed=("db.example",)).address(Place("db.example", 5432)) == PUBLIC


def test_the_configuration_names_the_meshs_own_servers() -> None:
    settings = SecretsSettings.model_validate(
        {
            "listeners": {"public": {"address": "10.0.0.5:1"}, "internal": {"address": "10.0.0.5:2"}},
            "tls": {"certificate": "a", "key": "b", "trust": "c", "trust_domain": "d"},
            "telemetry": {},
            "upstream": {"keystore": "keystore:3", "crypto": "crypto:4", "audit": "audit:5"},
            "database": {"url": "postgresql+psycopg://u:p@db.internal/secrets", "plaintext": True},
            "redis": {"url": "redis://:x@redis.internal:7/0", "plaintext": True},
            "rotation": {"refused_targets": ["vault:8"]},
        }
    )
    named = {(place.host, place.port) for place in settings.network.own}
    assert {("db.internal", 5432), ("redis.internal", 7), ("keystore", 3), ("crypto", 4), ("audit", 5)} <= named
    assert {("10.0.0.5", 1), ("10.0.0.5", 2), ("vault", 8)} <= named
    # Whatever else listens where the mesh's services do is theirs.
    assert {("keystore", 0), ("crypto", 0), ("audit", 0)} <= named


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("postgresql+psycopg://u:p@db.internal/secrets", {("db.internal", 5432)}),
        ("postgresql+psycopg://u:p@10.0.0.5:5433/secrets", {("10.0.0.5", 5433)}),
        ("postgresql+psycopg://u:p@[fd00::5]:5433/secrets", {("fd00::5", 5433)}),
        ("postgresql+psycopg://u:p@a:1,b:2/secrets", {("a", 1), ("b", 2)}),
        ("postgresql+psycopg:///secrets?host=10.0.0.5", {("10.0.0.5", 5432)}),
        ("postgresql+psycopg:///secrets?host=10.0.0.5:5433&user=u", {("10.0.0.5", 5433)}),
        ("postgresql+psycopg:///secrets?host=a,b&port=1,2", {("a", 1), ("a", 2), ("b", 1), ("b", 2)}),
        ("postgresql+psycopg:///secrets?host=a&host=b", {("a", 5432), ("b", 5432)}),
        ("postgresql+psycopg:///secrets?hostaddr=10.0.0.5&host=db", {("10.0.0.5", 5432), ("db", 5432)}),
        ("postgresql+psycopg:///secrets?host=fd00::5", {("fd00::5", 5432)}),
        ("postgresql+psycopg:///secrets?host=/var/run/postgresql", set()),
        ("postgresql+psycopg://u@%2Fvar%2Frun/secrets", set()),
        ("sqlite:////var/lib/secrets.db", set()),
        ("sqlite:///secrets.db", set()),
    ],
)
def test_a_store_is_seen_whichever_way_its_url_names_it(url: str, places: set[tuple[str, int]]) -> None:
    assert {(place.host, place.port) for place in store_places(url, 5432)} == places


def test_a_rule_names_spiffe_ids_beside_places() -> None:
    rule = TargetSettings(accounts=["acme"], places=["10.0.0.0/8:7443", "spiffe://d/team", "spiffe://d/other"]).rule
    found = reach(rule, TargetRule(("other",), (), ("spiffe://d/not-ours",)))
    assert found.spiffe_ids == {"spiffe://d/team", "spiffe://d/other"}
    # An id opens no address.
    assert found.address(Place("10.0.0.1", 7443))
    assert refused(found, "10.0.0.1", 7444)
    assert not reach(TargetRule(("other",), (), ("spiffe://d/not-ours",))).spiffe_ids
    assert reach(TargetRule((EVERY_ACCOUNT,), (), ("spiffe://d/x",))).spiffe_ids == {"spiffe://d/x"}


@pytest.mark.parametrize(
    "entry", ["spiffe://", "spiffe://d", "spiffe:x", "spiffe://D/x", "spiffe://d/*", "spiffe://d/a b"]
)
def test_what_is_no_spiffe_id_is_told_at_start(entry: str) -> None:
    with pytest.raises(ValidationError):
        TargetSettings(accounts=["acme"], places=[entry])


STORES = {
    "keystore": "postgresql+psycopg://u:p@10.0.1.1:5432/keystore",
    "secrets": "postgresql+psycopg://u:p@10.0.1.2:5432/secrets",
    "audit": "postgresql+psycopg://u:p@10.0.1.3:6000/audit",
}


@pytest.mark.parametrize(("host", "port"), [("10.0.1.1", 5432), ("10.0.1.3", 6000), ("127.0.0.1", 6379)])
def test_the_development_mesh_refuses_the_stores_of_every_service(host: str, port: int, tmp_path: Path) -> None:
    topology = free_ports()
    files = CertificateFiles(tmp_path / "c", tmp_path / "k", tmp_path / "t")
    made = Configuration(topology, dict.fromkeys(STORES, files), STORES, {}, tmp_path).of("secrets")
    made["rotation"]["targets"].append({"accounts": ["*"], "places": ["10.0.0.0/8"]})
    settings = SecretsSettings.model_validate({**made, "database": {**made["database"], "plaintext": True}})
    port = topology.redis_port if port == 6379 else port
    assert refused(Reach("acme", settings.network), host, port)
    assert Reach("acme", settings.network).address(Place("10.0.2.1", 5432))


def names(monkeypatch: pytest.MonkeyPatch, known: Mapping[str, str]) -> None:
    """All that is known of names; addresses are."""
    resolve = socket.getaddrinfo

    def answer(host: str, port: int, **asked: Any) -> Any:
        if host not in known and address_of(host) is None:
            raise socket.gaierror(socket.EAI_AGAIN, "not now")
        return resolve(known.get(host, host), port, **asked)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def reason_at(found: Reach, host: str, port: int = 5432) -> str:
    try:
        found.address(Place(host, port))
    except StrongroomError as error:
        assert error.reason is not Reason.DESTINATION_NOT_ALLOWED or error.metadata["incurable"]
        return error.reason
    return ""


@pytest.mark.parametrize("port", [0, 5432])
def test_an_own_server_that_nobody_knows_the_address_of_may_be_any(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of names opens nothing, and ends: what is named exactly, or on another port, works all the time."""
    rules = (TargetRule((EVERY_ACCOUNT,), ("10.0.0.0/8", "10.0.0.2:5432", "ours.example:5432", "ours.example:80")),)
    found = Reach("acme", NetworkRules(rules, own=(Place("keystore.svc", port),)))
    known = {"ours.example": "10.0.0.3"}
    names(monkeypatch, known)
    assert reason_at(found, "10.0.0.1") == "TARGET_UNREACHABLE"
    assert reason_at(found, PUBLIC) == "TARGET_UNREACHABLE"
    assert reason_at(found, "keystore.svc") == "TARGET_UNREACHABLE"
    assert reason_at(found, "10.0.0.2") == reason_at(found, "ours.example") == ""
    if port:
        assert reason_at(found, "10.0.0.1", 22) == reason_at(found, PUBLIC, 443) == ""
    known["keystore.svc"] = "10.0.0.1"
    assert reason_at(found, "10.0.0.1") == reason_at(found, "keystore.svc") == "DESTINATION_NOT_ALLOWED"
    assert reason_at(found, "10.0.0.4") == reason_at(found, PUBLIC) == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "0.0.0.0", "::ffff:127.0.0.1", "own"])  # noqa: S104
def test_what_this_machine_listens_on_is_own_at_each_of_its_addresses(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the kernel says what this machine would send from.
        probe.connect((PUBLIC, 9))
        here = probe.getsockname()[0] if host == "own" else host
    everything = TargetRule((EVERY_ACCOUNT,), ("0.0.0.0/0", "::/0"))
    found = Reach("acme", NetworkRules((everything,), own=(Place("127.0.0.1", 7103),)))
    assert reason_at(found, here, 7103) == "DESTINATION_NOT_ALLOWED"
    assert reason_at(found, here, 7199) == ""


def test_every_replica_that_is_called_is_the_meshs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, {"k-1": "10.2.0.1", "k-2": "10.2.0.2", "audit": "10.2.0.3", "hsm": "10.2.0.4"})
    settings = SecretsSettings.model_validate(
        {
            "listeners": {
                "public": {"address": "[::]:1"},
                "internal": {"address": "[fd00::1]:2"},
                "health": {"address": "10.1.1.9:6"},
            },
            "tls": {"certificate": "a", "key": "b", "trust": "c", "trust_domain": "d"},
            "upstream": {"keystore": "k-1:3,k-2:3", "crypto": "10.1.1.1:4,10.1.1.2:5", "audit": "audit:5"},
            "database": {"url": "sqlite:///x.db"},
            "rotation": {"refused_targets": ["hsm", "10.9.0.0/24", "10.8.0.1:7"]},
        }
    )
    named = {(place.host, place.port) for place in settings.network.own}
    assert {
        ("k-1", 3),
        ("k-2", 3),
        ("10.1.1.1", 4),
        ("10.1.1.2", 5),
        ("fd00::1", 2),
        ("127.0.0.1", 1),
        ("hsm", 0),
    } <= named
    network = NetworkRules(
        (TargetRule(("*",), ("10.0.0.0/8",)),), own=settings.network.own, refused=settings.network.refused
    )
    found = Reach("acme", network)
    assert all(refused(found, *place) for place in (("10.9.0.7", 22), ("10.8.0.1", 7), ("10.1.1.2", 5)))
    # Their other listeners, whichever way somebody comes to them.
    assert all(refused(found, *place) for place in (("10.2.0.1", 7101), ("10.1.1.2", 22), ("audit", 9)))
    assert all(refused(found, *place) for place in (("10.2.0.4", 1792), ("10.1.1.9", 6)))
    assert found.address(Place("10.8.0.1", 8)) == "10.8.0.1"
