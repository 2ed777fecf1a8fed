"""A channel to several replicas: one that hangs is left for another that answers."""

from __future__ import annotations

import ast
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from deploy.dev.certificates import DevelopmentAuthority
from deploy.dev.topology import TRUST_DOMAIN, free_port
from services.runtime.changes import STALE_SECONDS, ChangeFeed, Changes
from services.runtime.config import Tls
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh import channels
from services.runtime.mesh.channels import NO_RETRY, MeshChannel, Peer, Route
from services.runtime.mesh.tls import TlsFiles
from tests.support.clients import until
from tests.support.cutting_proxy import CuttingProxy
from tests.support.listening import ENGINES

Opening = Callable[..., MeshChannel]
Metadata = tuple[tuple[str, str], ...]

REQUEST = health_pb2.HealthCheckRequest()


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    files = DevelopmentAuthority(tmp_path).issue("service/keystore")
    return TlsFiles(Tls(certificate=files.certificate, key=files.key, trust=files.trust, trust_domain=TRUST_DOMAIN))


@pytest.fixture(params=ENGINES)
def open_channel(request: pytest.FixtureRequest) -> Opening:
    """Makes channels, by grpcio or in native code."""
    return partial(MeshChannel, native=request.param == "native")


@pytest.fixture
def mute() -> Iterator[str]:
    """A replica that hangs: the kernel still takes connections for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def well(tls: TlsFiles) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(require_client_certificate=True))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize("retry", [True, False])
def test_a_replica_that_hangs_is_left_for_the_next(
    tls: TlsFiles, mute: str, well: str, retry: bool, open_channel: Opening
) -> None:
    channel = open_channel(f"{mute},{well}", tls, retry=retry)
    check = channel.method(health_pb2_grpc.HealthStub, "Check")
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            check(REQUEST, timeout=0.3)
    assert check(REQUEST, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    channel.close()


def test_a_call_at_one_that_hangs_is_made_at_the_next_within_its_time(
    tls: TlsFiles, well: str, open_channel: Opening
) -> None:
    with CuttingProxy(free_port(), int(well.rpartition(":")[2])) as hung:
        channel = open_channel(f"127.0.0.1:{hung.port},{well}", tls)
        check = channel.method(health_pb2_grpc.HealthStub, "Check")
        check(REQUEST, timeout=5)
        hung.hold()
        began = time.monotonic()
        assert check(REQUEST, timeout=20).status == health_pb2.HealthCheckResponse.SERVING
        assert time.monotonic() - began < 10
        channel.close()


def test_a_replica_that_answers_is_kept_whatever_it_answers(
    tls: TlsFiles, mute: str, well: str, open_channel: Opening
) -> None:
    channel = open_channel(f"{well},{mute}", tls)
    check = channel.method(health_pb2_grpc.HealthStub, "Check")
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as refused:
            check(health_pb2.HealthCheckRequest(service="nothing"), timeout=5)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert check(REQUEST, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    channel.close()


def closed() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize("first", ["gone", "stopping"])
def test_a_call_that_nobody_answered_is_made_at_the_next_replica(
    tls: TlsFiles, well: str, first: str, open_channel: Opening
) -> None:
    with _refusing(tls, NO_ANSWER) as stopping:
        channel = open_channel(f"{closed() if first == 'gone' else stopping},{well}", tls)
        check = channel.method(health_pb2_grpc.HealthStub, "Check")
        assert check(REQUEST, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        channel.close()


def test_a_final_answer_is_asked_of_no_other(tls: TlsFiles, well: str, open_channel: Opening) -> None:
    with _refusing(tls, (NO_RETRY,)) as refusing:
        channel = open_channel(f"{refusing},{well}", tls)
        check = channel.method(health_pb2_grpc.HealthStub, "Check")
        with pytest.raises(grpc.RpcError) as refused:
            check(REQUEST, timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        channel.close()


def test_what_one_channel_finds_out_of_a_replica_all_of_its_route_know(
    tls: TlsFiles, mute: str, well: str, open_channel: Opening
) -> None:
    route = Route(f"{mute},{well}")
    finds, follows = (open_channel(route, tls, retry=False) for _ in range(2))
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            finds.method(health_pb2_grpc.HealthStub, "Check")(REQUEST, timeout=0.3)
    answer = follows.method(health_pb2_grpc.HealthStub, "Check")(REQUEST, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    finds.close()
    follows.close()


def test_calls_in_flight_at_one_that_hangs_move_to_the_next(
    tls: TlsFiles, mute: str, well: str, open_channel: Opening
) -> None:
    route = Route(f"{mute},{well}")
    channel, asks = open_channel(route, tls, moves=True), open_channel(route, tls, retry=False)
    check = channel.method(health_pb2_grpc.HealthStub, "Check")
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(check, REQUEST, timeout=60) for _ in range(4)]
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                asks.method(health_pb2_grpc.HealthStub, "Check")(REQUEST, timeout=0.3)
        # Long before their own time is over.
        for call in calls:
            assert call.result(timeout=30).status == health_pb2.HealthCheckResponse.SERVING
    channel.close()
    asks.close()


def test_calls_wait_for_the_only_one_that_there_is(tls: TlsFiles, mute: str, open_channel: Opening) -> None:
    route = Route(mute)
    channel, asks = open_channel(route, tls, moves=True), open_channel(route, tls, retry=False)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(channel.method(health_pb2_grpc.HealthStub, "Check"), REQUEST, timeout=2)
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                asks.method(health_pb2_grpc.HealthStub, "Check")(REQUEST, timeout=0.2)
        with pytest.raises(grpc.RpcError) as refused:
            call.result(timeout=30)
    assert refused.value.code() is not grpc.StatusCode.CANCELLED
    channel.close()
    asks.close()


def test_no_method_keeps_a_connection_of_before_the_certificate_was_replaced(
    tls: TlsFiles, tmp_path: Path, well: str, open_channel: Opening
) -> None:
    channel = open_channel(well, tls)
    often, once = (channel.method(health_pb2_grpc.HealthStub, "Check") for _ in range(2))
    once(REQUEST, timeout=5)
    for path in (tmp_path / "service-keystore").iterdir():
        path.unlink()
    DevelopmentAuthority(tmp_path).issue("service/keystore")
    often(REQUEST, timeout=5)
    until(lambda: connections_to(well) == 1)
    channel.close()


def connections_to(address: str) -> int:
    """How many connections this process has to it."""
    port = int(address.rpartition(":")[2])
    ours = psutil.Process().net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and bool(one.raddr) and one.raddr.port == port for one in ours)


def test_one_that_hangs_is_not_asked_again_at_once_because_another_refuses() -> None:
    now = [0.0]
    route = Route("hangs,refuses", lambda: now[0])
    for _ in range(2):
        route.failed(0, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert route.current == 1
    route.failed(1, grpc.StatusCode.UNAVAILABLE)
    assert route.current == 1
    now[0] = 2.5
    route.failed(1, grpc.StatusCode.UNAVAILABLE)
    assert route.current == 0
    # Once is enough to believe it again.
    route.failed(0, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert route.current == 1


@pytest.mark.parametrize("probe", [False, True])
def test_one_whose_calls_hang_is_left_though_its_health_answers(probe: bool) -> None:
    route = Route("hangs,well", lambda: 0.0)
    for _ in range(2):
        route.failed(0, grpc.StatusCode.DEADLINE_EXCEEDED, probe=probe)
        route.answered(0, probe=True)
    # What a probe found out another one takes back, and nothing of what calls did.
    assert route.current == (0 if probe else 1)
    route.failed(1, grpc.StatusCode.UNAVAILABLE)
    assert route.current == (0 if probe else 1)


def test_a_call_that_is_answered_says_that_all_is_well() -> None:
    route = Route("a,b")
    for probe in (False, True, False, True):
        route.failed(0, grpc.StatusCode.DEADLINE_EXCEEDED, probe=probe)
        route.answered(0)
    assert route.current == 0


def test_a_replica_whose_calls_hang_is_left_by_the_calls_of_a_door(
    tls: TlsFiles, well: str, open_channel: Opening
) -> None:
    with _hanging(tls) as hanging:
        route = Route(f"{hanging},{well}")
        channel = open_channel(route, tls, moves=True)
        asks = open_channel(route, tls, retry=False, probes=True)
        call = channel.method(health_pb2_grpc.HealthStub, "Check")
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                call(health_pb2.HealthCheckRequest(service="hangs"), timeout=0.3)
            asks.method(health_pb2_grpc.HealthStub, "Check")(REQUEST, timeout=5)
        with pytest.raises(grpc.RpcError) as answered:
            call(health_pb2.HealthCheckRequest(service="hangs"), timeout=5)
        assert answered.value.code() is grpc.StatusCode.NOT_FOUND
        channel.close()
        asks.close()


def test_calls_that_are_given_up_in_one_moment_come_to_the_next_one_after_another(
    tls: TlsFiles, well: str, monkeypatch: pytest.MonkeyPatch, open_channel: Opening
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(channels, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    with _refusing(tls, NO_ANSWER, grpc.StatusCode.CANCELLED) as refusing:
        for _ in range(8):
            channel = open_channel(f"{refusing},{well}", tls)
            assert channel.method(health_pb2_grpc.HealthStub, "Check")(REQUEST, timeout=5).status
            channel.close()
    assert len(set(pauses)) > 1


def test_a_channel_that_was_closed_opens_none(tls: TlsFiles, well: str, open_channel: Opening) -> None:
    channel = open_channel(well, tls)
    check, fresh = (channel.method(health_pb2_grpc.HealthStub, "Check") for _ in range(2))
    check(REQUEST, timeout=5)
    opened = channel._at(0)
    channel.close()
    for method in (check, fresh):
        with pytest.raises(ValueError, match="closed"):
            method(REQUEST, timeout=5)
    # Nor does a call that had found its connection before.
    channel._opened[0] = opened
    with pytest.raises(ValueError, match="closed"):
        check(REQUEST, timeout=5)
    until(lambda: connections_to(well) == 0)


def test_a_feed_goes_over_to_another_replica_before_what_it_knows_is_stale(
    tls: TlsFiles, mute: str, well: str, open_channel: Opening
) -> None:
    channel = open_channel(f"{mute},{well}", tls, retry=False)
    check = channel.method(health_pb2_grpc.HealthStub, "Check")

    def list_changes(_since: int, /, *, timeout: float) -> Changes:
        check(REQUEST, timeout=timeout)
        return Changes(1)

    feed = ChangeFeed(list_changes)
    feed.start()
    feed.wait_until_fresh(STALE_SECONDS)
    assert feed.fresh
    feed.stop()
    channel.close()


def test_the_environments_proxy_is_no_business_of_the_mesh(
    tls: TlsFiles, well: str, monkeypatch: pytest.MonkeyPatch, open_channel: Opening
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{closed()}")
    channel = open_channel(well, tls)
    check = channel.method(health_pb2_grpc.HealthStub, "Check")
    assert check(REQUEST, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    channel.close()


NO_ANSWER: Metadata = ()


@contextmanager
def _refusing(tls: TlsFiles, trailing: Metadata, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Iterator[str]:
    def refuse(_request: object, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(trailing)
        context.abort(code, "not here")

    with _serving(tls, grpc.unary_unary_rpc_method_handler(refuse)) as address:
        yield address


@contextmanager
def _hanging(tls: TlsFiles) -> Iterator[str]:
    """A replica whose health answers, and whose calls do not: those of the service `hangs`."""
    over = threading.Event()

    def answer(request: health_pb2.HealthCheckRequest, _context: object) -> health_pb2.HealthCheckResponse:
        if request.service:
            over.wait(30.0)
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    handler = grpc.unary_unary_rpc_method_handler(
        answer, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    )
    with _serving(tls, handler) as address:
        yield address
        over.set()


@contextmanager
def _serving(tls: TlsFiles, handler: grpc.RpcMethodHandler[Any, Any]) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8))
    methods = {"Check": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(require_client_certificate=True))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_a_call_to_a_peer_ends_in_its_reason_or_says_that_it_cannot_be_reached(
    tls: TlsFiles, mute: str, well: str, open_channel: Opening
) -> None:
    peer = Peer("crypto", Reason.CRYPTO_UNREACHABLE)
    channel = open_channel(well, tls)
    assert peer.method(channel, health_pb2_grpc.HealthStub, "Check", 5.0)(REQUEST).status
    with pytest.raises(StrongroomError) as refused:
        peer.method(channel, health_pb2_grpc.HealthStub, "Check", 5.0)(health_pb2.HealthCheckRequest(service="none"))
    assert (refused.value.reason, refused.value.metadata["status"]) == (Reason.CRYPTO_UNREACHABLE, "NOT_FOUND")
    channel.close()
    hanging = open_channel(mute, tls)
    with pytest.raises(StrongroomError) as unanswered:
        peer.method(hanging, health_pb2_grpc.HealthStub, "Check", 0.2)(REQUEST)
    assert (unanswered.value.reason, unanswered.value.metadata["peer"]) == (Reason.CRYPTO_UNREACHABLE, "crypto")
    hanging.close()


def test_no_other_place_says_what_an_unanswered_call_means() -> None:
    own = {
        "runtime/mesh/channels.py",
        # A call's own deadline decides, and what is sent again.
        "runtime/audit_client.py",
        # Another team's service, which is none of the mesh.
        "secrets/rotation/rotators/remote.py",
    }
    services = Path(__file__).parents[4] / "services"
    handlers = {
        str(path.relative_to(services))
        for path in services.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and node.type is not None and "RpcError" in ast.unparse(node.type)
    }
    assert handlers == own
