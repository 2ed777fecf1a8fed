"""Calls over a real connection, to a server that does as it is told: retries, deadlines, tokens, trace context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from deploy.dev.topology import free_port
from strongroom import CertificateSession, Client, ClientCertificate, SessionToken, StrongroomError
from strongroom.access.v1 import session_service_pb2 as sessions
from strongroom.access.v1 import session_service_pb2_grpc as sessions_grpc
from strongroom.transport import Channel
from tests.support.cutting_proxy import CuttingProxy

Behaviour = Callable[[grpc.ServicerContext], None]


class Server(sessions_grpc.SessionServiceServicer):
    """Answers who calls, after the `behaviours` given, one a call; remembers the metadata of each call."""

    def __init__(self, files: CertificateFiles) -> None:
        self.behaviours: list[Behaviour] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.identities: list[str] = []
        self.sessions = 0
        self.session_seconds = 3600
        self._server = grpc.server(ThreadPoolExecutor(4))
        sessions_grpc.add_SessionServiceServicer_to_server(self, self._server)
        credentials = grpc.ssl_server_credentials(
            [(files.key.read_bytes(), files.certificate.read_bytes())], files.trust.read_bytes(), True
        )
        self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()

    def GetCallerIdentity(  # noqa: N802
        self, request: sessions.GetCallerIdentityRequest, context: grpc.ServicerContext
    ) -> sessions.CallerIdentity:
        del request
        self.metadata.append(dict(context.invocation_metadata()))
        self.identities += [bytes(name).decode() for name in context.auth_context()["peer_spiffe_id"]]
        context.set_trailing_metadata((("strongroom-event-id", f"event-{len(self.metadata)}"),))
        if self.behaviours:
            self.behaviours.pop(0)(context)
        return sessions.CallerIdentity(principal="accounts/main/users/admin", account="accounts/main")

    def CreateSession(  # noqa: N802
        self, request: sessions.CreateSessionRequest, context: grpc.ServicerContext
    ) -> sessions.Session:
        assert request.HasField("certificate")
        assert "authorization" not in dict(context.invocation_metadata())
        self.sessions += 1
        expires = Timestamp(seconds=int(time.time()) + self.session_seconds)
        return sessions.Session(token=f"token-{self.sessions}", expire_time=expires)

    def AssumeRole(  # noqa: N802
        self, request: sessions.AssumeRoleRequest, context: grpc.ServicerContext
    ) -> sessions.Session:
        raise NotImplementedError

    def NarrowSession(  # noqa: N802
        self, request: sessions.NarrowSessionRequest, context: grpc.ServicerContext
    ) -> sessions.Session:
        raise NotImplementedError

    def RevokeSession(  # noqa: N802
        self, request: sessions.RevokeSessionRequest, context: grpc.ServicerContext
    ) -> sessions.RevokeSessionResponse:
        raise NotImplementedError

    def stop(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentAuthority:
    return DevelopmentAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: DevelopmentAuthority) -> Iterator[Server]:
    started = Server(authority.issue("service/keystore"))
    yield started
    started.stop()


@pytest.fixture
def caller(authority: DevelopmentAuthority) -> CertificateFiles:
    return authority.issue("user/admin")


@pytest.fixture
def client(server: Server, caller: CertificateFiles) -> Iterator[Client]:
    with Client(
        {"keystore": server.address},
        ClientCertificate(caller.certificate, caller.key),
        trust=caller.trust,
        account="main",
    ) as opened:
        yield opened


def fail(code: grpc.StatusCode, reason: str, *, final: bool = False) -> Behaviour:
    """Aborts as the services do; `final` when the method may have begun."""

    def behave(context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=code.value[0], message="no")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="strongroom"))
        event_id = ("strongroom-event-id", "refused")
        details = ("grpc-status-details-bin", status.SerializeToString())
        pushback = (("grpc-retry-pushback-ms", "-1"),) if final else ()
        context.set_trailing_metadata((event_id, details, *pushback))
        context.abort(code, "no")

    return behave


def hang(context: grpc.ServicerContext) -> None:
    """Takes longer than the caller waits."""
    while context.is_active():
        time.sleep(0.05)


def test_a_result_carries_the_event_and_the_call_its_trace(client: Client, server: Server) -> None:
    with client.trace(trace_id="ab" * 16, sampled=True):
        identity = client.access.whoami()
    assert (identity.principal, identity.event_id) == ("accounts/main/users/admin", "event-1")
    traceparent = str(server.metadata[0]["traceparent"])
    assert traceparent.startswith("00-" + "ab" * 16)
    assert traceparent.endswith("-01")
    assert client.last_trace_id == "ab" * 16
    client.access.whoami()
    assert client.last_trace_id in str(server.metadata[1]["traceparent"])


def test_what_is_unavailable_is_tried_again(client: Client, server: Server) -> None:
    server.behaviours = [fail(grpc.StatusCode.UNAVAILABLE, "AUDIT_TIMEOUT")] * 2
    assert client.access.whoami().event_id == "event-3"
    assert len({str(call["traceparent"]) for call in server.metadata}) == 1


def test_after_four_tries_the_reason_comes_through(client: Client, server: Server) -> None:
    server.behaviours = [fail(grpc.StatusCode.UNAVAILABLE, "AUDIT_TIMEOUT")] * 9
    with pytest.raises(StrongroomError) as refusal:
        client.access.whoami()
    assert (refusal.value.reason, len(server.metadata)) == ("AUDIT_TIMEOUT", 4)


def test_nothing_but_unavailable_is_tried_again(client: Client, server: Server) -> None:
    for code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED):
        server.behaviours = [fail(code, "SOME_REASON")]
        with pytest.raises(StrongroomError) as refusal:
            client.access.whoami()
        assert (refusal.value.code, refusal.value.reason) == (code, "SOME_REASON")
        assert refusal.value.event_id == "refused"
        assert refusal.value.trace_id == client.last_trace_id
    assert len(server.metadata) == 3


def test_a_call_ends_at_its_deadline(client: Client, server: Server) -> None:
    server.behaviours = [hang]
    started = time.monotonic()
    with pytest.raises(StrongroomError) as refusal:
        client.access.whoami(timeout=0.3)
    assert refusal.value.reason == "DEADLINE_EXCEEDED"
    assert time.monotonic() - started < 1


def test_a_session_token_goes_with_every_call(server: Server, caller: CertificateFiles) -> None:
    with _with_session(server, caller) as client:
        client.access.whoami()
        client.access.whoami()
    assert [call["authorization"] for call in server.metadata] == ["Bearer token-1"] * 2


def test_a_token_that_is_about_to_expire_is_exchanged(server: Server, caller: CertificateFiles) -> None:
    server.session_seconds = 0
    with _with_session(server, caller) as client:
        client.access.whoami()
        client.access.whoami()
    assert [call["authorization"] for call in server.metadata] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("reason", ["TOKEN_EXPIRED", "TOKEN_INVALID"])
def test_a_refused_token_is_exchanged_once(server: Server, caller: CertificateFiles, reason: str) -> None:
    server.behaviours = [fail(grpc.StatusCode.UNAUTHENTICATED, reason)]
    with _with_session(server, caller) as client:
        assert client.access.whoami().event_id == "event-2"
        server.behaviours = [fail(grpc.StatusCode.UNAUTHENTICATED, reason)] * 2
        with pytest.raises(StrongroomError) as refusal:
            client.access.whoami()
    assert (refusal.value.reason, server.sessions) == (reason, 3)


def test_a_given_token_is_not_exchanged(server: Server, caller: CertificateFiles) -> None:
    # The server wants a certificate; a real one has a listener that does not.
    with Client({"keystore": server.address}, SessionToken("given"), trust=caller.trust, account="main") as client:
        with pytest.raises(StrongroomError) as refusal:
            client.access.whoami(timeout=2)
        assert refusal.value.reason in ("UNREACHABLE", "DEADLINE_EXCEEDED")
    assert server.sessions == 0


def test_a_replaced_certificate_is_used_by_new_calls(
    server: Server, authority: DevelopmentAuthority, caller: CertificateFiles, tmp_path: Path
) -> None:
    other = authority.issue("user/other")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(caller.certificate.read_bytes())
    key.write_bytes(caller.key.read_bytes())
    with Client(
        {"keystore": server.address}, ClientCertificate(certificate, key), trust=caller.trust, account="main"
    ) as client:
        client.access.whoami()
        key.write_bytes(other.key.read_bytes())
        certificate.write_bytes(other.certificate.read_bytes())
        channel = client._transport._channels["keystore"]
        assert isinstance(channel, Channel)
        channel._check_at = 0.0
        client.access.whoami()
    assert [name.rpartition("/")[2] for name in server.identities] == ["admin", "other"]


def test_a_replacement_that_is_half_done_stops_no_call(
    server: Server, authority: DevelopmentAuthority, caller: CertificateFiles, tmp_path: Path
) -> None:
    other = authority.issue("user/other")
    certificate, key, trust = (tmp_path / name for name in ("certificate.pem", "key.pem", "trust.pem"))
    for file, content in ((certificate, caller.certificate), (key, caller.key), (trust, caller.trust)):
        file.write_bytes(content.read_bytes())
    with Client(
        {"keystore": server.address}, ClientCertificate(certificate, key), trust=trust, account="main"
    ) as client:
        client.access.whoami()
        channel = client._transport._channels["keystore"]
        assert isinstance(channel, Channel)

        def called_after(file: Path, content: bytes) -> None:
            file.write_bytes(content)
            channel._check_at = 0.0
            client.access.whoami(timeout=5)

        called_after(certificate, other.certificate.read_bytes())
        called_after(trust, caller.trust.read_bytes()[:200])
        called_after(key, other.key.read_bytes()[:100])
        called_after(key, other.key.read_bytes())
        called_after(trust, caller.trust.read_bytes())
    assert [name.rpartition("/")[2] for name in server.identities] == ["admin"] * 5 + ["other"]


def test_credentials_that_cannot_be_read_are_named(server: Server, caller: CertificateFiles) -> None:
    credentials = ClientCertificate(Path("/no/such/certificate.pem"), caller.key)
    with Client({"keystore": server.address}, credentials, trust=caller.trust, account="main") as client:
        with pytest.raises(StrongroomError, match=r"/no/such/certificate\.pem") as refusal:
            client.access.whoami()
        assert refusal.value.reason == "CREDENTIALS_UNREADABLE"


def test_an_authority_that_is_not_trusted_is_refused(server: Server, tmp_path: Path) -> None:
    stranger = DevelopmentAuthority(tmp_path).issue("user/admin")
    with Client(
        {"keystore": server.address},
        ClientCertificate(stranger.certificate, stranger.key),
        trust=stranger.trust,
        account="main",
    ) as client:
        with pytest.raises(StrongroomError) as refusal:
            client.access.whoami(timeout=2)
        assert refusal.value.reason in ("UNREACHABLE", "DEADLINE_EXCEEDED")


def _with_session(server: Server, caller: CertificateFiles) -> Client:
    credentials = CertificateSession(caller.certificate, caller.key)
    return Client({"keystore": server.address}, credentials, trust=caller.trust, account="main")


@pytest.fixture
def replicas(authority: DevelopmentAuthority) -> Iterator[tuple[Server, Server]]:
    first, second = Server(authority.issue("service/keystore")), Server(authority.issue("service/keystore"))
    yield first, second
    first.stop()
    second.stop()


@pytest.fixture
def client_of_replicas(replicas: tuple[Server, Server], caller: CertificateFiles) -> Iterator[Client]:
    addresses = ", ".join(server.address for server in replicas)
    credentials = ClientCertificate(caller.certificate, caller.key)
    with Client({"keystore": addresses}, credentials, trust=caller.trust, account="main") as opened:
        yield opened


def test_a_call_goes_on_at_another_replica_when_one_is_gone(
    client_of_replicas: Client, replicas: tuple[Server, Server]
) -> None:
    first, second = replicas
    client_of_replicas.access.whoami()
    assert (len(first.metadata), len(second.metadata)) == (1, 0)
    first.stop()
    client_of_replicas.access.whoami()
    client_of_replicas.access.whoami()
    assert (len(first.metadata), len(second.metadata)) == (1, 2)


def test_calls_after_one_that_hung_go_to_another_replica(
    client_of_replicas: Client, replicas: tuple[Server, Server]
) -> None:
    first, second = replicas
    first.behaviours = [hang]
    with pytest.raises(StrongroomError) as undecided:
        client_of_replicas.access.sessions._service.call(
            client_of_replicas.access.sessions._service.stub.GetCallerIdentity, sessions.GetCallerIdentityRequest(), 0.5
        )
    assert undecided.value.reason == "DEADLINE_EXCEEDED"
    client_of_replicas.access.whoami()
    assert (len(first.metadata), len(second.metadata)) == (1, 1)


def test_a_call_at_one_that_hangs_goes_on_at_another_within_its_time(
    replicas: tuple[Server, Server], caller: CertificateFiles
) -> None:
    first, second = replicas
    credentials = ClientCertificate(caller.certificate, caller.key)
    with CuttingProxy(free_port(), int(first.address.rpartition(":")[2])) as hung:
        addresses = f"127.0.0.1:{hung.port},{second.address}"
        with Client({"keystore": addresses}, credentials, trust=caller.trust, account="main", timeout=20) as client:
            client.access.whoami()
            hung.hold()
            began = time.monotonic()
            client.access.whoami()
            assert time.monotonic() - began < 10
    assert (len(first.metadata), len(second.metadata)) == (1, 1)


def test_a_call_outlasts_a_moment_in_which_no_replica_can_do_it(
    client_of_replicas: Client, replicas: tuple[Server, Server]
) -> None:
    for server in replicas:
        server.behaviours = [fail(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", final=True)] * 4
    assert client_of_replicas.access.whoami().principal == "accounts/main/users/admin"
    assert [len(server.metadata) for server in replicas] == [5, 4]


def test_what_a_replica_refuses_is_asked_of_no_other(
    client_of_replicas: Client, replicas: tuple[Server, Server]
) -> None:
    first, second = replicas
    first.behaviours = [fail(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")]
    with pytest.raises(StrongroomError):
        client_of_replicas.access.whoami()
    assert (len(first.metadata), len(second.metadata)) == (1, 0)
