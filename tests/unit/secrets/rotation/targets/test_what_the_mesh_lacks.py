"""What keeps a step from its target and is no fault of the target's: it is told to operators, and not counted."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.rpc.status import Status
from services.secrets.core.destinations import Place
from services.secrets.core.model import Secret
from services.secrets.kinds.known import declarations
from services.secrets.rotation.rotators.failures import is_of_the_mesh
from services.secrets.rotation.rotators.reach import NetworkRules, Reach
from services.secrets.rotation.rotators.rotator import RotationContext
from services.secrets.rotation.targets import workers
from services.secrets.rotation.targets.confinement import not_kept
from services.secrets.rotation.targets.jobs import answer_of_error, read_answer
from services.secrets.rotation.targets.workers import StepLimits, TargetWorkers, WorkerRotator
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_TYPE_REDIS_ACL

_NETWORK = NetworkRules(own=(Place("keystore.svc", 0),))


class Steps:
    """Processes that answer as the rules say, like a step, whatever this process knows of names by then."""

    limits = StepLimits()

    def __init__(self) -> None:
        self.says = refusal()

    def run(self, *_: object) -> object:
        return read_answer(answer_of_error(self.says))


def refusal() -> StrongroomError:
    with pytest.raises(StrongroomError) as refused:
        Reach("acme", _NETWORK).address(Place("93.184.216.34", 5432))
    return refused.value


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Until it is undone, no name is resolved."""

    def answer(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "not now")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", answer)
        yield patched


def failure_of(steps: Steps) -> StrongroomError:
    name = ResourceName("acme", "secrets", "s")
    secret = Secret(name, SECRET_TYPE_REDIS_ACL, SECRET_STATE_ENABLED, "", "", {}, 10, 1, 1, 0, 0, {})
    context = RotationContext(secret, "", 0, 0, None, Reach("acme", _NETWORK))
    rotator = WorkerRotator(declarations()[SECRET_TYPE_REDIS_ACL], cast("TargetWorkers", steps), None)
    with pytest.raises(StrongroomError) as failed:
        rotator.check(context, None)
    return failed.value


@pytest.mark.usefixtures("unknown")
def test_a_name_of_the_meshs_own_that_is_not_resolved_is_no_try_at_the_target() -> None:
    failed = failure_of(Steps())
    assert failed.reason is Reason.TARGET_UNREACHABLE
    assert is_of_the_mesh(failed)
    with pytest.raises(StrongroomError):
        _NETWORK.require_own_known()


def test_a_step_that_was_taken_over_is_not_believed_that_it_is(unknown: pytest.MonkeyPatch) -> None:
    steps = Steps()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]
    unknown.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    _NETWORK.require_own_known()
    assert not is_of_the_mesh(failure_of(steps))


def test_a_kernel_that_does_not_keep_steps_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: dict[str, str] = {}

    class Shown:
        def attribute(self, name: str, value: str) -> None:
            told[name] = value

    status = cast("Status", Shown())
    assert not_kept() == ()
    workers.say_what_is_not_kept(status)
    assert told == {"target_steps_not_kept_by": "nothing is missing"}
    assert not caplog.records
    monkeypatch.setattr(workers, "not_kept", lambda: ("Landlock", "seccomp"))
    with caplog.at_level(logging.WARNING):
        workers.say_what_is_not_kept(status)
    assert told == {"target_steps_not_kept_by": "Landlock, seccomp"}
    assert len(caplog.records) == 1
