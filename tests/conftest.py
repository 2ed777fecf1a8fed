"""What every kind of test shares: real meshes on each database and key provider, and a foreign authority."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from deploy.dev import topology
from deploy.dev.certificates import DevelopmentAuthority
from deploy.dev.directory import MeshDirectory
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.postgres import PostgresCluster, find_postgres
from deploy.dev.redis_server import find_redis
from deploy.dev.softhsm import find_module
from deploy.dev.topology import WITH_DATABASE
from services.runtime.config import Database
from services.runtime.storage import database, migrations
from tests.support.databases import empty_database

SQLITE_LOCAL = "sqlite-local"
POSTGRES_SOFTHSM = "postgres-softhsm"
VARIANTS = (SQLITE_LOCAL, POSTGRES_SOFTHSM)
BEHIND_DOORS = "behind-doors"
"""One on SQLite for the tests of doors, in the place of the others: an idle mesh costs processor time, too."""
_LOG_LINES = 15
_START_SECONDS = 180.0
_LONGEST_NAME_BYTES = 24
_ENGINE = "STRONGROOM_{}__LISTENERS__ENGINE"

# A machine that runs many things is slow at times; that is not what these tests are about.
hypothesis.settings.register_profile("strongroom", deadline=None)
hypothesis.settings.load_profile("strongroom")

# What services only tell of in production, so that a call is answered, is a failure in every process of a test.
os.environ["PYTHONWARNINGS"] = "error:a thread asked for a second connection:RuntimeWarning"

# Each of several processes that run tests side by side takes its ports from a range of its own.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = len(topology.FREE_PORTS) // _PROCESSES
topology.FREE_PORTS = topology.FREE_PORTS[_PROCESS * _PORTS :][:_PORTS]


class Meshes:
    """Starts meshes of either variant, each with its own directory and databases, and knows which run.

    Databases are copies of one that was migrated once, since to migrate takes longer than most tests.
    """

    def __init__(self, request: pytest.FixtureRequest, directories: pytest.TempPathFactory) -> None:
        self._request = request
        self._directories = directories
        self._numbers = itertools.count()
        self._on_postgres: set[str] = set()
        self.running: list[Mesh] = []

    def start(self, stack: ExitStack, variant: str, options: MeshOptions, *, native: bool) -> Mesh:
        """A mesh that runs until `stack` closes, on the native listener if it is to be and is built. Skips the test
        where this machine lacks what it needs."""
        if find_redis() is None:
            pytest.skip("redis-server is not installed")
        # Whoever says more of a service or its database has that migrated by the service's own command.
        plain = frozenset(WITH_DATABASE).difference(options.database_urls, options.settings, options.environment)
        options = _with_engine(options, "auto" if native else "grpcio")
        # Three processes run tests here at once, and some of them compile.
        options = replace(options, migrated=plain, start_seconds=max(options.start_seconds, _START_SECONDS))
        if variant == POSTGRES_SOFTHSM:
            if find_module() is None:
                pytest.skip("SoftHSM2 (libsofthsm2.so, softhsm2-util) is not installed")
            urls = {service: self._database(stack, service) for service in WITH_DATABASE}
            options = replace(options, provider="pkcs11", database_urls={**urls, **options.database_urls})
        else:
            options = replace(options, provider="local")
        mesh = Mesh(self._directories.mktemp(f"mesh-{variant}"), options)
        if variant == SQLITE_LOCAL:
            self._copy_files(options.migrated, mesh.directory)
        stack.enter_context(mesh)
        self.running.append(mesh)
        stack.callback(self.running.remove, mesh)
        return mesh

    def _copy_files(self, services: Iterable[str], directory: MeshDirectory) -> None:
        directory.data.mkdir(mode=0o700, parents=True)
        for service in services:
            (directory.data / f"{service}.db").write_bytes(empty_database(service))

    def _database(self, stack: ExitStack, service: str) -> str:
        cluster: PostgresCluster = self._request.getfixturevalue("postgres_cluster")
        template = f"{service}_migrated"
        if service not in self._on_postgres:
            engine = database.open_database(Database(url=cluster.create_database(template)))
            migrations.migrate(engine, service)
            engine.dispose()
            self._on_postgres.add(service)
        name = f"{service}_{next(self._numbers)}"
        url = cluster.create_database(name, template)
        stack.callback(cluster.drop_database, name)
        return url


def _with_engine(options: MeshOptions, engine: str) -> MeshOptions:
    """Has services told what takes their connections, but where a test or whoever runs it (`make native-test`) says
    so."""
    environment = dict(options.environment)
    for service in topology.SERVICES:
        name = _ENGINE.format(service.upper())
        said = "engine" in options.settings.get(service, {}).get("listeners", {}) or name in os.environ
        environment[service] = {**({} if said else {name: engine}), **environment.get(service, {})}
    return replace(options, environment=environment)


class PrivateMeshes:
    """Starts meshes for one test alone."""

    def __init__(self, meshes: Meshes, stack: ExitStack, *, native: bool) -> None:
        self._meshes = meshes
        self._stack = stack
        self._native = native

    def __call__(self, variant: str = SQLITE_LOCAL, **options: Any) -> Mesh:
        """A mesh that only this test knows; `options` are fields of MeshOptions."""
        return self._meshes.start(self._stack, variant, MeshOptions(**options), native=self._native)


_MESHES = pytest.StashKey[Meshes]()


@pytest.fixture(scope="session")
def meshes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Meshes:
    """Where the fixtures below get their meshes from."""
    meshes = Meshes(request, tmp_path_factory)
    request.config.stash[_MESHES] = meshes
    return meshes


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """A PostgreSQL server of our own, empty but for what tests make; one for the whole session."""
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("PostgreSQL's server (initdb, postgres) is not installed")
    with PostgresCluster(binaries) as cluster:
        yield cluster


@pytest.fixture(scope="session", params=VARIANTS)
def mesh(request: pytest.FixtureRequest, meshes: Meshes) -> Iterator[Mesh]:
    """A mesh that many tests share: once on SQLite with the local provider and grpcio's server, once on PostgreSQL with
    SoftHSM2 and the native listener.

    Leave its processes alone, and make keys and secrets under names of your own.
    """
    variant = SQLITE_LOCAL if request.param == BEHIND_DOORS else request.param
    with ExitStack() as stack:
        yield meshes.start(stack, variant, MeshOptions(), native=variant == POSTGRES_SOFTHSM)


@pytest.fixture
def private_mesh(request: pytest.FixtureRequest, meshes: Meshes) -> Iterator[PrivateMeshes]:
    """Starts meshes whose processes the test may kill, stop and starve:
    `private_mesh("sqlite-local", workers={"crypto": 2})`. Half of the tests have them on the native listener, by their
    names, so that each has the same whenever it runs."""
    with ExitStack() as stack:
        yield PrivateMeshes(meshes, stack, native=zlib.crc32(request.node.nodeid.encode()) % 2 == 0)


@pytest.fixture
def foreign_authority(tmp_path: Path) -> DevelopmentAuthority:
    """An authority that no mesh trusts, though it bears the same name and issues for the same domain."""
    return DevelopmentAuthority(tmp_path / "foreign-authority")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names cases by long bytes without them: they may be random, and each of several processes that run tests side by
    side has to find the same ones."""
    return argname if isinstance(val, bytes) and len(val) > _LONGEST_NAME_BYTES else None


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups in a hook of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which tests stay in one process when several share the work: those of a module on the same mesh. Those that
    have a mesh to themselves go where there is room.
    """
    for item in items:
        assert isinstance(item, pytest.Function)
        if "private_mesh" not in item.fixturenames and item.path.parent.name != "faults":
            variant = item.callspec.params.get("mesh", "") if hasattr(item, "callspec") else ""
            # Those of doors have one mesh in all.
            module = item.module.__name__
            group = "doors" if item.path.parent.name == "doors" else f"{module}-{variant}"
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the last lines of each process's log to the report of a test that failed while a mesh ran."""
    report = yield
    meshes = item.config.stash.get(_MESHES, None)
    if report.failed and meshes is not None:
        for mesh in meshes.running:
            for name, text in mesh.tails(_LOG_LINES).items():
                report.sections.append((f"{name} of {mesh.directory.root}", text))
    return report
