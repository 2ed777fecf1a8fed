"""What callers may rely on, whatever a listener stands on: gRPC's own client against each engine."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bench.abuse.raw_http2 import RawConnection, message
from bench.echo_server import PATH, NoPipeline, request, response
from services.runtime.errors import Reason, StrongroomError
from services.runtime.failed_calls import rpc_code
from services.runtime.rpc.pipeline import Behaviour, Handler
from services.runtime.rpc.streams import Stream, error_trailers
from tests.support.clients import until
from tests.support.listening import ENGINES, Listening, listening

SECONDS = 10.0
LARGE = 7 << 20


class Various:
    """Answers in the ways that there are."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.streams: list[Stream] = []
        self.ended = threading.Event()

    def __call__(self, asked: Any, context: grpc.ServicerContext) -> Any:
        """In the thread that calls."""
        raise AssertionError("a handler that begins is begun")

    def begin(self, asked: Any, context: Any, reply: Any) -> None:
        """Answers, refuses, breaks or never ends, whatever the payload says."""
        self.seen.append((dict(context.invocation_metadata()), context.peer(), context.time_remaining()))
        if asked.payload == b"later":
            threading.Timer(0.05, reply.answer, (reply.serialize(response(b"late")), (("told", "late"),))).start()
        elif asked.payload == b"refuse":
            error = StrongroomError(Reason.KEY_DISABLED, "it is disabled: 100 % ü", field="key")
            reply.fail(error, (*error_trailers(error), ("event-bin", b"\x00\xff")))
        elif asked.payload == b"break":
            raise ValueError("of a library's")
        elif asked.payload == b"never":
            context.add_callback(self.ended.set)
        elif len(asked.payload) > 1_000:
            reply.answer(reply.serialize(response(b"%d" % len(asked.payload))), ())
        else:
            reply.answer(reply.serialize(response(asked.payload)), (("sent-bin", b"\x00\x01"), ("sent", "text")))


class _Direct(NoPipeline):
    def __init__(self, handler: Various) -> None:
        super().__init__()
        self._handler = handler

    def public(self, method: Any, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """The handler itself."""
        del method, behaviour, streams
        return self._handler


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each of the two, where it is built."""
    return str(request.param)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Iterator[tuple[Listening, Various]]:
    handler = Various()
    directory = tmp_path_factory.mktemp("listening")
    with listening(directory, pipeline=_Direct(handler), engine=engine) as running:
        yield running, handler


@pytest.fixture
def channel(serving: tuple[Listening, Various]) -> Iterator[grpc.Channel]:
    with serving[0].channel("public") as channel:
        yield channel


def called(channel: grpc.Channel, payload: bytes, **options: Any) -> tuple[bytes, dict[str, str | bytes]]:
    """What is answered, and the trailing metadata."""
    method: Any = channel.unary_unary(PATH)
    answer, call = method.with_call(request(payload).SerializeToString(), timeout=SECONDS, **options)
    parsed: Any = type(response(b"")).FromString(answer)
    return parsed.payload, dict(call.trailing_metadata())


def refused(channel: grpc.Channel, payload: bytes, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        called(channel, payload, **options)
    return caught.value


def test_metadata_travels_both_ways(serving: tuple[Listening, Various], channel: grpc.Channel) -> None:
    said = (("a-text", "text"), ("some-bin", b"\x00\xffbytes"))
    answer, trailers = called(channel, b"x", metadata=said)
    metadata, peer, remaining = serving[1].seen[-1]
    assert (answer, trailers["sent-bin"], trailers["sent"]) == (b"x", b"\x00\x01", "text")
    assert (metadata["a-text"], metadata["some-bin"]) == ("text", b"\x00\xffbytes")
    assert peer.startswith("ipv4:127.0.0.1:")
    assert 0 < remaining <= SECONDS


def test_an_answer_may_come_from_another_thread(channel: grpc.Channel) -> None:
    answer, trailers = called(channel, b"later")
    assert (answer, trailers["told"]) == (b"late", "late")


def test_a_refusal_says_all_that_it_has_to(channel: grpc.Channel) -> None:
    error = refused(channel, b"refuse")
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "it is disabled: 100 % ü")
    assert info.reason == Reason.KEY_DISABLED
    assert dict(error.trailing_metadata())["event-bin"] == b"\x00\xff"


def test_a_fault_of_ours_tells_nothing(channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("CRITICAL"):
        error = refused(channel, b"break")
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")


def test_messages_are_as_large_as_they_may_be_and_no_larger(channel: grpc.Channel) -> None:
    assert called(channel, bytes(LARGE))[0] == b"%d" % LARGE
    assert refused(channel, bytes(9 << 20)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_method_that_there_is_not_is_unimplemented(channel: grpc.Channel) -> None:
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH + "Nothing")
    with pytest.raises(grpc.RpcError) as caught:
        method(b"", timeout=SECONDS)
    assert rpc_code(caught.value) is grpc.StatusCode.UNIMPLEMENTED


def test_who_cancels_is_told_of(serving: tuple[Listening, Various], channel: grpc.Channel) -> None:
    method: Any = channel.unary_unary(PATH)
    serving[1].ended.clear()
    seen = len(serving[1].seen)
    future = method.future(request(b"never").SerializeToString(), timeout=SECONDS)
    until(lambda: len(serving[1].seen) > seen, SECONDS)
    future.cancel()
    assert serving[1].ended.wait(SECONDS)


def test_a_deadline_ends_a_call_at_this_side_too(serving: tuple[Listening, Various]) -> None:
    running, handler = serving
    handler.ended.clear()
    with RawConnection(running.address("public"), running.trust) as connection:
        body = message(request(b"never").SerializeToString())
        stream = connection.call(PATH, {"grpc-timeout": "100m"}, body, ends=True)
        assert handler.ended.wait(SECONDS)
        until(lambda: stream in connection.ended, SECONDS)


def test_compressed_messages_are_served_or_refused_as_such(channel: grpc.Channel, engine: str) -> None:
    how = {"compression": grpc.Compression.Gzip}
    if engine == "grpcio":
        assert called(channel, bytes(10_000), **how)[0] == b"10000"
    else:
        error = refused(channel, bytes(10_000), **how)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "compressed" in error.details()


def test_who_speaks_no_http2_is_not_kept(serving: tuple[Listening, Various]) -> None:
    running, _ = serving
    host, _, port = running.address("health").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as plain, suppress(ConnectionResetError):
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        while plain.recv(4096):
            pass


def _serial_number(running: Listening) -> int:
    """The serial number of the certificate that a handshake sees now."""
    host, _, port = running.address("public").rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=SECONDS)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_certificates_are_read_again_and_half_a_replacement_changes_nothing(tmp_path: Path, engine: str) -> None:
    with listening(tmp_path, engine=engine) as running:
        first = _serial_number(running)
        other = running.authority.issue("service/keystore")
        if engine == "native":
            # gRPC takes any pair that parses, and has no certificate then.
            shutil.copy(other.certificate, running.files.certificate)
            assert _serial_number(running) == first
        _replace(other.key, running.files.key)
        _replace(other.certificate, running.files.certificate)
        until(lambda: _serial_number(running) != first, SECONDS)


def _replace(source: Path, target: Path) -> None:
    beside = target.with_suffix(".new")
    shutil.copy(source, beside)
    beside.replace(target)


def test_certificates_of_others_are_turned_away(tmp_path: Path, engine: str, foreign_authority: Any) -> None:
    files = foreign_authority.issue("service/crypto")
    with listening(tmp_path, engine=engine) as running:
        connects: Callable[[], RawConnection] = lambda: RawConnection(  # noqa: E731
            running.address("certificate"), running.trust, (files.certificate, files.key)
        )
        with suppress(OSError), connects() as connection:
            assert connection.closed.wait(SECONDS)
