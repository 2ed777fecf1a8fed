"""Both listeners, called by the implementations of gRPC that users have: a call comes to the same in each of them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from bench.echo_server import NoPipeline
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.pipeline import Behaviour, Handler
from services.runtime.rpc.ports import MAX_MESSAGE_BYTES, METADATA_BYTES
from services.runtime.rpc.streams import Stream, Trailers, error_trailers
from tests.polyglot.languages import LANGUAGES, ROOT
from tests.support.clients import until
from tests.support.listening import ENGINES, Listening, listening

_PACKAGE = "strongroom.test.v1"
_SERVICE = f"/{_PACKAGE}.Interoperability"
WATCH = "/grpc.health.v1.Health/Watch"
LARGE = 7 << 20
SPAN = 64 << 10
"""Of a message of a stream: some of them are more than a window."""
PATIENCE = 60_000
"""Milliseconds until a call's deadline, where it has no other."""
MANY = 400
"""More calls than one connection may have at once."""
SAID = "100 % of it: größer,\nand 本"
REFUSED = StrongroomError(Reason.KEY_DISABLED, SAID, field="key")
DETAILS = REFUSED.to_status().SerializeToString()


def _contract() -> ServiceDescriptor:
    method = descriptor_pb2.MethodDescriptorProto
    value = ".google.protobuf.BytesValue"
    file = descriptor_pb2.FileDescriptorProto(
        name="strongroom/test/v1/interoperability.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
        service=[
            descriptor_pb2.ServiceDescriptorProto(
                name="Interoperability",
                method=[
                    method(name="One", input_type=value, output_type=value),
                    method(name="Several", input_type=value, output_type=value, server_streaming=True),
                ],
            )
        ],
    )
    found: ServiceDescriptor = (
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString()).services_by_name["Interoperability"]
    )
    return found


class Answers:
    """What is answered, by what a message says."""

    def __init__(self) -> None:
        self.ended = threading.Semaphore(0)
        """One for each call that never ends by itself, once it has."""

    def One(self, asked: Any, context: Any) -> Any:  # noqa: N802  # the contract's name
        """In the thread that calls."""
        raise AssertionError("a handler that begins is begun")

    __call__ = One

    def begin(self, asked: BytesValue, context: Any, reply: Any) -> None:
        """One answer: the message, its size where it is large, or what it asks for."""
        what, _, number = asked.value[:64].decode(errors="replace").partition(" ")
        if what == "refuse":
            reply.fail(REFUSED, error_trailers(REFUSED) + _returned(context))
        elif what == "never":
            self._release_at_end(context)
        elif what == "left":
            reply.answer(reply.serialize(BytesValue(value=b"%d" % (1000 * context.time_remaining()))), ())
        elif what == "fill":
            reply.answer(reply.serialize(BytesValue(value=bytes(int(number)))), ())
        elif len(asked.value) > SPAN:
            reply.answer(reply.serialize(BytesValue(value=b"%d" % len(asked.value))), ())
        else:
            reply.answer(reply.serialize(asked), _returned(context))

    def Several(self, asked: BytesValue, context: Any, send: Callable[[Any], None]) -> None:  # noqa: N802  # likewise
        """Some answers, and how they end: well, with a refusal, or never."""
        number, _, end = asked.value.decode().partition(" ")
        for _ in range(int(number)):
            send(BytesValue(value=bytes(SPAN)))
        if end == "well":
            context.set_trailing_metadata(_returned(context))
            send(None)
        elif end == "refuse":
            Stream(context, send).end(REFUSED)
        else:
            self._release_at_end(context)

    def _release_at_end(self, context: Any) -> None:
        if not context.add_callback(self.ended.release):
            self.ended.release()


def _returned(context: Any) -> Trailers:
    """What the caller said under names of its own."""
    return tuple((name, value) for name, value in context.invocation_metadata() if name.startswith("x-"))


class _Direct(NoPipeline):
    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self._answers = answers

    def public(self, method: Any, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """The handler itself."""
        del method, behaviour
        if not streams:
            return self._answers

        def several(asked: Any, context: Any, send: Callable[[Any], None]) -> None:
            self._answers.Several(asked, context, send)

        several.experimental_non_blocking = True  # type: ignore[attr-defined]
        return several


@dataclass(frozen=True)
class Outcome:
    """What came of a call, as a program says it."""

    code: StatusCode
    message: str
    answers: tuple[bytes, ...]
    trailing: tuple[tuple[str, str], ...]
    details: bytes
    milliseconds: float

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Outcome:
        """As it was written."""
        (code,) = (code for code in StatusCode if code.value[0] == said["code"])
        return cls(
            code,
            said["message"] or "",
            tuple(base64.b64decode(answer) for answer in said["answers"]),
            tuple((name, value) for name, value in said["trailing"]),
            base64.b64decode(said["details"] or ""),
            said["milliseconds"],
        )

    @property
    def returned(self) -> dict[str, str]:
        """The trailing metadata. Values of one name are one value, as HTTP has it: some implementations join them."""
        found: dict[str, str] = {}
        for name, value in self.trailing:
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @property
    def values(self) -> list[bytes]:
        """Of the answers."""
        return [BytesValue.FromString(answer).value for answer in self.answers]


def _ok(outcome: Outcome) -> bool:
    return outcome.code is StatusCode.OK


def _answered(*values: bytes) -> Callable[[Outcome], bool]:
    return lambda outcome: _ok(outcome) and outcome.values == list(values)


def _ended(code: StatusCode) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.code is code and not outcome.answers


def _refused(outcome: Outcome) -> bool:
    return (outcome.code, outcome.message, outcome.details) == (StatusCode.FAILED_PRECONDITION, SAID, DETAILS)


def _spans(number: int) -> Callable[[Outcome], bool]:
    return lambda outcome: [len(value) for value in outcome.values] == [SPAN] * number


def _both(*all_: Callable[[Outcome], bool]) -> Callable[[Outcome], bool]:
    return lambda outcome: all(one(outcome) for one in all_)


def _in_time(outcome: Outcome) -> bool:
    return 300 <= outcome.milliseconds < 5_000 and outcome.code is StatusCode.DEADLINE_EXCEEDED


def _waits(outcome: Outcome) -> bool:
    # Some round it up, to seconds.
    return PATIENCE - 20_000 < int(outcome.values[0]) <= PATIENCE + 1_000


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


# Gaps, names more than once, bytes of every value and of every length as to padding.
METADATA = (
    ("x-text", "a, b;c=d"),
    ("x-text", "again"),
    *((f"x-{length}-bin", _text(bytes(range(length)))) for length in (1, 2, 3, 256)),
)
RETURNED = {**dict(METADATA), "x-text": "a, b;c=d, again"}


@dataclass(frozen=True)
class Case:
    """A call, and what its outcome has to be with either engine."""

    name: str
    expected: Callable[[Outcome], bool]
    value: bytes = b"x"
    path: str = f"{_SERVICE}/One"
    how: Mapping[str, Any] = field(default_factory=dict)
    outlived: int = 0
    """How many calls end at the server's side because their callers go."""
    natively: Callable[[Outcome], bool] | None = None
    """What it has to be with the native engine, where that differs."""

    def asked(self) -> dict[str, Any]:
        """The call as programs read it."""
        plain = {"metadata": [], "timeout": PATIENCE, "cancel": 0, "compress": False, "stream": False, "take": 0}
        message = b"" if self.path == WATCH else BytesValue(value=self.value).SerializeToString()
        return {"path": self.path, "message": _text(message), **plain, "times": 1, "seconds": 0, **self.how}


_SEVERAL = f"{_SERVICE}/Several"
_STREAM = {"stream": True}
CASES = (
    Case("an answer", _answered(b"x")),
    Case("nothing", _answered(b""), b""),
    Case("no deadline", _answered(b"x"), how={"timeout": 0}),
    Case(
        "metadata",
        lambda outcome: _ok(outcome) and outcome.returned == RETURNED,
        how={"metadata": METADATA},
    ),
    Case(
        "metadata beside a refusal",
        lambda outcome: _refused(outcome) and outcome.returned == RETURNED,
        b"refuse",
        how={"metadata": METADATA},
    ),
    Case("a refusal alone", _refused, b"refuse"),
    Case("a refusal after answers", _both(_refused, _spans(3)), b"3 refuse", _SEVERAL, _STREAM),
    Case("a refusal at once", _both(_refused, _spans(0)), b"0 refuse", _SEVERAL, _STREAM),
    Case("answers", _both(_ok, _spans(40)), b"40 well", _SEVERAL, _STREAM),
    Case("no answers", _both(_ok, _spans(0)), b"0 well", _SEVERAL, _STREAM),
    Case("no such method", _ended(StatusCode.UNIMPLEMENTED), path=f"{_SERVICE}/Nothing"),
    Case("how long its caller waits", _waits, b"left"),
    Case(
        "a deadline", _both(_ended(StatusCode.DEADLINE_EXCEEDED), _in_time), b"never", how={"timeout": 300}, outlived=1
    ),
    Case("a deadline of a stream", _in_time, b"2 never", _SEVERAL, {**_STREAM, "timeout": 300}, outlived=1),
    Case("who cancels", _ended(StatusCode.CANCELLED), b"never", how={"cancel": 300}, outlived=1),
    Case(
        "who cancels a stream",
        _both(lambda outcome: outcome.code is StatusCode.CANCELLED, _spans(2)),
        b"2 never",
        _SEVERAL,
        {**_STREAM, "take": 2},
        outlived=1,
    ),
    Case(
        "health is watched",
        lambda outcome: outcome.code is StatusCode.CANCELLED and outcome.answers == (b"\x08\x01",),
        path=WATCH,
        how={**_STREAM, "take": 1},
    ),
    Case("a large message", _answered(b"%d" % LARGE), bytes(LARGE)),
    Case("a large answer", _answered(bytes(LARGE)), b"fill %d" % LARGE),
    Case(
        "a message that is too large",
        _ended(StatusCode.RESOURCE_EXHAUSTED),
        bytes(MAX_MESSAGE_BYTES["public"] + 1),
    ),
    # Some ask what they may send and do not send it, others are told.
    Case(
        "too much metadata",
        lambda outcome: not _ok(outcome) and not outcome.answers and outcome.milliseconds < 5_000,
        how={"metadata": [("x-large", "y" * 2 * METADATA_BYTES)]},
    ),
    Case(
        "a compressed message",
        _answered(b"%d" % (SPAN + 1)),
        bytes(SPAN + 1),
        how={"compress": True},
        natively=_ended(StatusCode.UNIMPLEMENTED),
    ),
    # grpcio's server refuses what is too many, and its clients repeat it once; ours has clients wait.
    Case(
        "more calls than a connection may have",
        lambda outcome: outcome.code in (StatusCode.OK, StatusCode.UNAVAILABLE),
        how={"times": MANY},
        natively=_answered(b"x"),
    ),
    Case("an answer after all that", _answered(b"x")),
)
AGING = Case("connections that are ended again and again", _answered(b"x"), how={"times": 8, "seconds": 3})


def _by_grpcio(asked: str) -> str:
    command = [sys.executable, "-m", "tests.polyglot.interop.calls"]
    return subprocess.run(
        command, cwd=ROOT, input=asked, capture_output=True, text=True, check=True, timeout=300
    ).stdout


PROGRAMS: Mapping[str, Callable[[str], str]] = {
    "python": _by_grpcio,
    **{language.name: language.make_calls for language in LANGUAGES if language.calls},
}
_LANGUAGES = {language.name: language for language in LANGUAGES}


@pytest.fixture(scope="module")
def contract() -> ServiceDescriptor:
    return _contract()


@contextmanager
def _serving(directory: Path, contract: ServiceDescriptor, **settings: Any) -> Iterator[tuple[Listening, Answers]]:
    answers = Answers()
    with listening(directory, pipeline=_Direct(answers), service=contract, servicer=answers, **settings) as running:
        yield running, answers


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Callable[[str], str]:
    if request.param in _LANGUAGES:
        _LANGUAGES[request.param].built()
    return PROGRAMS[request.param]


def _made(program: Callable[[str], str], running: Listening, cases: Sequence[Case]) -> Iterator[tuple[Case, Outcome]]:
    asked = {
        "address": running.address("public"),
        "trust": str(running.trust),
        "calls": [case.asked() for case in cases],
    }
    outcomes = json.loads(program(json.dumps(asked)))
    return zip(cases, map(Outcome.of, outcomes), strict=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_call_comes_to_the_same(
    program: Callable[[str], str], engine: str, contract: ServiceDescriptor, tmp_path: Path
) -> None:
    with _serving(tmp_path, contract, engine=engine) as (running, answers):
        wrong = [
            f"{case.name}: {str(outcome)[:600]}"
            for case, outcome in _made(program, running, CASES)
            if not ((case.natively if engine == "native" else None) or case.expected)(outcome)
        ]
        assert not wrong, "\n".join(wrong)
        # Whoever went has been noticed.
        for _ in range(sum(case.outlived for case in CASES)):
            until(lambda: answers.ended.acquire(blocking=False))


@pytest.mark.skipif("native" not in ENGINES, reason="the native listener is not built (make native)")
def test_no_call_fails_as_connections_are_ended(
    program: Callable[[str], str], contract: ServiceDescriptor, tmp_path: Path
) -> None:
    with _serving(tmp_path, contract, engine="native", connection_seconds=1.0) as (running, _):
        ((_, outcome),) = _made(program, running, [AGING])
        assert AGING.expected(outcome), outcome


def test_details_are_what_google_has_them_be() -> None:
    """So that what all programs decode alike is no accident of one of them."""
    info = error_details_pb2.ErrorInfo()
    status = status_pb2.Status.FromString(DETAILS)
    assert status.details[0].Unpack(info)
    assert (status.message, info.reason) == (SAID, Reason.KEY_DISABLED)
