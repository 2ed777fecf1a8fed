"""A mesh with two processes of every service, and a supervisor that starts again what ended, as Kubernetes would."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import redis

from deploy.dev.configs import ACCOUNT, UPSTREAM
from deploy.dev.mesh import REDIS, Mesh, MeshOptions
from deploy.dev.processes import Process
from deploy.dev.readiness import Readiness
from deploy.dev.topology import ADMINISTRATOR, HOST, SERVICES, Listeners, fixed_ports, free_base, free_listeners
from strongroom import Client, ClientCertificate

_SERVING_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_STARTED = (b'"message": "serving"', b"standing by")


@dataclass(frozen=True)
class Resources:
    """What a service's processes hold."""

    memory: int
    descriptors: int
    threads: int


class ReplicatedMesh:
    """Two of each service, of audit one that stands by. A context manager."""

    def __init__(self, directory: Path, database_urls: Mapping[str, str]) -> None:
        base = free_base()
        own = fixed_ports(base).services
        self._listeners = {service: [own[service], _others(base)] for service in SERVICES}
        upstream = {
            caller: {"upstream": {service: self.addresses(service, "internal") for service in called}}
            for caller, called in UPSTREAM.items()
        }
        self.mesh = Mesh(
            directory,
            MeshOptions(provider="pkcs11", base_port=base, database_urls=database_urls, settings=upstream),
        )
        self._stack = ExitStack()
        self._held: set[str] = set()
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self.restarts = 0
        self.replicas: dict[str, list[Process]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.mesh)
            for service in SERVICES:
                second = self._second(service)
                second.start()
                stack.callback(second.terminate)
                self.replicas[service] = [self.mesh.process(service), second]
            supervising = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
            supervising.start()
            stack.callback(supervising.join)
            stack.callback(self._stopping.set)
            for service in SERVICES:
                self.wait_until_serving(service)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, timeout: float, first: int = 0) -> Client:
        """The administrator, who knows both addresses of each service, and calls this one `first`."""
        files = self.mesh.authority.issue(ADMINISTRATOR)
        return Client(
            {service: self.addresses(service, "certificate", first) for service in SERVICES},
            ClientCertificate(files.certificate, files.key),
            trust=files.trust,
            account=ACCOUNT,
            timeout=timeout,
        )

    def kill(self, process: Process) -> None:
        """SIGKILL; the supervisor starts it again."""
        process.kill()

    def roll(self, service: str) -> None:
        """Replaces each process of a service by SIGTERM, the next one when the service is whole again."""
        for process in self.replicas[service]:
            written = process.output_files[1].stat().st_size
            with self._changing:
                self._held.add(process.name)
            try:
                process.terminate()
            finally:
                with self._changing:
                    self._held.discard(process.name)
            self._wait_until_back(process, written)
            self.wait_until_serving(service)

    def wait_until_serving(self, service: str, seconds: float = _SERVING_SECONDS) -> None:
        """Returns once every process serves; of audit one is enough, the other stands by."""
        if service == "audit":
            deadline = time.monotonic() + seconds
            while not any(self._serves(service, number, 0.5) for number in range(2)):
                assert time.monotonic() < deadline, "nobody writes the audit log"
            return
        for number, process in enumerate(self.replicas[service]):
            assert self._serves(service, number, seconds), f"{process.name} does not serve\n{process.tail()}"

    def let_both_write(self) -> None:
        """The audit log is handed to the process that stands by, and back: one that never wrote holds less."""
        for _ in range(2):
            self.wait_until_serving("audit")
            number = next(number for number in range(2) if self._serves("audit", number, 0.5))
            writer = self.replicas["audit"][number]
            writer.suspend()
            try:
                assert self._serves("audit", 1 - number, _SERVING_SECONDS), "nobody took the audit log over"
            finally:
                writer.resume()

    def _wait_until_back(self, process: Process, written: int) -> None:
        """Returns once a process that was ended, and had written so much, was started again and serves or stands by."""
        deadline = time.monotonic() + _SERVING_SECONDS
        while not any(said in process.output_files[1].read_bytes()[written:] for said in _STARTED):
            assert time.monotonic() < deadline, f"{process.name} did not come back\n{process.tail()}"
            time.sleep(_LOOK_SECONDS / 2)

    def empty_redis(self) -> None:
        """Redis forgets everything."""
        redis.Redis(HOST, self.mesh.topology.redis_port).flushall()

    def kill_redis(self) -> None:
        """SIGKILL to Redis; the supervisor starts it again."""
        self.mesh.process(REDIS).kill()

    def replace_certificates(self) -> None:
        """New ones for every service and the client, beside which the old ones still are valid."""
        for path in (*(f"service/{service}" for service in SERVICES), ADMINISTRATOR):
            directory = self.mesh.directory.certificates / path.replace("/", "-")
            (directory / "certificate.pem").unlink()
            self.mesh.authority.issue(path)

    def resources(self) -> dict[str, Resources]:
        """Of each service, over its processes."""
        return {service: _sum([_held_by(one.pid) for one in both]) for service, both in self.replicas.items()}

    def written(self) -> dict[str, str]:
        """The last lines of each process."""
        both = [process for processes in self.replicas.values() for process in processes]
        return {process.name: process.tail() for process in both}

    def _serves(self, service: str, number: int, seconds: float) -> bool:
        address = self._listeners[service][number].public
        readiness = Readiness(service, address, self.mesh.trust, seconds=seconds, still_hopeful=lambda: True)
        return readiness.missing(1, None) is None

    def addresses(self, service: str, listener: str, first: int = 0) -> str:
        """Both of a service, this one's first."""
        both = self._listeners[service]
        return ",".join(str(getattr(listeners, listener)) for listeners in (both[first], both[1 - first]))

    def _second(self, service: str) -> Process:
        listeners = self._listeners[service][1]
        prefix = f"STRONGROOM_{service.upper()}__LISTENERS__"
        return self.mesh.process(service).like(
            f"{service}-2",
            environment={
                f"{prefix}PUBLIC__ADDRESS": listeners.public,
                f"{prefix}PUBLIC__CERTIFICATE_ADDRESS": listeners.certificate,
                f"{prefix}INTERNAL__ADDRESS": listeners.internal,
            },
        )

    def _supervise(self) -> None:
        both = [process for processes in self.replicas.values() for process in processes]
        while not self._stopping.wait(_LOOK_SECONDS):
            with self._changing:
                for process in (*both, self.mesh.process(REDIS)):
                    if not process.running and process.name not in self._held:
                        process.start()
                        self.restarts += 1


def _others(base: int) -> Listeners:
    """On ports that the mesh's own, from `base` on, do not need."""
    while True:
        found = free_listeners()
        ports = [int(address.rpartition(":")[2]) for address in (found.public, found.certificate, found.internal)]
        if not any(base <= port <= base + 60 for port in ports):
            return found


def _held_by(pid: int | None) -> Resources:
    process = psutil.Process(pid)
    return Resources(process.memory_info().rss, process.num_fds(), process.num_threads())


def _sum(of_processes: list[Resources]) -> Resources:
    return Resources(
        sum(one.memory for one in of_processes),
        sum(one.descriptors for one in of_processes),
        sum(one.threads for one in of_processes),
    )
