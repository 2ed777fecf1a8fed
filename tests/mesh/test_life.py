"""The life of a service's process: configuration, start, certificates, and an end in order."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2

from deploy.dev.mesh import SOURCE, Mesh
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of, until

LAME_DUCK_SECONDS = 1.5


def health(mesh: Mesh, service: str) -> Any:
    """What the process itself says, on a connection of its own."""
    with mesh.channel(service, "public", mesh.trust) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return check(health_pb2.HealthCheckRequest(), timeout=2).status


def serial_number(mesh: Mesh, service: str) -> bytes | None:
    """The DER of the certificate that a service shows now."""
    host, _, port = mesh.address(service, "public").partition(":")
    context = ssl.create_default_context(cafile=str(mesh.authority.trust))
    context.check_hostname = False
    with socket.create_connection((host, int(port)), timeout=5) as plain, context.wrap_socket(plain) as secured:
        return secured.getpeercert(binary_form=True)


def run_service(service: str, command: str, config: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", f"services.{service}", command, "--config", str(config)]
    return subprocess.run(arguments, check=False, cwd=SOURCE, capture_output=True, text=True, timeout=30)


def test_on_sigterm_health_turns_first_and_calls_in_flight_finish(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(settings={"crypto": {"listeners": {"lame_duck_seconds": LAME_DUCK_SECONDS}}})
    with client_of(mesh) as client:
        client.keys.create("payments")
        client.encrypt("payments", b"warm")
        mesh.suspend("audit")
        answers = []
        in_flight = threading.Thread(target=lambda: answers.append(client.encrypt("payments", b"in flight")))
        in_flight.start()
        time.sleep(0.2)
        codes = []
        ending = threading.Thread(target=lambda: codes.append(mesh.terminate("crypto")))
        ending.start()

        until(lambda: health(mesh, "crypto") == health_pb2.HealthCheckResponse.NOT_SERVING, LAME_DUCK_SECONDS)
        assert not answers
        mesh.resume("audit")
        in_flight.join()
        ending.join()

        assert codes == [0]
        assert len(answers) == 1
        assert client.audit.events.get(answers[0].event_id).outcome == "ALLOWED"


def test_new_certificates_are_shown_without_a_restart(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh()
    pids = {service: mesh.process(service).pid for service in ("keystore", "crypto", "audit")}
    with client_of(mesh) as client:
        client.keys.create("payments")
        before = {service: serial_number(mesh, service) for service in pids}
        for service in pids:
            files = mesh.authority.issue(f"service/{service}")
            files.certificate.unlink()
            mesh.authority.issue(f"service/{service}")

        for service in pids:
            until(lambda service=service: serial_number(mesh, service) != before[service])  # type: ignore[misc]
        until(lambda: not reason_of(lambda: client.encrypt("payments", b"after")))
        client.keys.create("another")
    assert {service: mesh.process(service).pid for service in pids} == pids


def test_a_second_start_finds_all_data(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh()
    with client_of(mesh) as client:
        client.keys.create("payments")
        sealed = client.encrypt("payments", b"plaintext")
        client.secrets.create("db.password", b"hunter2")
    mesh.stop()
    mesh.start()
    with client_of(mesh) as client:
        assert client.decrypt(sealed.ciphertext).plaintext == b"plaintext"
        assert client.secrets.get_value("db.password").value == b"hunter2"
        assert client.audit.events.get(sealed.event_id).id == sealed.event_id


def test_a_configuration_with_errors_names_all_of_them_at_once(tmp_path: Path) -> None:
    config = tmp_path / "crypto.toml"
    config.write_text('[listeners.public]\naddress = "nowhere"\n[telemetry]\nsample_ratio = 7\n[surprise]\n')
    done = run_service("crypto", "serve", config)
    assert done.returncode == 2
    for named in ("listeners.public.address", "telemetry.sample_ratio", "surprise", "tls", "provider"):
        assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_was_not_migrated_is_refused(private_mesh: PrivateMeshes, tmp_path: Path) -> None:
    mesh = private_mesh()
    content = (mesh.directory.configurations / "secrets.toml").read_text()
    config = tmp_path / "secrets.toml"
    data = f"sqlite:///{mesh.directory.data / 'secrets.db'}"
    assert data in content
    config.write_text(content.replace(data, f"sqlite:///{tmp_path / 'fresh.db'}"))
    done = run_service("secrets", "serve", config)
    assert done.returncode == 1
    assert "python -m services.secrets migrate" in done.stderr
