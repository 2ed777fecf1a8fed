"""Callers that take nothing of what is sent to them, over both engines: nobody else waits for them, and they are cut
off, by the end of their session at the latest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from bench.abuse.raw_http2 import RawConnection, message
from bench.echo_server import NoPipeline
from deploy.dev.mesh import Mesh
from deploy.dev.topology import free_port
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call, Principal
from services.runtime.requests.names import ResourceName
from services.runtime.rpc import reflection, streams
from services.runtime.rpc.pipeline import Behaviour, Handler
from services.runtime.rpc.stream_ends import StreamEnds
from services.runtime.rpc.streams import Stream
from services.runtime.storage.database import transaction
from services.secrets.core import changes
from services.secrets.core.editing import SecretEditor
from services.secrets.life import telling
from services.secrets.life.watching import Watches
from strongroom import Client
from strongroom.audit.v1 import audit_service_pb2
from strongroom.audit.v1.audit_service_pb2 import StreamEventsResponse
from strongroom.secrets.v1.secret_service_pb2 import (
    SECRET_CHANGE_STAGE,
    WatchSecretRequest,
    WatchSecretResponse,
)
from tests.support.clients import client_of, until
from tests.support.clocks import StillClock
from tests.support.listening import ENGINES, Listening, echo, listening
from tests.support.rotation.lab import ACCOUNT, Lab, NoAudit, Permits, Place, person
from tests.support.rotation.subjects import Generic

AUDIT = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"]
STREAM_EVENTS = f"/{AUDIT.full_name}/StreamEvents"
NOW = 1_700_000_000
SECONDS = 20.0
LIST_SERVICES = b"\x3a\x01*"


class Streaming(NoPipeline):
    """Looks after streams as the real one does, by sessions that end in ten seconds, and keeps them."""

    def __init__(self, clock: StillClock) -> None:
        super().__init__()
        self.ends = StreamEnds(clock)
        self.streams: list[Stream] = []

    def public(self, method: Any, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """A stream that is kept, and nothing else."""
        del method
        if not streams:
            return cast(Handler, behaviour)

        def stream(_request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
            begun = Stream(context, send)
            caller = Principal("accounts/acme/users/ann", "acme", expires=NOW + 10.0)
            self.ends.follow(Call("service", "StreamEvents", "a:b", principal=caller), begun)
            self.streams.append(begun)

        stream.experimental_non_blocking = True  # type: ignore[attr-defined]
        return stream


class Anything:
    """Has every method, and none is called."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: name


@pytest.fixture
def clock() -> StillClock:
    return StillClock(NOW * 1_000_000)


@pytest.fixture(params=ENGINES)
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock
) -> Iterator[tuple[RawConnection, int, Stream]]:
    """A stream whose caller lets nothing of it come: the connection, the stream's number, and the other end."""
    pipeline = Streaming(clock)
    serving = listening(tmp_path, engine=request.param, pipeline=pipeline, service=AUDIT, servicer=Anything())
    with serving as running, RawConnection(running.address("public"), running.trust, window=0) as connection:
        number = connection.call(STREAM_EVENTS, {}, message(b""), ends=True)
        until(lambda: bool(pipeline.streams), SECONDS)
        yield connection, number, pipeline.streams[0]
        pipeline.ends.stop()


def sending(stream: Stream) -> threading.Thread:
    """Sends for as long as somebody listens."""

    def send() -> None:
        while stream.active:
            stream.send(StreamEventsResponse(resume_token="x" * 1_000))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def test_who_takes_nothing_is_cut_off_and_the_sender_goes_on(
    opened: tuple[RawConnection, int, Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, number, stream = opened
    ended = threading.Event()
    monkeypatch.setattr(streams, "UNTAKEN_SECONDS", 0.5)
    assert stream.on_end(ended.set)
    sender = sending(stream)
    sender.join(SECONDS)
    assert not sender.is_alive()
    assert ended.wait(SECONDS)
    # The stream alone: what else is called on its connection goes on.
    until(lambda: number in connection.ended, SECONDS)
    assert not connection.closed.is_set()


def test_the_end_of_a_session_cuts_off_who_takes_nothing(
    opened: tuple[RawConnection, int, Stream], clock: StillClock
) -> None:
    connection, number, stream = opened
    ended = threading.Event()
    assert stream.on_end(ended.set)
    sender = sending(stream)
    until(lambda: stream.waits_seconds > 0, SECONDS)
    clock.us += 11_000_000
    sender.join(SECONDS)
    assert not sender.is_alive()
    assert ended.wait(SECONDS)
    until(lambda: number in connection.ended, SECONDS)


@pytest.mark.parametrize("engine", ENGINES)
def test_who_asks_for_reflection_and_takes_nothing_keeps_no_thread(tmp_path: Path, engine: str) -> None:
    asked = message(LIST_SERVICES) * 12
    with ExitStack() as stack:
        running: Listening = stack.enter_context(listening(tmp_path, engine=engine, stranger_threads=4))
        path = f"/{reflection.NAMES[0]}/{reflection.METHOD}"
        for _ in range(running.settings.stranger_threads):
            lazy = RawConnection(running.address("public"), running.trust, window=0)
            stack.enter_context(lazy).call(path, {}, asked)
        channel = stack.enter_context(running.channel("public"))
        for _ in range(10):
            echo(channel, timeout=SECONDS)


class Caller:
    """gRPC's context of a stream, whose caller takes everything or nothing."""

    def __init__(self, *, takes: bool) -> None:
        self.taken: list[WatchSecretResponse] = []
        self.over = threading.Event()
        self._takes = takes
        self._told: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        return not self.over.is_set()

    def add_callback(self, tell: Callable[[], None]) -> bool:
        self._told.append(tell)
        return self.is_active()

    def set_trailing_metadata(self, _: Any) -> None: ...

    def set_code(self, _: Any) -> None: ...

    def set_details(self, _: Any) -> None: ...

    def cancel(self) -> None:
        self.over.set()
        for tell in self._told:
            tell()

    def send(self, told: WatchSecretResponse | None) -> None:
        if told is None:
            self.cancel()
        elif self._takes:
            self.taken.append(told)
        else:
            self.over.wait(SECONDS)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab.new(Place(f"sqlite:///{tmp_path / 'secrets.db'}", free_port(), "test"))
    Generic().create(made, "s")
    yield made
    made.close()


@pytest.fixture
def watches(lab: Lab) -> Iterator[Watches]:
    permits: Any = Permits()
    editor = SecretEditor(lab.engine, permits, cast(Any, None), lab.clock)
    made = Watches(lab.engine, editor, cast(Authorizer, permits), cast(AuditClient, NoAudit()), lab.clock)
    made.start()
    yield made
    made.stop()


def watch(watches: Watches, caller: Caller, *, who: str = "ann", account: str = ACCOUNT) -> None:
    call = person("WatchSecret")
    call.principal = replace(call.principal, name=f"accounts/{account}/users/{who}", account=account)
    begin = watches.watch(call, [ResourceName(ACCOUNT, "secrets", "s")], "")
    begin(Stream(cast(grpc.ServicerContext, caller), caller.send))


def change(lab: Lab) -> None:
    with transaction(lab.engine) as connection:
        name = ResourceName(ACCOUNT, "secrets", "s")
        changes.note(connection, name, SECRET_CHANGE_STAGE, 1, {"Current": 1}, lab.clock.now_us())


def test_watchers_that_take_nothing_keep_no_other_waiting(lab: Lab, watches: Watches) -> None:
    lazy = [Caller(takes=False) for _ in range(24)]
    for caller in lazy:
        watch(watches, caller, who="lazy")
    honest, of_another = Caller(takes=True), Caller(takes=True)
    watch(watches, honest)
    watch(watches, of_another, account="other")
    until(lambda: len(honest.taken) == len(of_another.taken) == 1, SECONDS)
    change(lab)
    until(lambda: len(honest.taken) == len(of_another.taken) == 2, SECONDS)
    for caller in lazy:
        caller.cancel()


def test_where_many_take_nothing_those_of_whom_most_are_give_way_soon(
    watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_MOST_WAITING", 6)
    monkeypatch.setattr(telling, "_MOMENT_SECONDS", 0.1)
    few, many = ([Caller(takes=False) for _ in range(count)] for count in (3, 9))
    for callers, account in ((few, "few"), (many, "many")):
        for caller in callers:
            watch(watches, caller, account=account)
    until(lambda: sum(caller.over.is_set() for caller in many) == 6, SECONDS)
    honest = Caller(takes=True)
    watch(watches, honest)
    until(lambda: len(honest.taken) == 1, SECONDS)
    assert not any(caller.over.is_set() for caller in few)
    for caller in (*few, *many):
        caller.cancel()


def test_who_has_much_to_hear_takes_turns_with_others(
    lab: Lab, watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    go = threading.Event()
    message_of = watches._message

    def noted(one: Any, told: Any) -> WatchSecretResponse:
        go.wait(SECONDS)
        order.append(one.call.principal.account)
        return message_of(one, told)

    monkeypatch.setattr(watches, "_message", noted)
    greedy = [Caller(takes=True) for _ in range(8)]
    for caller in greedy:
        watch(watches, caller)
    for _ in range(50):
        change(lab)
    other = Caller(takes=True)
    watch(watches, other, account="other")
    go.set()
    until(lambda: bool(other.taken), SECONDS)
    # Four were being decided on already.
    assert order.index("other") < 20
    until(lambda: all(len(caller.taken) == 51 for caller in greedy), SECONDS)


def test_who_begins_to_watch_much_keeps_nobody_waiting_and_misses_nothing(
    lab: Lab, watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, slow = Caller(takes=True), Caller(takes=True)
    watch(watches, honest)
    until(lambda: len(honest.taken) == 1, SECONDS)
    as_they_are = watches._as_they_are

    def after_others_have_heard(*arguments: Any) -> Any:
        found = as_they_are(*arguments)
        changing = threading.Thread(target=change, args=(lab,))
        changing.start()
        changing.join()
        until(lambda: len(honest.taken) == 2, SECONDS)
        return found

    monkeypatch.setattr(watches, "_as_they_are", after_others_have_heard)
    watch(watches, slow)
    until(lambda: len(slow.taken) == 2, SECONDS)
    change(lab)
    until(lambda: len(slow.taken) == len(honest.taken) == 3, SECONDS)
    assert [told.change for told in slow.taken][1:] == [SECRET_CHANGE_STAGE] * 2


def test_a_queue_that_nobody_takes_from_is_bounded(lab: Lab, watches: Watches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.secrets.life.telling.MAX_QUEUED", 20)
    lazy = Caller(takes=False)
    watch(watches, lazy)
    for _ in range(30):
        change(lab)
    until(lambda: not watches._watches, SECONDS)
    lazy.cancel()


def test_callers_of_a_mesh_that_take_nothing_keep_no_watcher_of_it_waiting(
    tenant: Client, mesh: Mesh, name: str
) -> None:
    tenant.keys.aliases.create("strongroom-secrets", tenant.keys.create("of-secrets").name)
    # More than a listener keeps for one who takes nothing.
    names = [tenant.secrets.create(f"s{number}", b"v").name for number in range(6)]
    token, trust = tenant.access.sessions.create().token, mesh.authority.issue(f"user/{name}").trust
    body = message(WatchSecretRequest(names=names).SerializeToString())
    path, headers = "/strongroom.secrets.v1.SecretService/WatchSecret", {"authorization": f"Bearer {token}"}
    with (
        RawConnection(mesh.address("secrets", "public"), trust, window=0) as lazy,
        client_of(mesh, f"user/{name}", name) as honest,
    ):
        for _ in range(12):
            lazy.call(path, headers, body, ends=True)
        with honest.secrets.watch(names) as watch, ThreadPoolExecutor(1) as threads:
            told = iter(watch)
            assert {threads.submit(next, told).result(SECONDS).change for _ in names} == {"STATE"}
            tenant.secrets.put_value("s0", b"w")
            assert threads.submit(next, told).result(SECONDS).change == "STAGE"
