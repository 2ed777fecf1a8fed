"""Real targets, each started once, and labs to rotate secrets in them."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from deploy.dev.directory import MeshDirectory
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.postgres import PostgresCluster
from deploy.dev.redis_server import find_redis, redis_command, wait_for_redis
from deploy.dev.topology import free_port
from services.runtime.mesh.tls import TlsFiles
from services.secrets.rotation.targets.workers import StepLimits, TargetWorkers
from tests.support.rotation import servers
from tests.support.rotation.lab import Lab, Place
from tests.support.rotation.servers import Server, SshServer, TlsServer
from tests.support.rotation.subjects import (
    ClientKeys,
    Generic,
    Mysql,
    Postgresql,
    RedisAcl,
    Remote,
    Ssh,
    Subject,
    TeamRotator,
    serve_rotator,
    tls_files,
)

SUBJECTS = (
    "generic",
    "postgresql",
    "postgresql-master",
    "postgresql-dual",
    "mysql",
    "mysql-dual",
    "redis",
    "redis-master",
    "ssh",
    "client-key",
    "grpc",
)
_numbers = itertools.count()


@pytest.fixture(scope="session")
def schedule_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The Redis that schedules are in."""
    executable = find_redis()
    if executable is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = redis_command(executable, port, tmp_path_factory.mktemp("schedule"))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert wait_for_redis(port, 30)
        yield port
        process.terminate()


@pytest.fixture(scope="session")
def mesh_directory(tmp_path_factory: pytest.TempPathFactory) -> MeshDirectory:
    """Of the mesh that labs belong to, which runs where a lab needs its keystore."""
    return MeshDirectory(tmp_path_factory.mktemp("lab-mesh"))


@pytest.fixture(scope="session")
def certificate(mesh_directory: MeshDirectory) -> CertificateFiles:
    """The secrets service's own certificate."""
    return DevelopmentAuthority(mesh_directory.certificates).issue("service/secrets")


@pytest.fixture(scope="session")
def client_keys(mesh_directory: MeshDirectory) -> Iterator[ClientKeys]:
    """The lab's account in a mesh of its own."""
    with Mesh(mesh_directory.root, MeshOptions(provider="local")) as mesh:
        made = ClientKeys.of(mesh)
        with made.administrator:
            yield made


@pytest.fixture(scope="session")
def tls(certificate: CertificateFiles) -> TlsFiles:
    """The certificate, as the service reads it."""
    return tls_files(certificate)


@pytest.fixture(scope="session")
def postgresql_server(postgres_cluster: PostgresCluster) -> Server:
    # A name of its own: the tests of several directories share the cluster, and each has this fixture once.
    url = urlsplit(postgres_cluster.create_database(f"targets_{token_hex(4)}"))
    assert url.username
    assert url.password
    return Server(postgres_cluster.port, url.username, url.password)


@pytest.fixture(scope="session")
def target_certificate(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """What targets prove with who they are."""
    return servers.server_certificate(tmp_path_factory.mktemp("target-certificate"))


@pytest.fixture(scope="session")
def mysql_tls_server(target_certificate: CertificateFiles) -> Iterator[TlsServer]:
    if not Path(servers.MARIADB).exists():
        pytest.skip("mariadb-server is not installed")
    with servers.mariadb(target_certificate) as server:
        yield server


@pytest.fixture(scope="session")
def acl_tls_server(
    tmp_path_factory: pytest.TempPathFactory, target_certificate: CertificateFiles
) -> Iterator[TlsServer]:
    with servers.redis_server(tmp_path_factory.mktemp("acl"), target_certificate) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_tls_server(postgresql_server: Server, target_certificate: CertificateFiles) -> TlsServer:
    return servers.turn_tls_on(postgresql_server, target_certificate)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if not Path(servers.SSHD).exists():
        pytest.skip("openssh-server is not installed")
    with servers.ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def team_rotator(tls: TlsFiles) -> Iterator[Remote]:
    rotator, port = TeamRotator(), free_port()
    server = serve_rotator(rotator, tls, port)
    yield Remote(rotator, port)
    server.stop(None)


@pytest.fixture(scope="session")
def subject_of(request: pytest.FixtureRequest) -> Callable[[str], Subject]:
    """A subject by its name; its server is started when it is first asked for."""

    def subject(name: str) -> Subject:
        kind, _, variant = name.partition("-")
        if kind == "generic":
            return Generic()
        if kind == "postgresql":
            server = request.getfixturevalue("postgresql_server")
            return Postgresql(server, dual=variant == "dual", with_master=variant == "master")
        if kind == "mysql":
            return Mysql(request.getfixturevalue("mysql_tls_server").server, dual=variant == "dual")
        if kind == "redis":
            return RedisAcl(request.getfixturevalue("acl_tls_server").server, with_master=variant == "master")
        if kind == "ssh":
            return Ssh(request.getfixturevalue("sshd"))
        if kind == "client":
            made: ClientKeys = request.getfixturevalue("client_keys")
            return replace(made, grace_period_s=0)
        remote: Remote = request.getfixturevalue("team_rotator")
        return remote

    return subject


@pytest.fixture(scope="session")
def target_workers() -> Iterator[TargetWorkers]:
    """Processes for steps at targets, with the service's own limits."""
    workers = TargetWorkers(StepLimits(), NoOpMeterProvider().get_meter("lab"))
    yield workers
    workers.close()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, schedule_port: int) -> Place:
    made = Place(f"sqlite:///{tmp_path / 'secrets.db'}", schedule_port, f"test-{next(_numbers)}")
    asked = getattr(request.node, "callspec", None)
    if asked is None or asked.params.get("name") != "client-key":
        return made
    mesh = request.getfixturevalue("client_keys").mesh
    return replace(made, keystore=mesh.address("keystore", "internal"))


@pytest.fixture
def make_lab(place: Place, tls: TlsFiles, target_workers: TargetWorkers) -> Iterator[Callable[..., Lab]]:
    """Labs over one database and schedule, like replicas; the first makes the database."""
    made: list[Lab] = []

    def make(**options: Any) -> Lab:
        lab = (Lab if made else Lab.new)(place, tls=tls, **{"workers": target_workers, **options})
        made.append(lab)
        return lab

    yield make
    with ExitStack() as stack:
        for lab in made:
            stack.callback(lab.close)


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()


@pytest.fixture
def secret_id() -> str:
    """An id that no other test uses."""
    return f"s{next(_numbers)}"


@pytest.fixture
def mysql(subject_of: Callable[[str], Subject], lab: Lab, secret_id: str) -> Mysql:
    """A MySQL or MariaDB server on which the secret's first user is."""
    subject = subject_of("mysql-dual")
    assert isinstance(subject, Mysql)
    subject.create(lab, secret_id)
    return subject


@pytest.fixture
def postgresql(subject_of: Callable[[str], Subject], lab: Lab, secret_id: str) -> Postgresql:
    """A PostgreSQL server on which the secret's first user is."""
    subject = subject_of("postgresql-dual")
    assert isinstance(subject, Postgresql)
    subject.create(lab, secret_id)
    return subject
