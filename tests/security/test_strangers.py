"""What somebody without a credential can do to a listener: not much, and nothing to others' calls."""

from __future__ import annotations

import gc
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from bench.abuse.raw_http2 import RawConnection, message
from bench.echo_server import PATH, NoPipeline, request
from deploy.dev.mesh import Mesh
from services.runtime.failed_calls import rpc_code
from services.runtime.rpc.pipeline import Behaviour, Handler
from strongroom import Client
from strongroom.runtime.v1.status_pb2 import GetStatusRequest
from strongroom.runtime.v1.status_pb2_grpc import StatusServiceStub
from tests.support.clients import until
from tests.support.listening import ENGINES, Listening, echo, listening

# More than a service has threads, and more than it ever had.
MANY = 300
SECONDS = 10.0

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
STATUS = "/strongroom.runtime.v1.StatusService/GetStatus"
UNKNOWN = "/strongroom.bench.v1.EchoService/Nothing"

ENCRYPT = "/strongroom.crypto.v1.CryptoService/Encrypt"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Everything holds on either."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[Listening]:
    with listening(tmp_path_factory.mktemp("listening"), engine=engine) as running:
        yield running


def health(channel: grpc.Channel) -> Any:
    """A stub that gRPC's own types have no methods of."""
    return HealthStub(channel)


def attacker(server: Listening, listener: str) -> RawConnection:
    trust = None if listener == "health" else server.trust
    return RawConnection(server.address(listener), trust, server.certificate(listener))


def is_well(server: Listening, listener: str) -> None:
    """Fails unless health answers there, and echoes of somebody known and of a stranger who has something to say do."""
    with server.channel(listener) as channel:
        answer = health(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        if listener != "health":
            echo(channel, account="victim", timeout=SECONDS)
            echo(channel, timeout=SECONDS)
            StatusServiceStub(channel).GetStatus(GetStatusRequest(), timeout=SECONDS)


@pytest.mark.parametrize("listener", ["public", "certificate", "internal", "health"])
@pytest.mark.parametrize("path", [PATH, CHECK, WATCH, REFLECTION, STATUS, UNKNOWN])
def test_calls_without_a_message_keep_nobody_waiting(server: Listening, listener: str, path: str) -> None:
    with attacker(server, listener) as connection:
        for _ in range(MANY):
            connection.call(path)
        is_well(server, listener)
        assert not connection.closed.is_set()


@pytest.mark.parametrize("path", [WATCH, REFLECTION])
def test_streams_that_say_no_more_keep_nobody_waiting(server: Listening, path: str) -> None:
    with attacker(server, "public") as connection:
        for _ in range(MANY):
            connection.call(path, data=message(b""))
        is_well(server, "public")
        with server.channel("public") as channel:
            watch = health(channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
            assert "grpc.health.v1.Health" in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_watchers_who_take_nothing_stop_no_health(server: Listening) -> None:
    with RawConnection(server.address("public"), server.trust, window=0) as connection:
        for _ in range(50):
            connection.call(WATCH, data=message(b""), ends=True)
        states = server.status.health
        for state in (health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING) * 20:
            states.set("test", state)
        is_well(server, "public")


def test_a_message_that_was_announced_and_never_comes_holds_no_memory(server: Listening) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with attacker(server, "public") as connection:
        for _ in range(200):
            connection.call(PATH, data=message(b"", length=8 << 20))
        is_well(server, "public")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_calls_that_are_begun_and_cancelled_over_and_over_stop_nothing(server: Listening) -> None:
    with attacker(server, "public") as connection:
        for _ in range(1000):
            connection.cancel(connection.call(PATH))
        is_well(server, "public")


def test_what_is_no_message_is_refused_as_such(server: Listening) -> None:
    with server.channel("public") as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
        without: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(PATH)
        with pytest.raises(grpc.RpcError) as caught:
            method(b"\xff\xff\xff", timeout=SECONDS)
        assert rpc_code(caught.value) is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            without(iter(()), timeout=SECONDS)
        assert rpc_code(caught.value) is grpc.StatusCode.INVALID_ARGUMENT


def test_headers_beyond_their_limit_are_refused(server: Listening) -> None:
    with attacker(server, "public") as connection:
        stream = connection.call(PATH, {"authorization": "x" * 15_000, "more": "y" * 10_000}, message(b""), ends=True)
        until(lambda: stream in connection.ended or connection.closed.is_set(), SECONDS)
    is_well(server, "public")


def test_a_message_must_come_in_time(tmp_path: Path, engine: str) -> None:
    with listening(tmp_path, engine=engine, message_seconds=0.5) as server, attacker(server, "public") as connection:
        silent = [connection.call(path) for path in (PATH, CHECK, WATCH, REFLECTION, STATUS)]
        slow = connection.call(PATH, data=message(b"", length=1000))
        # Byte by byte is not in time either.
        deadline = time.monotonic() + SECONDS
        while slow not in connection.ended and time.monotonic() < deadline:
            connection.send(slow, b"\x0a")
            time.sleep(0.05)
        until(lambda: {*silent, slow} <= connection.ended, SECONDS)


def test_a_connection_is_closed_without_a_handshake_and_without_a_call(tmp_path: Path, engine: str) -> None:
    with listening(tmp_path, engine=engine, handshake_seconds=0.5, idle_seconds=1) as server:
        for listener in ("public", "internal", "health"):
            host, _, port = server.address(listener).rpartition(":")
            with socket.create_connection((host, int(port)), timeout=SECONDS) as silent:
                # What it says for farewell, if anything, and then the end.
                while silent.recv(4096):
                    pass
        with attacker(server, "public") as idle:
            assert idle.closed.wait(SECONDS)


def test_no_more_than_so_many_calls_are_unfinished_and_the_greediest_gives_way(tmp_path: Path, engine: str) -> None:
    with listening(tmp_path, engine=engine, max_unfinished=20) as server, attacker(server, "public") as connection:
        streams = [connection.call(PATH) for _ in range(60)]
        until(lambda: len(connection.ended) == 40, SECONDS)
        # gRPC hands over in turn what comes at once, but for a call that finds it waiting.
        assert len(connection.ended - set(streams[:40])) <= 2


@pytest.mark.parametrize("listener", ["public", "internal", "health"])
@pytest.mark.parametrize("path", [PATH, WATCH, REFLECTION, UNKNOWN])
def test_who_is_refused_hundreds_of_times_is_not_told_all_at_once(
    tmp_path: Path, engine: str, listener: str, path: str
) -> None:
    """Else they would come again as fast, and everybody's calls would stand behind theirs."""
    with (
        listening(tmp_path, engine=engine, max_unfinished=20) as server,
        attacker(server, listener) as one,
        attacker(server, listener) as other,
    ):
        data = None if path in (PATH, UNKNOWN) else message(b"")
        began = time.monotonic()
        for connection in (one, other):
            for _ in range(240):
                connection.call(path, data=data)
        until(lambda: len(one.ended) + len(other.ended) >= 200, SECONDS)
        assert time.monotonic() - began > 0.2
        is_well(server, listener)


def test_one_account_leaves_threads_to_the_others(tmp_path: Path, engine: str) -> None:
    with (
        listening(tmp_path, engine=engine, threads=2, held_refusals=2) as server,
        ThreadPoolExecutor(10) as pool,
        server.channel("public") as greedy,
        server.channel("public") as other,
    ):
        waiting = [pool.submit(echo, greedy, b"wait", account="greedy", timeout=30) for _ in range(10)]
        echo(other, account="victim", timeout=SECONDS)
        server.go.set()
        for call in waiting:
            call.result()


def test_who_may_not_call_the_mesh_is_told_before_the_message_is_read(mesh: Mesh) -> None:
    files = mesh.authority.issue("user/curious")
    with RawConnection(mesh.address("crypto", "internal"), files.trust, (files.certificate, files.key)) as connection:
        stream = connection.call("/strongroom.crypto.v1.MaterialService/CreateMaterial")
        until(lambda: stream in connection.ended, SECONDS)


def test_a_service_goes_on_beside_calls_that_never_come(mesh: Mesh, client: Client, key: str) -> None:
    """On every listener of crypto, and on those of keystore and audit that crypto itself needs."""
    files = mesh.authority.issue("user/curious")
    pair = (files.certificate, files.key)
    attacks: list[tuple[str, str, str]] = [
        *(("crypto", listener, path) for listener in ("public", "certificate") for path in (ENCRYPT, CHECK, STATUS)),
        ("crypto", "internal", "/strongroom.crypto.v1.MaterialService/CreateMaterial"),
        ("keystore", "internal", "/strongroom.keystore.v1.KeyRecordService/ListChanges"),
        ("audit", "internal", "/strongroom.audit.v1.EventLogService/Append"),
    ]
    open_connections = []
    try:
        for service, listener, path in attacks:
            certificate = None if listener == "public" else pair
            connection = RawConnection(mesh.address(service, listener), files.trust, certificate)  # type: ignore[arg-type]
            open_connections.append(connection)
            for _ in range(MANY):
                connection.call(path)
        for _ in range(3):
            assert client.decrypt(client.encrypt(key, b"beside").ciphertext).plaintext == b"beside"
        assert {service.state for service in client.mesh.status()} == {"OK"}
    finally:
        for connection in open_connections:
            connection.close()


def test_status_tells_strangers_whether_a_service_serves_and_no_more(
    mesh: Mesh, client: Client, tenant: Client
) -> None:
    with mesh.channel("crypto", "public", mesh.trust) as channel:
        status = StatusServiceStub(channel)
        token = client.access.sessions.create().token
        known = status.GetStatus(GetStatusRequest(), timeout=SECONDS, metadata=(("authorization", f"Bearer {token}"),))
        anonymous = status.GetStatus(GetStatusRequest(), timeout=SECONDS)
        forged = status.GetStatus(
            GetStatusRequest(), timeout=SECONDS, metadata=(("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),)
        )
    for answer in (anonymous, forged):
        assert answer.service == "crypto"
        assert answer.state
        assert not any((answer.instance, answer.version, answer.components, answer.attributes))
        assert not answer.HasField("start_time")
    assert known.instance
    assert known.version
    assert known.HasField("start_time")
    of_tenant = tenant.mesh.service_status("crypto")
    assert of_tenant.components
    assert not any((of_tenant.instance, of_tenant.version, of_tenant.attributes, of_tenant.start_time))
    assert all(not component.detail for component in of_tenant.components)
    assert all(service.instance and service.components for service in client.mesh.status())


def test_calls_end_as_unavailable_when_a_server_stops(tmp_path: Path, engine: str) -> None:
    codes: list[grpc.StatusCode] = []

    def call(channel: grpc.Channel, payload: bytes) -> None:
        try:
            echo(channel, payload, account="caller", timeout=30)
        except grpc.RpcError as error:
            codes.append(rpc_code(error))

    with listening(tmp_path, engine=engine) as server, server.channel("public") as channel:
        echo(channel, account="caller")
        callers = [threading.Thread(target=call, args=(channel, b"wait")) for _ in range(5)]
        for caller in callers:
            caller.start()
        method: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(PATH)
        half_open = method.future(_never())
        time.sleep(0.3)
        server.server.drain()
        for caller in callers:
            caller.join()
        with pytest.raises(grpc.RpcError) as caught:
            half_open.result(timeout=SECONDS)
    assert rpc_code(caught.value) is grpc.StatusCode.UNAVAILABLE
    assert codes == [grpc.StatusCode.UNAVAILABLE] * 5


def _never() -> Iterator[bytes]:
    time.sleep(3)
    yield request(b"late").SerializeToString()


def test_few_messages_may_be_slow_and_the_greediest_gives_way(tmp_path: Path, engine: str) -> None:
    """What has come of a message takes memory, and only its end tells how much."""
    with listening(tmp_path, engine=engine, max_slow=5) as server, attacker(server, "public") as connection:
        slow = [connection.call(PATH, data=message(b"", length=8 << 20)) for _ in range(20)]
        for stream in slow:
            connection.send_some(stream, 1_000)
        until(lambda: len(connection.ended) == 15, SECONDS)
        assert connection.ended == set(slow[:15])
        is_well(server, "public")


def test_a_caller_s_headers_of_any_name_are_bounded(server: Listening) -> None:
    for name in ("baggage", "traceparent", "x-anything"):
        with attacker(server, "public") as connection:
            stream = connection.call(PATH, {name: "x" * 20_000}, message(b""), ends=True)
            until(lambda: stream in connection.ended or connection.closed.is_set(), SECONDS)  # noqa: B023
        is_well(server, "public")


def test_handshakes_that_do_not_go_on_keep_nobody_waiting(server: Listening) -> None:
    for listener in ("public", "internal"):
        host, _, port = server.address(listener).rpartition(":")
        silent = [socket.create_connection((host, int(port)), timeout=SECONDS) for _ in range(200)]
        try:
            for connection in silent:
                # The beginning of a ClientHello.
                connection.sendall(b"\x16\x03\x01\x02\x00\x01")
            is_well(server, listener)
        finally:
            for connection in silent:
                connection.close()


def test_connections_without_a_call_keep_nobody_waiting(server: Listening) -> None:
    with ExitStack() as idle:
        for _ in range(50):
            idle.enter_context(attacker(server, "health"))
        is_well(server, "health")
        is_well(server, "public")


class Forgetful:
    """A handler that leaves garbage behind which leads to its calls."""

    def __call__(self, request: Any, _context: grpc.ServicerContext) -> Any:
        return request

    def begin(self, request: Any, context: grpc.ServicerContext, reply: Any) -> None:
        leads: list[Any] = [context, context.time_remaining, reply]
        leads.append(leads)
        reply.answer(reply.serialize(request), ())


class _Forgetting(NoPipeline):
    def public(self, method: MethodDescriptor, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """Whatever is asked for, the same."""
        del method, behaviour, streams
        return Forgetful()


def test_garbage_that_leads_to_calls_does_not_count_as_open_calls(tmp_path: Path, engine: str) -> None:
    """A call is open for gRPC until nothing refers to it, and what is more on a connection is refused. Garbage is
    not collected while calls are refused, so that this would last."""
    with (
        listening(tmp_path, engine=engine, pipeline=_Forgetting(), streams_per_connection=4) as running,
        running.channel("public") as one,
    ):
        gc.disable()
        try:
            for _ in range(40):
                echo(one)
        finally:
            gc.enable()
