"""The doors in deploy/k8s hold together: with their settings, and with the services that take sessions from them."""

from __future__ import annotations

import pytest

from deploy.dev.configs import BEHIND_DOORS, DOORS, SESSIONS
from services.doors.settings import DoorsSettings
from services.runtime.config import load
from tests.unit.deploy.test_k8s import (
    BASE,
    OVERLAYS,
    configuration,
    containers,
    mebibytes,
    named,
    patches,
    rule_pods,
    spiffe_ids,
)

CONFIGURATION = BASE / DOORS / "doors.toml"


def settings(monkeypatch: pytest.MonkeyPatch) -> DoorsSettings:
    """The settings as the pod has them in production."""
    for patch in patches(OVERLAYS[1]):
        if patch["metadata"]["name"] == DOORS:
            for container in containers(patch["spec"]["template"]["spec"]):
                for variable in container.get("env", ()):
                    monkeypatch.setenv(variable["name"], variable["value"])
    return load(DoorsSettings, DOORS, CONFIGURATION)


def pod() -> dict[str, object]:
    """The pod of the base."""
    found: dict[str, object] = named(BASE, "Deployment", DOORS)["spec"]["template"]["spec"]
    return found


def test_the_configuration_loads_and_the_pod_has_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = settings(monkeypatch)
    assert loaded.telemetry.otlp_endpoint.startswith("https://")
    (container,) = containers(pod())
    assert container["args"] == ["services.doors", "serve", "--config", "/etc/strongroom/config/doors.toml"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}  # type: ignore[attr-defined]
    assert volumes[mounted["/etc/strongroom/config"]]["configMap"]["name"] == "doors-config"
    certificate = named(BASE, "Certificate", DOORS)["spec"]
    assert volumes[mounted["/etc/strongroom/tls"]]["secret"]["secretName"] == certificate["secretName"]
    files = (loaded.tls.certificate, loaded.tls.key, loaded.tls.trust)
    assert list(map(str, files)) == [f"/etc/strongroom/tls/{name}" for name in ("tls.crt", "tls.key", "ca.crt")]
    assert set(certificate["uris"]) == spiffe_ids(DOORS)
    assert not loaded.vault.listener.plaintext


def test_ports_of_listener_pod_service_and_probes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(settings(monkeypatch).vault.listener.address.rpartition(":")[2])
    (container,) = containers(pod())
    assert container["ports"] == [{"name": "vault", "containerPort": port}]
    (offered,) = named(BASE, "Service", DOORS)["spec"]["ports"]
    assert (offered["port"], offered["targetPort"]) == (port, "vault")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert (asked["scheme"], asked["port"]) == ("HTTPS", "vault")
    # A door whose mesh is away takes no traffic, and is not started again for it.
    assert container["readinessProbe"]["httpGet"]["path"] == "/v1/sys/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/v1/sys/init"
    exposed = (BASE.parents[1] / "docker" / "Dockerfile").read_text()
    assert f"EXPOSE 7101 7102 7103 7104 {port}\n" in exposed


def test_the_network_lets_through_what_the_configurations_say(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = settings(monkeypatch).upstream.model_dump(exclude={"engine"})
    policy = named(BASE, "NetworkPolicy", DOORS)["spec"]
    assert rule_pods(policy["egress"], "to", 7103) == set(upstream) == set(BEHIND_DOORS)
    for service, address in upstream.items():
        assert str(address) == f"{service}-internal:7103"
        ingress = named(BASE, "NetworkPolicy", service)["spec"]["ingress"]
        assert DOORS in rule_pods(ingress, "from", "internal")


def test_the_services_behind_them_take_their_callers_sessions_and_no_others() -> None:
    for service in ("keystore", "crypto", "secrets", "audit"):
        internal = configuration(service)["listeners"]["internal"]
        wanted = spiffe_ids(DOORS) if service in BEHIND_DOORS else set()
        assert set(internal.get("may_pass_on", ())) == wanted
        # A cluster that wants logins by certificate says so itself.
        assert "may_present_certificates" not in internal
        holders = {name for name, ids in internal.get("allow", {}).items() if spiffe_ids(DOORS) & set(ids)}
        assert holders == ({SESSIONS} if service == "keystore" else set())


def test_a_pod_has_time_to_drain_and_memory_for_every_body(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = settings(monkeypatch).vault.listener
    (container,) = containers(pod())
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    grace = pod()["terminationGracePeriodSeconds"]
    assert grace >= int(pause) + 2 * listener.drain_seconds + 10  # type: ignore[operator]
    assert mebibytes(container["resources"]["limits"]["memory"]) >= 120 + 4 * listener.max_held_mib
