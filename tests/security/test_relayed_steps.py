"""A step at a team's RotatorService has no key of the service's, and what has the key has nothing of the step's."""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import grpc
import jwt
import pytest
from opentelemetry.metrics import NoOpMeterProvider

from deploy.dev.certificates import DevelopmentAuthority
from deploy.dev.topology import free_port, spiffe_id
from services.runtime.errors import StrongroomError
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests.names import ResourceName
from services.secrets.kinds.known import declarations
from services.secrets.rotation.rotators.reach import EVERY_ACCOUNT, NetworkRules, Reach, TargetRule
from services.secrets.rotation.rotators.remote import RemoteRotator
from services.secrets.rotation.rotators.rotator import Credential, RotationContext
from services.secrets.rotation.targets import jobs
from services.secrets.rotation.targets.jobs import TargetJob
from services.secrets.rotation.targets.relay import local_endpoint
from services.secrets.rotation.targets.workers import StepLimits, TargetWorkers, WorkerRotator
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1 import rotator_service_pb2 as pb
from strongroom.secrets.v1 import secret_pb2 as s
from tests.security.test_hostile_targets import context, login, reason_of_step
from tests.support import hostile_servers as hostile
from tests.support.rotation.lab import ACCOUNT
from tests.support.rotation.subjects import TeamRotator, serve_rotator, tls_files

GRPC = declarations()[s.SECRET_TYPE_GRPC]


class Recorded(TargetWorkers):
    """Workers that do nothing but keep what they are given."""

    def __init__(self) -> None:
        super().__init__(StepLimits(), NoOpMeterProvider().get_meter("test"))
        self.given: list[tuple[TargetJob, TargetJob | None]] = []

    def run(self, job: TargetJob, seconds: float, relay: TargetJob | None = None) -> NewValue | None:
        self.given.append((job, relay))
        return None


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentAuthority:
    return DevelopmentAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: DevelopmentAuthority) -> TlsFiles:
    return tls_files(authority.issue("service/secrets"))


@pytest.fixture(scope="module")
def workers() -> Iterator[TargetWorkers]:
    with closing(TargetWorkers(StepLimits(seconds=20), NoOpMeterProvider().get_meter("test"))) as found:
        yield found


def at(port: int, host: str = "127.0.0.1") -> RotationContext:
    found = context(s.SECRET_TYPE_GRPC, port)
    secret = replace(found.secret, name=ResourceName(ACCOUNT, "secrets", "s"))
    assert secret.target is not None
    secret.target.grpc.address = f"{host}:{port}"
    secret.target.grpc.timeout.FromSeconds(10)
    return replace(found, secret=secret)


def credential(password: str) -> Credential:
    found = login(password=password)
    return replace(found, version=f"accounts/{ACCOUNT}/secrets/s/versions/1")


def test_no_step_is_given_the_key_and_no_relay_a_credential(tls: TlsFiles) -> None:
    recorded = Recorded()
    rotator = WorkerRotator(GRPC, recorded, tls.current)
    told = replace(at(1), master=credential("of the master"))
    old, new = credential("marked old"), credential("marked new")
    rotator.check(told, old)
    rotator.set(told, new, old, None)
    rotator.test(told, new)
    rotator.finish(told, new, old)
    with suppress(StrongroomError):
        rotator.create(told, old)
    assert len(recorded.given) == len(jobs.STEPS)
    for job, relay in recorded.given:
        assert relay is not None
        assert relay.step == jobs.RELAY
        assert job.token
        assert not relay.token
        key = b64encode(tls.current().key)
        assert key in relay.encoded()
        assert key not in job.encoded()
        for secret in (old, new, told.master):
            assert secret is not None
            assert b64encode(secret.value.reveal()) not in relay.encoded()


def test_the_tokens_of_steps_are_each_for_its_own(tls: TlsFiles) -> None:
    recorded = Recorded()
    rotator = WorkerRotator(GRPC, recorded, tls.current)
    rotator.test(at(7443), credential("x"))
    ((job, _),) = recorded.given
    claims = jwt.decode(job.token, options={"verify_signature": False})
    assert (claims["aud"], claims["step"], claims["account"]) == ("127.0.0.1:7443", "TestCredential", ACCOUNT)
    assert job.token not in repr(job)


@pytest.fixture
def team(tls: TlsFiles) -> Iterator[tuple[TeamRotator, int]]:
    rotator, port = TeamRotator(), free_port()
    server = serve_rotator(rotator, tls, port)
    yield rotator, port
    server.stop(None)


def test_a_rotator_sees_the_services_own_certificate(
    workers: TargetWorkers, tls: TlsFiles, team: tuple[TeamRotator, int]
) -> None:
    rotator, port = team
    asked = WorkerRotator(GRPC, workers, tls.current)
    first = credential("first")
    asked.check(at(port), first)
    made = asked.create(at(port), first)
    pending = Credential(f"accounts/{ACCOUNT}/secrets/s/versions/2", made.value, made.format)
    assert reason_of_step(lambda: asked.test(at(port), pending)) == "TARGET_LOGIN_REFUSED"
    asked.set(at(port), pending, first, None)
    asked.test(at(port), pending)
    asked.finish(at(port), pending, first)
    assert rotator.accepted[f"accounts/{ACCOUNT}/secrets/s"] == {pending.value.reveal()}
    rotator.failing = (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
    assert reason_of_step(lambda: asked.set(at(port), pending, first, None)) == "ROTATOR_FAILED"
    rotator.failing = (grpc.StatusCode.OUT_OF_RANGE, "not this one")
    assert reason_of_step(lambda: asked.set(at(port), pending, first, None)) == "TARGET_VALUE_REFUSED"
    assert reason_of_step(lambda: asked.create(at(port), first)) == "ROTATOR_FAILED"


@pytest.mark.parametrize("wrong", ["name", "authority", "no HTTP/2", "nobody", "closes"])
def test_why_there_was_no_connection_is_told_in_words_of_ours(
    workers: TargetWorkers, tls: TlsFiles, team: tuple[TeamRotator, int], tmp_path: Path, wrong: str
) -> None:
    _, port = team
    told = at(port)
    if wrong == "name":
        told = at(port, "127.0.0.2")
    elif wrong == "authority":
        stranger = DevelopmentAuthority(tmp_path)
        assert told.secret.target is not None
        told.secret.target.grpc.ca_pem = stranger.trust.read_text()
    elif wrong == "nobody":
        told = at(free_port())
    heard: list[bytes] = []

    def no_rotator(connection: socket.socket) -> None:
        if wrong == "closes":
            connection.close()
            return
        heard.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 400 marked\r\n\r\n")
        connection.close()

    with hostile.serving(no_rotator) as hostile_port:
        if wrong in ("no HTTP/2", "closes"):
            told = at(hostile_port)
        with pytest.raises(StrongroomError) as caught:
            WorkerRotator(GRPC, workers, tls.current).test(told, credential("marked"))
    assert caught.value.reason == "TARGET_UNREACHABLE"
    assert "connection to the rotator at 127.0.0." in caught.value.message
    assert "marked" not in caught.value.message


@pytest.mark.parametrize(
    ("named", "accounts", "trust", "passes"),
    [
        ("service/team", ACCOUNT, "", True),
        ("service/team", EVERY_ACCOUNT, "", True),
        ("service/team", "other", "", True),
        ("service/other", "other", "", True),
        ("service/other", ACCOUNT, "", False),
        ("service/team/more", ACCOUNT, "", False),
        ("service", EVERY_ACCOUNT, "", False),
        # One that everybody could make.
        ("service/team", ACCOUNT, "own", False),
    ],
)
def test_a_rotator_is_who_the_administrator_names_for_the_account(
    workers: TargetWorkers,
    authority: DevelopmentAuthority,
    tls: TlsFiles,
    tmp_path: Path,
    named: str,
    accounts: str,
    trust: str,
    passes: bool,
) -> None:
    """By the id in the server's certificate, before the token of the step or a credential is sent."""
    issuer = DevelopmentAuthority(tmp_path) if trust else authority
    told_by: list[str] = []

    class Told(TeamRotator):
        def TestCredential(  # noqa: N802  # gRPC's name
            self, request: pb.TestCredentialRequest, context: grpc.ServicerContext
        ) -> pb.TestCredentialResponse:
            told_by.append(str(dict(context.invocation_metadata())))
            return pb.TestCredentialResponse(accepted=True)

    port = free_port()
    server = serve_rotator(Told(), tls_files(issuer.issue("service/team")), port)
    told = at(port)
    if trust:
        assert told.secret.target is not None
        told.secret.target.grpc.ca_pem = issuer.trust.read_text()
    rules = (TargetRule((EVERY_ACCOUNT,), ("127.0.0.0/8",)), TargetRule((accounts,), (), (spiffe_id(named),)))
    told = replace(told, reach=Reach(ACCOUNT, NetworkRules(rules)))
    try:
        reason = reason_of_step(lambda: WorkerRotator(GRPC, workers, tls.current).test(told, credential("marked")))
    finally:
        server.stop(None)
    refused = "TARGET_UNREACHABLE" if trust else "DESTINATION_NOT_ALLOWED"
    assert reason == ("" if passes else refused)
    assert len(told_by) == passes
    assert passes or "marked" not in str(told_by)


def test_who_a_rotator_is_is_never_left_unasked(tls: TlsFiles) -> None:
    """A connection that no relay makes shows nobody who is at its other end."""
    rule = TargetRule((EVERY_ACCOUNT,), ("127.0.0.0/8",), (spiffe_id("service/team"),))
    told = replace(at(1), reach=Reach(ACCOUNT, NetworkRules((rule,))))
    assert reason_of_step(lambda: RemoteRotator(tls).test(told, credential("marked"))) == "ROTATOR_FAILED"


def test_nobody_but_the_step_itself_uses_its_connection() -> None:
    """Another process of this user that finds the address is turned away."""
    near, far = socket.socketpair()
    with near, far:
        endpoint = local_endpoint(far, lambda: None)
        address = "\0" + endpoint.removeprefix("unix-abstract:")
        stranger = os.fork()
        if stranger == 0:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as other:
                other.connect(address)
                other.sendall(b"let me in")
                os._exit(0 if other.recv(1) == b"" else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(stranger, 0)[1]) == 0
        with socket.socket(socket.AF_UNIX) as own:
            own.connect(address)
            own.sendall(b"mine")
            near.settimeout(20)
            assert near.recv(64) == b"mine"


def test_every_type_that_is_shown_a_certificate_is_relayed() -> None:
    assert [found.type for found in declarations().values() if found.needs_identity] == [s.SECRET_TYPE_GRPC]
