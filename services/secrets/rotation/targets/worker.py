"""Where steps at targets are done: `python -m services.secrets.rotation.targets.worker`, started by `TargetWorkers`.

This process has loaded the libraries that talk to targets and forks one child a step; it never talks to a target, sees
no credential and has one thread. A child serves one step and ends: nothing that a target does to it outlives the step
or is seen by another account's. It may use so much memory, processor, time and answer, and is killed when it overruns;
also when the service stops waiting for it or ends.

Standard input is a SOCK_SEQPACKET socket. Each message on it is the step's seconds and bytes of memory with one socket
beside it: the child's, on which it reads the job and writes the answer (`target_jobs`). A step at a RotatorService is
two children: a second socket joins the one that speaks TLS (`relay`) with the one that does the step.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.runtime.errors import Reason, StrongroomError
from services.secrets.kinds.known import place_of
from services.secrets.rotation.rotators import choice
from services.secrets.rotation.rotators.rotator import Relayed
from services.secrets.rotation.rotators.tls import trust_file
from services.secrets.rotation.targets.confinement import (
    OPEN_FILES,
    confine,
    connect_to,
    reach_no_neighbour,
    write_nothing_more,
)
from services.secrets.rotation.targets.jobs import (
    MAX_JOB_BYTES,
    RELAY,
    STEPS,
    TargetJob,
    answer_of,
    answer_of_error,
    receive_frame,
    send_frame,
)
from services.secrets.rotation.targets.relay import local_endpoint, relay
from services.secrets.rotation.targets.step_threads import StepThreads
from services.secrets.values.sealing import NewValue

READY = b"ready"
_JOB_FD, _TELLER_FD, _STREAM_FD = 3, 4, 5
# Beyond those.
_SPARE_FD = 16
# linux/prctl.h
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
# How often what a step left behind is looked for again, as long as there is any.
_STRAYS_MS = 50
_NICENESS = 5
_STACK_BYTES = 1 << 20
# More than pthread_attr_t has on any machine.
_ATTRIBUTES_BYTES = 256
# Of struct tcp_info (linux/tcp.h): tcpi_bytes_received.
_TCP_INFO_BYTES = 136
_BYTES_RECEIVED = struct.Struct("@Q")
_COUNT_SECONDS = 0.05
_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step may use."""

    memory_bytes: int
    """Beyond what a step needs that does nothing."""
    cpu_seconds: int
    answer_bytes: int


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    job: socket.socket
    ends: float
    overran: bool = False
    abandoned: bool = False
    crowded: bool = False
    """It started too many threads."""


class ForkServer:
    """Forks a child for every step, and ends those that overrun."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self._control = control
        self._limits = limits
        self._poll = select.poll()
        self._children: dict[int, _Child] = {}
        self._threads = StepThreads(self._poll)
        self._strays = False

    def run(self) -> None:
        """Until the service ends."""
        self._poll.register(self._control, select.POLLIN)
        self._control.send(READY)
        while True:
            for fd, _ in self._poll.poll(self._pause_ms()):
                if fd == self._control.fileno():
                    if not self._start():
                        self._end()
                        return
                elif fd in self._children:
                    self._reap(self._children[fd])
                elif self._threads.hears(fd):
                    self._end_crowd(self._threads.look(fd))
                else:
                    self._abandon(fd)
            for child in list(self._children.values()):
                if time.monotonic() >= child.ends:
                    child.overran = True
                    _kill(child)
            self._end_strays()

    def _start(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, 64, 2)
        if not descriptors:
            return False
        job, streams = socket.socket(fileno=descriptors[0]), descriptors[1:]
        seconds, memory_bytes = message.split()
        near, far = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            with job:
                _say(job, StrongroomError(Reason.ROTATOR_FAILED, "no process could be started for the step"))
            pid = -1
        if pid == 0:
            try:
                limits = replace(self._limits, memory_bytes=int(memory_bytes))
                _serve([job.fileno(), far.fileno(), *streams], float(seconds), limits)
            finally:
                os._exit(1)
        far.close()
        for stream in streams:
            os.close(stream)
        if pid < 0:
            near.close()
            return True
        self._threads.expect(near, pid)
        child = _Child(pid, os.pidfd_open(pid), job, time.monotonic() + float(seconds))
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.POLLIN)
        # Told of the service's end of it alone.
        self._poll.register(job, 0)
        return True

    def _reap(self, child: _Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        if status:
            _say(child.job, _cause(child, status))
        self._poll.unregister(child.pidfd)
        if not child.abandoned:
            self._poll.unregister(child.job)
        self._threads.forget(child.pid)
        os.close(child.pidfd)
        child.job.close()
        del self._children[child.pidfd]

    def _abandon(self, job_fd: int) -> None:
        for child in self._children.values():
            if child.job.fileno() == job_fd and not child.abandoned:
                _kill(child)
                # It would be told again until the child is gone.
                child.abandoned = True
                self._poll.unregister(child.job)

    def _end_crowd(self, pid: int | None) -> None:
        for child in self._children.values():
            if child.pid == pid:
                child.crowded = True
                _kill(child)

    def _end_strays(self) -> None:
        """Where a step could start processes, they come here with its end: they have neither its time nor its place."""
        strays = _own_children() - {child.pid for child in self._children.values()}
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
            # Those of its own come here by then, for the next look.
            os.waitpid(pid, 0)
        self._strays = bool(strays)

    def _pause_ms(self) -> int | None:
        if self._strays:
            return _STRAYS_MS
        ends = min((child.ends for child in self._children.values()), default=None)
        return None if ends is None else max(int((ends - time.monotonic()) * _MILLISECONDS), 0) + 1

    def _end(self) -> None:
        for child in self._children.values():
            _kill(child)
            os.waitpid(child.pid, 0)
        self._children.clear()
        self._strays = True
        while self._strays:
            self._end_strays()


def _kill(child: _Child) -> None:
    # It is this process's child and not waited for yet, so that the id is its own.
    os.kill(child.pid, signal.SIGKILL)


def _own_children() -> set[int]:
    """The processes whose parent is this one, which has one thread; none where the kernel tells of none."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as told:  # noqa: PTH123  # often
            return {int(pid) for pid in told.read().split()}
    except OSError:
        return set()


def _cause(child: _Child, status: int) -> StrongroomError:
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if child.overran or signalled == signal.SIGALRM:
        return StrongroomError(Reason.TARGET_TIMEOUT, "the step took too long as a whole and was ended")
    if child.crowded:
        return StrongroomError(Reason.ROTATOR_FAILED, "the step started too many threads and was ended")
    if signalled == signal.SIGXCPU:
        return StrongroomError(Reason.TARGET_TIMEOUT, "the step used too much processor and was ended")
    return StrongroomError(Reason.ROTATOR_FAILED, "the step's process ended without an answer")


def _say(job: socket.socket, error: StrongroomError) -> None:
    try:
        job.setblocking(False)
        send_frame(job, answer_of_error(error))
    except OSError:
        # The service is waiting no longer.
        return


# --- in the child


def _serve(descriptors: list[int], seconds: float, limits: Limits) -> None:
    spare = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _SPARE_FD) for descriptor in descriptors]
    for place, descriptor in enumerate(spare, _JOB_FD):
        os.dup2(descriptor, place)
    os.closerange(_JOB_FD + len(spare), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with socket.socket(fileno=_TELLER_FD) as teller:
        confine(seconds, limits.memory_bytes, limits.cpu_seconds, teller)
    peer = socket.socket(fileno=_JOB_FD)
    encoded = receive_frame(peer, MAX_JOB_BYTES, seconds)
    if encoded is None:
        os._exit(1)
    peer.settimeout(None)
    answering = threading.Lock()

    def begin() -> None:
        threading.Thread(target=_count, args=(peer, limits.answer_bytes, answering), daemon=True).start()

    answer = _answer(encoded, begin)
    with answering:
        send_frame(peer, answer)
        os._exit(0)


def _reserve_small_stacks() -> None:
    """Libraries start many threads, and what each reserves for its stack counts as memory of the step."""
    library = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    library.pthread_attr_init(attributes)
    library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(_STACK_BYTES))
    library.pthread_setattr_default_np(attributes)


def _answer(encoded: bytes, begin: Callable[[], None]) -> bytes:
    """`begin` is done once the process is kept to what the job needs."""
    try:
        job = _kept_to(TargetJob.decoded(encoded))
        begin()
        return answer_of(_done(job))
    except StrongroomError as error:
        return answer_of_error(error)
    except MemoryError:
        return answer_of_error(_too_large("memory"))
    except Exception as error:  # noqa: BLE001  # a library's, or a fault of a rotator's: its message may hold anything
        failure = StrongroomError(Reason.ROTATOR_FAILED, f"the rotator failed with {type(error).__name__}")
        return answer_of_error(failure)


def _kept_to(job: TargetJob) -> TargetJob:
    """A job that knows where it connects to, in a process that is kept to that."""
    place = place_of(job.context.secret)
    if job.token or place is None:
        # One that a relay connects for connects to nothing but its own end of the stream, by which it ends itself.
        connect_to([])
        if not job.token:
            reach_no_neighbour()
        return job
    connect_to([place.port], names=True)
    kept = replace(job, context=job.context.resolved())
    connect_to([place.port])
    reach_no_neighbour()
    return kept


def _done(job: TargetJob) -> NewValue | None:
    if job.step == RELAY and job.identity is not None:
        relay(job.context, job.identity, socket.socket(fileno=_STREAM_FD))
        return None
    relayed = Relayed(_endpoint(), job.token) if job.token else None
    rotator = choice.target_rotator(job.kind, relayed)
    if job.step not in STEPS:
        raise ValueError(job.step)
    # All that a step writes. Libraries read it from a file, and it is in memory alone.
    trust_file(job.context.target.database.address)
    write_nothing_more()
    answer = getattr(rotator, job.step)(job.context, **job.credentials)
    return answer if isinstance(answer, NewValue) else None


def _endpoint() -> str:
    # gRPC reaches its relay by a Unix socket, so that none is opened only once it has.
    return local_endpoint(socket.socket(fileno=_STREAM_FD), reach_no_neighbour)


def _count(peer: socket.socket, limit: int, answering: threading.Lock) -> None:
    """Ends the process when what it has received exceeds the limit, whichever library reads it."""
    while sum(map(_received, range(_JOB_FD + 1, OPEN_FILES))) <= limit:
        time.sleep(_COUNT_SECONDS)
    with answering:
        send_frame(peer, answer_of_error(_too_large(f"{limit} bytes")))
        os._exit(0)


def _received(fd: int) -> int:
    """What a connection has received so far; 0 for what is none."""
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        return 0
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    finally:
        connection.detach()
    if len(told) < _TCP_INFO_BYTES:
        return 0
    received: int = _BYTES_RECEIVED.unpack_from(told, _TCP_INFO_BYTES - _BYTES_RECEIVED.size)[0]
    return received


def _too_large(what: str) -> StrongroomError:
    return StrongroomError(Reason.TARGET_ANSWER_TOO_LARGE, f"the target's answer needs more than the {what} of a step")


def main() -> int:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m services.secrets.rotation.targets.worker")
    for name in ("memory-bytes", "cpu-seconds", "answer-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.nice(_NICENESS)
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_DUMPABLE, 0)):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    _reserve_small_stacks()
    choice.load_target_rotators()
    # Tracebacks of libraries may hold anything.
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    gc.collect()
    gc.freeze()
    ForkServer(control, Limits(given.memory_bytes, given.cpu_seconds, given.answer_bytes)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
