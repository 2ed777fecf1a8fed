"""A step at a target that was taken over, of the same user as the service and other steps (as in the pods of
`deploy/k8s`), reaches neither of them, and leaves nothing that outlives it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from services.doors import __main__ as doors
from services.runtime import config
from services.runtime.config import ServiceSettings
from services.runtime.errors import Reason, StrongroomError
from services.runtime.hosting import command
from services.runtime.requests.names import ResourceName
from services.secrets.core.model import Secret
from services.secrets.kinds.known import place_of
from services.secrets.rotation.rotators.reach import EVERY_ACCOUNT, NetworkRules, Reach, TargetRule
from services.secrets.rotation.rotators.rotator import RotationContext
from services.secrets.rotation.targets import confinement, worker
from services.secrets.rotation.targets.confinement import (
    confine,
    connect_to,
    reach_no_neighbour,
    write_nothing_more,
)
from services.secrets.rotation.targets.jobs import TargetJob, read_answer, receive_frame
from services.secrets.rotation.targets.step_threads import MAX_THREADS
from services.secrets.rotation.targets.worker import ForkServer, Limits
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_TYPE_POSTGRESQL
from strongroom.secrets.v1.target_pb2 import DatabaseTarget, RotationTarget, TargetAddress
from tests.support.clients import until

_NOBODY = 65_534
_MIB = 1 << 20
_PTRACE_ATTACH = 16
_PR_GET_DUMPABLE = 3
_IPC_PRIVATE, _IPC_CREATE = 0, 0o1600
_X86 = os.uname().machine == "x86_64"
_PROCESS_VM_READV = 310 if _X86 else 270
_TGKILL = 234 if _X86 else 131
_SCHED_SETATTR = 314 if _X86 else 274
_IOPRIO_SET = 251 if _X86 else 30
_IOPRIO_WHO_PROCESS, _IOPRIO_IDLE = 1, 3 << 13
# fcntl's and ioctl's for who gets the signals of a descriptor.
_F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP = 15, 0x8901, 0x8902
_MSG_FASTOPEN, _IPPROTO_MPTCP, _IPPROTO_SCTP = 0x20000000, 262, 132
_AF_ALG, _AF_VSOCK, _AF_SMC = 38, 40, 43


@pytest.fixture(autouse=True)
def as_many_files_as_these_tests_have_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a step may have, as a copy of this process keeps what the tests before have open: closing it there ends
    the copy, whose libraries look at theirs."""
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(confinement, "OPEN_FILES", highest + confinement.OPEN_FILES)


def in_a_child(work: Callable[[], int]) -> int:
    """What a copy of this process answers, of one user whoever runs the tests."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(_NOBODY, _NOBODY, _NOBODY)
                os.setresuid(_NOBODY, _NOBODY, _NOBODY)
                # As a service is that was never anybody else.
                ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass
class Other:
    """Another process of the same user, such as the service or a step of another account, and a key of its own."""

    pid: int
    key: Path
    socket_name: str
    path: str
    """Of a Unix socket that lets its user in, and with `.d` behind it, of one for datagrams."""
    port: int
    """Of a server on this machine."""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    key = tmp_path / "tls.key"
    key.write_text("the key")
    (tmp_path / "kept").write_text("x")
    if os.geteuid() == 0:
        for path in (tmp_path, key, tmp_path / "kept"):
            os.chown(path, _NOBODY, _NOBODY)
        for folder in (tmp_path.parent, tmp_path.parent.parent):
            folder.chmod(0o755)
    name = f"\0strongroom-test-{os.getpid()}"
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
            listener.listen()
            os.write(told, b"x")
            signal.pause()
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        served = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for kind, ending in ((socket.SOCK_STREAM, ""), (socket.SOCK_DGRAM, ".d")):
            neighbour = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            neighbour.bind(str(folder / f"s{ending}"))
            (folder / f"s{ending}").chmod(0o777)
            if kind == socket.SOCK_STREAM:
                neighbour.listen()
        yield Other(pid, key, name, str(folder / "s"), served.getsockname()[1])
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it was ended or stopped"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert key.read_text() == "the key"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "tls.key"]


def confine_copy() -> None:
    """Has a copy of this process be kept as the process of a step is."""
    confine(60, 64 * _MIB, 30)


def called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def system(number: int, *arguments: Any) -> None:
    called(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))


def library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def connected(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as found:
        found.connect(name)


def sent_by(sender: socket.socket, path: str) -> None:
    with sender:
        sender.sendto(b"x", path)


def reached(port: int, protocol: int = 0) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as connection:
        connection.connect(("127.0.0.1", port))


def reached_while_sending(port: int) -> None:
    with socket.socket() as connection:
        connection.sendto(b"x", _MSG_FASTOPEN, ("127.0.0.1", port))


def reached_with_a_message(port: int) -> None:
    with socket.socket() as connection:
        connection.sendmsg([b"x"], [], _MSG_FASTOPEN, ("127.0.0.1", port))


def datagram(family: int, address: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(b"x", (address, port))


def listening() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))


def forked() -> None:
    if os.fork() == 0:
        os._exit(0)


def signalled_by_descriptor(pid: int) -> None:
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGSTOP)


def owned_by(other: Other, command: int) -> None:
    """Has the signals of a connection go to the other process."""
    with socket.socket() as connection:
        fcntl.ioctl(connection, command, struct.pack("i", other.pid))


def asked(command: int, argument: int | bytes) -> None:
    with socket.socket() as connection:
        fcntl.fcntl(connection, command, argument)


# Each would be possible for any process of the user.
ATTEMPTS: dict[str, Callable[[Other], object]] = {
    "ends it": lambda other: os.kill(other.pid, signal.SIGKILL),
    "stops it": lambda other: os.kill(other.pid, signal.SIGSTOP),
    "ends everything": lambda _: os.kill(-1, 0),
    "ends a thread of it": lambda other: system(_TGKILL, other.pid, other.pid, signal.SIGKILL),
    "stops it by a descriptor": lambda other: signalled_by_descriptor(other.pid),
    "traces it": lambda other: called(library().ptrace(_PTRACE_ATTACH, other.pid, None, None)),
    "reads its memory": lambda other: Path(f"/proc/{other.pid}/mem").open("rb"),  # noqa: SIM115
    "copies its memory": lambda other: system(_PROCESS_VM_READV, other.pid, None, 0, None, 0, 0),
    "reads its environment": lambda other: Path(f"/proc/{other.pid}/environ").read_bytes(),
    "reads its key": lambda other: other.key.read_text(),
    "lists its files": lambda other: list(other.key.parent.iterdir()),
    "changes its key": lambda other: other.key.write_text("x"),
    "cuts its key": lambda other: os.truncate(other.key, 0),
    "takes its key away": lambda other: other.key.unlink(),
    "puts its key elsewhere": lambda other: other.key.rename(other.key.parent / "moved"),
    "links its key": lambda other: (other.key.parent / "linked").hardlink_to(other.key),
    "makes a file": lambda other: (other.key.parent / "new").touch(),
    "makes a nameless file": lambda other: os.open(other.key.parent, os.O_TMPFILE | os.O_RDWR),
    "makes a folder": lambda other: (other.key.parent / "new").mkdir(),
    "makes a symbolic link": lambda other: (other.key.parent / "new").symlink_to("x" * 4000),
    "makes a pipe": lambda other: os.mkfifo(other.key.parent / "new"),
    "starts a process": lambda _: forked(),
    "starts a program": lambda _: os.posix_spawn("/bin/true", ["true"], {}),
    "becomes a program": lambda _: os.execv("/bin/true", ["true"]),  # noqa: S606
    "keeps shared memory": lambda _: called(library().shmget(_IPC_PRIVATE, 4096, _IPC_CREATE)),
    "keeps a message queue": lambda _: called(library().msgget(_IPC_PRIVATE, _IPC_CREATE)),
    "keeps semaphores": lambda _: called(library().semget(_IPC_PRIVATE, 1, _IPC_CREATE)),
    "takes its processor": lambda other: resource.prlimit(other.pid, resource.RLIMIT_CPU, (60, 60)),
    "takes its descriptors": lambda other: resource.prlimit(other.pid, resource.RLIMIT_NOFILE, (0, 0)),
    "reads its limits": lambda other: resource.prlimit(other.pid, resource.RLIMIT_NOFILE),
    "has it wait": lambda other: os.setpriority(os.PRIO_PROCESS, other.pid, 19),
    "has everything wait": lambda _: os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_USER, 0)),
    "has it work when nothing else does": lambda other: os.sched_setscheduler(
        other.pid, os.SCHED_IDLE, os.sched_param(0)
    ),
    "changes its turn": lambda other: os.sched_setparam(other.pid, os.sched_param(0)),
    "changes its turn by attributes": lambda other: system(
        _SCHED_SETATTR, other.pid, struct.pack("=IIQiIQQQ", 48, 5, 0, 0, 0, 0, 0, 0), 0
    ),
    "keeps it to a processor": lambda other: os.sched_setaffinity(other.pid, os.sched_getaffinity(0)),
    "has it wait for disks": lambda other: system(_IOPRIO_SET, _IOPRIO_WHO_PROCESS, other.pid, _IOPRIO_IDLE),
    "has signals of a connection sent to it": lambda other: asked(fcntl.F_SETOWN, other.pid),
    "has them sent to a thread of it": lambda other: asked(_F_SETOWN_EX, struct.pack("ii", 0, other.pid)),
    "has them sent by another way": lambda other: owned_by(other, _FIOSETOWN),
    "has them sent by a third way": lambda other: owned_by(other, _SIOCSPGRP),
    "chooses which signal is sent": lambda _: asked(fcntl.F_SETSIG, signal.SIGKILL),
    "keeps others from its key": lambda other: other.key.chmod(0),
    "gives its key away": lambda other: os.chown(other.key, os.getuid(), os.getgid()),
    "makes its key look old": lambda other: os.utime(other.key, (0, 0)),
    "marks its key": lambda other: os.setxattr(other.key, "user.x", b"x"),
    "takes marks off its key": lambda other: os.removexattr(other.key, "user.x"),
    "takes shared memory away": lambda _: called(library().shmctl(0, 0, None)),
    "reads shared memory": lambda _: called(min(library().shmat(0, None, 0), 0)),
    "takes a message queue away": lambda _: called(library().msgctl(0, 0, None)),
    "takes semaphores away": lambda _: called(library().semctl(0, 0, 0)),
    "takes a named queue away": lambda _: called(library().mq_unlink(b"/x")),
    "listens": lambda _: listening(),
    "talks to it": lambda other: connected(other.socket_name),
    "talks to a server at a path": lambda other: connected(other.path),
    "sends to one at a path": lambda other: sent_by(
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), other.path + ".d"
    ),
    "sends to one by half of a pair": lambda other: sent_by(
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0], other.path + ".d"
    ),
    "reaches another port": lambda other: reached(other.port),
    "reaches it by several paths": lambda other: reached(other.port, _IPPROTO_MPTCP),
    "reaches it while it sends": lambda other: reached_while_sending(other.port),
    "reaches it with a message": lambda other: reached_with_a_message(other.port),
    "reaches others by another protocol": lambda _: socket.socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_SCTP),
    "reaches what the machine runs on": lambda _: socket.socket(_AF_VSOCK, socket.SOCK_STREAM),
    "reaches others by shared memory": lambda _: socket.socket(_AF_SMC, socket.SOCK_STREAM),
    "sends a datagram": lambda other: datagram(socket.AF_INET, "127.0.0.1", other.port),
    "sends a datagram by IPv6": lambda other: datagram(socket.AF_INET6, "::1", other.port),
    "asks for names": lambda _: datagram(socket.AF_INET, "127.0.0.1", 53),
    "asks for names by a connection": lambda _: reached(53),
    "reaches others by packets in order": lambda _: socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET),
    "has the kernel encrypt": lambda _: socket.socket(_AF_ALG, socket.SOCK_SEQPACKET),
}


@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_step_that_was_taken_over_does_none_of_it(other: Other, what: str) -> None:
    def attempt() -> int:
        confine_copy()
        connect_to([other.port ^ 1])
        reach_no_neighbour()
        write_nothing_more()
        try:
            ATTEMPTS[what](other)
        except OSError as error:
            return 0 if error.errno in (errno.EPERM, errno.EACCES) else 2
        return 1

    assert in_a_child(attempt) == 0


def test_what_a_step_needs_it_may_do() -> None:
    def need() -> int:
        confine_copy()
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        descriptor = os.memfd_create("x")
        os.write(descriptor, b"trust")
        assert Path(f"/proc/self/fd/{descriptor}").read_text() == "trust"
        assert socket.getaddrinfo("127.0.0.1", 443)
        assert Path("/etc/hosts").read_text()
        fewer = (confinement.OPEN_FILES - 1, confinement.OPEN_FILES - 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, fewer)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == resource.prlimit(0, resource.RLIMIT_NOFILE) == fewer
        near, far = socket.socketpair()
        near.setblocking(False)
        assert fcntl.fcntl(near, fcntl.F_GETFL) & os.O_NONBLOCK
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        return 0

    assert in_a_child(need) == 0


def test_a_step_reaches_its_target() -> None:
    def reach(port: int) -> int:
        confine_copy()
        connect_to([port])
        reach_no_neighbour()
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            assert connection.recv(1) == b"x"
        assert socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        return 0

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        port = server.getsockname()[1]
        answering = threads.submit(lambda: server.accept()[0].sendall(b"x"))
        assert in_a_child(lambda: reach(port)) == 0
        answering.result(10)


def test_a_step_knows_its_target_s_address_before_it_is_kept_from_names() -> None:
    """It asks for no name once it talks to anybody, and is told no later what to connect to."""

    def step(port: int) -> int:
        place_of(job_at("localhost", port).context.secret)  # as the process that forks steps has loaded everything
        confine_copy()
        context = worker._kept_to(job_at("localhost", port)).context
        for _ in range(2):
            assert context.address() == "127.0.0.1"
            with socket.create_connection((context.address(), port), 10):
                pass
        try:
            datagram(socket.AF_INET, "127.0.0.1", 53)
        except PermissionError:
            return 0
        return 1

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert in_a_child(lambda: step(port)) == 0


def test_a_step_is_told_that_nobody_knows_its_target_s_name_when_it_connects() -> None:
    context = job_at("nobody.invalid", 5432).context.resolved()
    for _ in range(2):
        with pytest.raises(StrongroomError) as refused:
            context.address()
        assert refused.value.reason is Reason.TARGET_UNREACHABLE


def job_at(host: str, port: int) -> TargetJob:
    target = RotationTarget(database=DatabaseTarget(address=TargetAddress(host=host, port=port), username="app"))
    name = ResourceName("acme", "secrets", "s")
    kind = SECRET_TYPE_POSTGRESQL
    secret = Secret(name, kind, SECRET_STATE_ENABLED, "", "", {}, 10, 1, 1, 0, 0, {}, target=target)
    reach = Reach("acme", NetworkRules((TargetRule((EVERY_ACCOUNT,), ("127.0.0.0/8",)),)))
    return TargetJob(kind, "check", RotationContext(secret, "", 0, 0, None, reach), {})


def test_no_thread_of_a_step_that_is_there_already_reaches_a_neighbour(other: Other) -> None:
    def attempt() -> int:
        confine_copy()
        go, outcome = threading.Event(), []

        def wait() -> None:
            go.wait(10)
            try:
                connected(other.path)
            except PermissionError:
                outcome.append(0)

        thread = threading.Thread(target=wait)
        thread.start()
        reach_no_neighbour()
        go.set()
        thread.join()
        return outcome.pop() if outcome else 1

    assert in_a_child(attempt) == 0


# --- where the kernel lets a step start processes


@contextmanager
def fork_server(serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, int]]:
    """One whose steps do that, and its process."""
    monkeypatch.setattr(worker, "_serve", serve)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        near.close()
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        ForkServer(far, Limits(64 * _MIB, 30, _MIB)).run()
        os._exit(0)
    far.close()
    assert near.recv(64) == worker.READY
    try:
        yield near, pid
    finally:
        near.close()
        os.waitpid(pid, 0)


def test_nothing_that_a_step_started_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told, tell = os.pipe()

    def starts_others(*_: object) -> None:
        """One whose parent is the step, and one whose parent is gone."""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0 and os.fork() != 0:
                os._exit(0)
        os.write(tell, f"{os.getpid()} ".encode())
        signal.pause()

    with fork_server(starts_others, monkeypatch) as (control, server):
        job, jobs = socket.socketpair()
        with jobs:
            socket.send_fds(control, [b"60 1000000"], [jobs.fileno()])
        heard = b""
        while len(heard.split()) < 3 or not heard.endswith(b" "):
            assert select.select([told], [], [], 30)[0]
            heard += os.read(told, 4096)
        started = [int(pid) for pid in heard.split()]
        job.close()
        until(lambda: not any(map(psutil.pid_exists, started)), 30)
        until(lambda: psutil.Process(server).children() == [], 30)


def test_nothing_that_a_step_started_outlives_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    told, tell = os.pipe()

    def starts_another(*_: object) -> None:
        if os.fork() == 0:
            os.setsid()
            os.write(tell, f"{os.getpid()} ".encode())
        signal.pause()

    with fork_server(starts_another, monkeypatch) as (control, _):
        job, jobs = socket.socketpair()
        with jobs:
            socket.send_fds(control, [b"60 1000000"], [jobs.fileno()])
        assert select.select([told], [], [], 30)[0]
        started = int(os.read(told, 64))
        assert psutil.pid_exists(started)
    job.close()
    until(lambda: not psutil.pid_exists(started), 30)


def test_a_step_starts_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    told, tell = os.pipe()

    def starts_threads(descriptors: list[int], *_: object) -> None:
        confine(60, 64 * _MIB, 30, socket.socket(fileno=descriptors[1]))
        # As native code has any number, without stacks of their own.
        threading.stack_size(1 << 15)
        while True:
            threading.Thread(target=signal.pause, daemon=True).start()
            os.write(tell, b".")

    with fork_server(starts_threads, monkeypatch) as (control, _):
        jobs = []
        for _ in range(2):
            job, far = socket.socketpair()
            with far:
                socket.send_fds(control, [b"60 1000000"], [far.fileno()])
            jobs.append(job)
        for job in jobs:
            with job, pytest.raises(StrongroomError, match="too many threads"):
                read_answer(receive_frame(job, 1024, 30) or b"")
    os.close(tell)
    assert len(os.read(told, 4096)) <= 2 * MAX_THREADS


# --- the service itself


def test_a_service_keeps_its_memory_from_its_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = SimpleNamespace(telemetry=SimpleNamespace(log_level="ERROR"))
    monkeypatch.setattr(config, "load", lambda *_: loaded)
    monkeypatch.setattr("sys.argv", ["service", "serve", "--config", "x"])
    preparation: command.Preparation[ServiceSettings] = command.Preparation("prepare", "", lambda _: None)

    def serve(_: ServiceSettings) -> None:
        os._exit(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0))

    assert in_a_child(lambda: ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)) == 1
    assert in_a_child(lambda: command.run("secrets", ServiceSettings, serve, preparation)) == 0


def test_so_do_the_doors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "load", lambda *_: SimpleNamespace(telemetry=SimpleNamespace(log_level="ERROR")))
    monkeypatch.setattr("sys.argv", ["doors", "serve", "--config", "x"])
    asked = ctypes.CDLL(None).prctl
    monkeypatch.setattr(doors, "serve", lambda _: os._exit(asked(_PR_GET_DUMPABLE, 0, 0, 0, 0)))
    assert in_a_child(lambda: doors.main() or 1) == 0
