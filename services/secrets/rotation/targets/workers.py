"""Steps at targets, done in processes of their own: a target may be a hostile tenant's.

Nothing that a target does reaches this process's threads or memory: a step waits for its answer no longer than its
deadline, which holds for the step as a whole, and takes no more of it than a value needs. The processes are forked by
one that is started with the first step (`target_worker`), so that a service without targets pays nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.tls import Identity
from services.runtime.rpc.status import Status
from services.runtime.work.due_work import Aside
from services.secrets.kinds.declaration import Declaration
from services.secrets.kinds.known import declarations
from services.secrets.rotation.rotators.failures import OF_THE_MESH
from services.secrets.rotation.rotators.rotation_tokens import METHODS, rotation_token
from services.secrets.rotation.rotators.rotator import Credential, RotationContext, Rotator
from services.secrets.rotation.targets.confinement import not_kept
from services.secrets.rotation.targets.jobs import (
    MAX_ANSWER_BYTES,
    RELAY,
    TargetJob,
    read_answer,
    receive_frame,
    send_frame,
)
from services.secrets.rotation.targets.places import StepPlaces
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1.secret_pb2 import SecretType

log = logging.getLogger(__name__)

_READY_SECONDS = 30.0
_START_SECONDS = 5.0
_END_SECONDS = 2.0
# A child that has overrun is ended by its parent; only where that fails as well does this process give up by itself.
_GRACE_SECONDS = 2.0
# The longest wait for a place.
_PLACE_SECONDS = 30.0
_SAID_SECONDS = 0.2
# Settings of the interpreter, the system's certificates and languages; neither addresses nor credentials.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE")
# The longest queues: an attribute has a value for each.
_ACCOUNTS_SHOWN = 20
_OVERRUNS = frozenset((Reason.TARGET_TIMEOUT, Reason.TARGET_ANSWER_TOO_LARGE))


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What one step at a target may use."""

    seconds: float = 60.0
    """Of time, as a whole, whatever the target's own timeout is; a RotatorService may take the time that its target
    says."""
    cpu_seconds: int = 30
    memory_bytes: int = 64 << 20
    answer_bytes: int = 4 << 20
    at_once: int = 16
    """How many steps are in work at once; more wait for a place."""
    share: int = 4
    """How many of these are of one account."""
    relay_bytes: int = 32 << 20
    """Of memory, for the process that connects to a RotatorService for a step's."""


class TargetWorkers:
    """Does steps at targets."""

    def __init__(self, limits: StepLimits, meter: Meter) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False
        self._count_lock = threading.Lock()
        self._in_use = 0
        self._places = StepPlaces(limits.at_once, limits.share)
        self._overruns = meter.create_counter(
            "secrets.targets.overruns", description="steps at targets that were ended"
        )

    @property
    def in_use(self) -> int:
        """How many steps are in work."""
        return self._in_use

    @property
    def server_pid(self) -> int:
        """The process that forks those of steps; 0 before the first step."""
        return self._server.pid if self._server is not None else 0

    def run(self, job: TargetJob, seconds: float, relay: TargetJob | None = None) -> NewValue | None:
        """Does a step within so many seconds, once there is a place for it. Raises what the rotator raises,
        TARGET_TIMEOUT, TARGET_ANSWER_TOO_LARGE, OVERLOADED where no place was free, and ROTATOR_FAILED where its
        process ended without an answer. With a `relay` another process connects for the step's."""
        begun = time.monotonic()
        with self._places.place(job.context.secret.name.account, min(seconds, _PLACE_SECONDS)):
            # Whoever asked waits no longer for that it waited for a place.
            left = seconds if job.context.until is None else seconds - (time.monotonic() - begun)
            return self._counted(job, left, relay)

    def _counted(self, job: TargetJob, seconds: float, relay: TargetJob | None) -> NewValue | None:
        with self._count_lock:
            self._in_use += 1
        try:
            return self._run(job, seconds) if relay is None else self._relayed(job, seconds, relay)
        except StrongroomError as error:
            if error.reason in _OVERRUNS:
                self._overruns.add(1, {"reason": error.reason})
            raise
        finally:
            with self._count_lock:
                self._in_use -= 1

    def close(self) -> None:
        """Ends every step that is in work, and the processes."""
        with self._lock:
            self._closed = True
            self._stop()

    def _relayed(self, job: TargetJob, seconds: float, relay: TargetJob) -> NewValue | None:
        near, far = socket.socketpair()
        with far:
            with near:
                connecting = self._started(seconds, near, self.limits.relay_bytes)
            with connecting:
                try:
                    send_frame(connecting, relay.encoded())
                    return self._run(job, seconds, far)
                except OSError as error:
                    raise _failed(f"the step's process failed with {type(error).__name__}") from None
                except StrongroomError:
                    # Why there was no connection the relay knows, and has said before it ended.
                    _raise_what_it_said(connecting)
                    raise

    def _run(self, job: TargetJob, seconds: float, stream: socket.socket | None = None) -> NewValue | None:
        try:
            with self._started(seconds, stream) as peer:
                send_frame(peer, job.encoded())
                answer = receive_frame(peer, MAX_ANSWER_BYTES, seconds + _GRACE_SECONDS)
        except TimeoutError:
            raise StrongroomError(Reason.TARGET_TIMEOUT, "the step took too long as a whole") from None
        except OSError as error:
            raise _failed(f"the step's process failed with {type(error).__name__}") from None
        if answer is None:
            raise _failed("the step's process ended without an answer")
        return read_answer(answer)

    def _started(self, seconds: float, stream: socket.socket | None = None, memory_bytes: int = 0) -> socket.socket:
        """The near end of a new child's socket; `stream` joins it with another."""
        told = f"{seconds} {memory_bytes or self.limits.memory_bytes}".encode()
        with self._lock:
            control = self._server_control()
            ours, childs = socket.socketpair()
            with childs:
                try:
                    sockets = [childs] if stream is None else [childs, stream]
                    socket.send_fds(control, [told], [each.fileno() for each in sockets])
                except OSError:
                    ours.close()
                    # It is started anew with the next step.
                    self._stop()
                    raise
        ours.settimeout(_START_SECONDS)
        return ours

    def _server_control(self) -> socket.socket:
        if self._closed:
            raise StrongroomError(Reason.SHUTTING_DOWN, "the service is stopping")
        if self._control is not None and self._server is not None and self._server.poll() is None:
            return self._control
        self._stop()
        control, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with childs:
            self._server = subprocess.Popen(
                self._command(),
                stdin=childs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        control.settimeout(_READY_SECONDS)
        if not control.recv(64):
            raise ConnectionError
        control.settimeout(_START_SECONDS)
        self._control = control
        return control

    def _command(self) -> list[str]:
        limits = self.limits
        return [
            *(sys.executable, "-m", "services.secrets.rotation.targets.worker"),
            *("--memory-bytes", str(limits.memory_bytes)),
            *("--cpu-seconds", str(limits.cpu_seconds)),
            *("--answer-bytes", str(limits.answer_bytes)),
        ]

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            try:
                # It ends the steps in work first.
                self._server.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None


class WorkerRotator:
    """A rotator whose steps are done by `TargetWorkers`."""

    def __init__(
        self,
        declaration: Declaration,
        workers: TargetWorkers,
        identity: Callable[[], Identity] | None,
    ) -> None:
        self._kind = declaration.type
        self._target = declaration.target
        self._workers = workers
        self._identity = identity

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""
        self._run("check", context, current=current)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""
        made = self._run("create", context, current=current)
        if made is None:
            raise _failed("the step's process answered no value")
        return made

    def set(
        self,
        context: RotationContext,
        pending: Credential,
        current: Credential | None,
        previous: Credential | None,
    ) -> None:
        """Makes the target accept `pending`."""
        self._run("set", context, pending=pending, current=current, previous=previous)

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in."""
        self._run("test", context, credential=credential)

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Makes the target refuse what is older, as far as that is wanted; `current` is the new value by now."""
        self._run("finish", context, current=current, previous=previous)

    def _run(self, step: str, context: RotationContext, **credentials: Credential | None) -> NewValue | None:
        seconds = self._workers.limits.seconds
        if self._target is not None:
            seconds = self._target.step_seconds(getattr(context.target, self._target.member), seconds)
        if context.until is not None:
            seconds = min(seconds, context.until - time.monotonic())
        if seconds <= 0:
            raise StrongroomError(Reason.TARGET_TIMEOUT, "no time is left to ask the target")
        try:
            return self._asked(step, context, credentials, seconds)
        except StrongroomError as error:
            if OF_THE_MESH in error.metadata and (context.reach is None or context.reach.network.own_is_known()):
                # So may say a step that was taken over, to be tried for ever.
                del error.metadata[OF_THE_MESH]
            raise

    def _asked(
        self, step: str, context: RotationContext, credentials: Mapping[str, Credential | None], seconds: float
    ) -> NewValue | None:
        if self._identity is None:
            return self._workers.run(TargetJob(self._kind, step, context, credentials), seconds)
        identity = self._identity()
        token = rotation_token(identity, context.target.grpc.address, context.secret.name, METHODS[step])
        job = TargetJob(self._kind, step, context, credentials, token=token)
        # It sees no credential.
        relay = TargetJob(self._kind, RELAY, replace(context, master=None), {}, identity)
        return self._workers.run(job, seconds, relay)


def with_workers(
    own: Mapping[SecretType.ValueType, Rotator], workers: TargetWorkers, identity: Callable[[], Identity]
) -> dict[SecretType.ValueType, Rotator]:
    """These rotators, with those whose targets are on the network at work in processes of their own. The service's
    certificate is shown only to those that cannot do without it."""
    return {
        kind: WorkerRotator(declaration, workers, identity if declaration.needs_identity else None)
        if declaration.is_outside
        else own[kind]
        for kind, declaration in declarations().items()
    }


def watch_targets(status: Status, meter: Meter, workers: TargetWorkers, aside: Aside) -> None:
    """Shows how busy the steps at targets are: to operators by account, never by secret."""

    def in_work(_: CallbackOptions) -> list[Observation]:
        return [Observation(workers.in_use)]

    def waiting(_: CallbackOptions) -> list[Observation]:
        longest = Counter(aside.queue.waiting()).most_common(_ACCOUNTS_SHOWN)
        return [Observation(count, {"account": account}) for account, count in longest]

    meter.create_observable_gauge("secrets.targets.in_work", [in_work], description="steps at targets in work")
    meter.create_observable_gauge("secrets.targets.waiting", [waiting], description="rotations that wait, by account")
    status.attribute("target_steps_in_work", lambda: str(workers.in_use))
    status.attribute("target_rotations_waiting", lambda: str(sum(aside.queue.waiting().values())))


def say_what_is_not_kept(status: Status) -> None:
    """Warns where the kernel does not keep steps to themselves, and shows it to operators."""
    lacking = not_kept()
    status.attribute("target_steps_not_kept_by", ", ".join(lacking) or "nothing is missing")
    if lacking:
        log.warning(
            "the kernel does not keep steps at targets to themselves: users and the modes of files alone do",
            extra={"fields": {"missing": ", ".join(lacking)}},
        )


def _raise_what_it_said(relay: socket.socket) -> None:
    try:
        answer = receive_frame(relay, MAX_ANSWER_BYTES, _SAID_SECONDS)
    except (TimeoutError, OSError):
        return
    if answer is not None:
        read_answer(answer)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Neither files of the service's user nor memory that is only reserved.
    return {**kept, "HOME": os.devnull, "PGPASSFILE": os.devnull, "MALLOC_ARENA_MAX": "2"}


def _failed(what: str) -> StrongroomError:
    return StrongroomError(Reason.ROTATOR_FAILED, what)
