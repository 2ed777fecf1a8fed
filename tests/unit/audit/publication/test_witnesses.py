"""Witnesses of our own over real HTTP: they cosign what goes on from before, and refuse everything else."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from services.audit.publication import witnesses
from services.audit.publication.witnesses import WitnessSettings
from services.runtime.errors import Reason, StrongroomError
from strongroom.cli.witness_server import WitnessServer
from strongroom.tlog import checkpoints, merkle, notes
from strongroom.tlog.checkpoints import Checkpoint, open_checkpoint
from strongroom.tlog.notes import Note, Signer, VerifierKey
from strongroom.tlog.tiles import Proofs, Subtrees
from strongroom.tlog.witness import SIZE_TYPE, Submission, Witness, WitnessState, origin_hash
from tests.support.audit_logs import ORIGIN, OwnRoot, event, opened, own_call
from tests.support.clients import until

NAME = "witness.example/w"


class KeptTree:
    """A log to be witnessed: its leaves, and proofs between any two of its sizes."""

    def __init__(self, count: int, prefix: str = "") -> None:
        self.hashes = merkle.leaf_hashes(f"{prefix}{number}".encode() for number in range(count))

    def tile(self, level: int, number: int, width: int) -> bytes:
        assert level == 0
        return b"".join(self.hashes[number * 256 : number * 256 + width])

    def submission(self, old_size: int, size: int, signer: Signer) -> Submission:
        text = Checkpoint(signer.name, size, merkle.root_of(self.hashes[:size])).text
        proof = Proofs(Subtrees(self), size).consistency(old_size) if 0 < old_size <= size else []
        return Submission(old_size, proof, bytes(Note(text, [signer.sign(text)])))


@pytest.fixture
def signer() -> Signer:
    return Signer("log.example/a", Ed25519PrivateKey.generate())


@pytest.fixture
def witness(tmp_path: Path, signer: Signer) -> Witness:
    return Witness(NAME, WitnessState(tmp_path / "witness"), [signer.verifier_key], time.time)


def test_it_cosigns_a_log_that_only_grows(witness: Witness, signer: Signer, tmp_path: Path) -> None:
    log = KeptTree(100)
    for old_size, size in ((0, 1), (1, 7), (7, 7), (7, 64), (64, 100)):
        submission = log.submission(old_size, size, signer)
        answer = witness.add_checkpoint(bytes(submission))
        assert answer.status == 200, answer.body
        cosigned = submission.note + answer.body
        checkpoint, _ = open_checkpoint(cosigned, [signer.verifier_key], [witness.verifier_key], 1)
        assert checkpoint.size == size
        assert witness.checkpoint(origin_hash(signer.name)).body == cosigned
    # One that begins anew remembers.
    again = Witness(NAME, WitnessState(tmp_path / "witness"), [signer.verifier_key], time.time)
    assert again.verifier_key == witness.verifier_key
    answer = again.add_checkpoint(bytes(log.submission(0, 100, signer)))
    assert (answer.status, answer.body, answer.content_type) == (409, b"100\n", SIZE_TYPE)


def test_it_refuses_everything_else_as_specified(witness: Witness, signer: Signer) -> None:
    log, other = KeptTree(50), KeptTree(50, "other ")
    assert witness.add_checkpoint(bytes(log.submission(0, 20, signer))).status == 200
    stranger = Signer("log.example/b", Ed25519PrivateKey.generate())
    impostor = Signer(signer.name, Ed25519PrivateKey.generate())
    forged = log.submission(20, 30, signer)
    good = bytes(log.submission(20, 30, signer))
    cases = [
        (b"", 400),
        (good.replace(b"old 20", b"old 020"), 400),
        (good.replace(b"old 20", b"new 20"), 400),
        (bytes(log.submission(31, 30, signer)), 400),
        (bytes(log.submission(20, 30, stranger)), 404),
        (bytes(log.submission(20, 30, impostor)), 403),
        (bytes(forged).replace(b"\n30\n", b"\n31\n"), 403),
        (bytes(log.submission(10, 30, signer)), 409),
        (bytes(other.submission(20, 30, signer)), 422),
        (bytes(other.submission(20, 20, signer)), 422),
        (bytes(Submission(20, forged.proof[:-1], forged.note)), 422),
        (bytes(Submission(20, [bytes(32)] * 64, forged.note)), 400),
    ]
    for body, status in cases:
        assert witness.add_checkpoint(body).status == status, body
    assert witness.add_checkpoint(good).status == 200
    assert witness.checkpoint(origin_hash("log.example/b")).status == 404
    assert witness.checkpoint("../key").status == 404


def test_two_submissions_at_once_never_take_it_back(witness: Witness, signer: Signer) -> None:
    log = KeptTree(40)
    statuses: list[int] = []

    def submit(size: int) -> None:
        statuses.append(witness.add_checkpoint(bytes(log.submission(0, size, signer))).status)

    threads = [threading.Thread(target=submit, args=(size,)) for size in range(1, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 18


class Running:
    """A witness that serves HTTP."""

    def __init__(self, directory: Path, keys: list[VerifierKey]) -> None:
        self.witness = Witness(NAME, WitnessState(directory), keys, time.time)
        self._server = WitnessServer(self.witness, "127.0.0.1", 0)
        self.settings = WitnessSettings(self.witness.verifier_key, f"http://127.0.0.1:{self._server.server_port}")
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def log_key(engine: Engine, crypto: OwnRoot) -> VerifierKey:
    """The key of the test's log, which is made when it is first opened."""
    log = opened(engine, crypto)
    key = notes.parse_verifier_key(log.signing_keys.known()[0].verifier_key)
    log.stop()
    return key


@pytest.fixture
def running(tmp_path: Path, log_key: VerifierKey) -> Iterator[Running]:
    running = Running(tmp_path / "witness", [log_key])
    yield running
    running.stop()


def test_what_a_stranger_sends_cannot_move_the_terminal_of_who_runs_a_witness(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    address = ("127.0.0.1", int(running.settings.url.rpartition(":")[2]))
    for sent in (b"GET /\x1b]0;owned\x07 HTTP/1.1\r\n\r\n", b"\x1b[2J\r\n\r\n", b"POST / HTTP/1.1\r\n\x9b2J\r\n\r\n"):
        with socket.create_connection(address) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    printed = capfd.readouterr().err
    assert printed
    assert all(line.isprintable() for line in printed.splitlines())


def test_a_witness_serves_on_beside_connections_that_say_nothing(running: Running) -> None:
    address = ("127.0.0.1", int(running.settings.url.rpartition(":")[2]))
    mute = [socket.create_connection(address) for _ in range(200)]
    for connection in mute:
        connection.close()
    until(lambda: answered(address), 10)


@pytest.mark.parametrize("length", ["-1", "1" * 5_000, "9" * 9, "\xb2", "1, 2", ""])
def test_a_length_that_is_none_is_refused(running: Running, length: str) -> None:
    address = ("127.0.0.1", int(running.settings.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection:
        connection.sendall(f"POST /add-checkpoint HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode("latin-1"))
        assert b" 400 " in connection.recv(4096)


def answered(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, timeout=2) as connection:
        connection.sendall(b"GET /nothing HTTP/1.1\r\n\r\n")
        return b" 404 " in connection.recv(4096)
    return False


def test_with_a_quorum_a_checkpoint_is_published_once_it_is_cosigned(
    engine: Engine, crypto: OwnRoot, running: Running, log_key: VerifierKey
) -> None:
    log = opened(engine, crypto, quorum=1, witnesses=[running.settings])
    for _ in range(3):
        log.log.append([event() for _ in range(100)])
        published = log.publisher.wait_until_published(log.log.size, 10)
        assert published is not None
        note = published.note
        assert open_checkpoint(note, [log_key], [running.witness.verifier_key], 1)[0].size == log.log.size
    (state,) = log.witnesses.states
    assert (state.cosigned_size, state.error_reason) == (300, "")
    running.stop()
    log.log.append([event()])
    assert log.publisher.wait_until_published(301, 0.5) is None
    until(lambda: state.error_reason == "WITNESS_UNREACHABLE")
    assert log.transparency.checkpoint().tree_size == 300
    assert log.transparency.checkpoint(include_unpublished=True).tree_size == 301
    log.stop()


def test_proofs_wait_for_a_quorum_as_long_as_their_callers_and_only_so_many_of_them(
    engine: Engine, crypto: OwnRoot
) -> None:
    private_key = Ed25519PrivateKey.generate()
    key = VerifierKey(NAME, notes.COSIGNATURE, private_key.public_key().public_bytes_raw())
    log = opened(engine, crypto, quorum=1, witnesses=[WitnessSettings(key, "")])
    recorded = event()
    log.log.append([recorded])

    def waited(seconds: float) -> float:
        started = time.monotonic()
        refusal = reason_of(lambda: log.transparency.inclusion("acme", recorded.id, 0, seconds))
        assert refusal is Reason.EVENT_UNPUBLISHED
        return time.monotonic() - started

    assert waited(0) < 1.2 <= waited(1.2)
    with ThreadPoolExecutor(20) as pool:
        patient = [pool.submit(waited, 2) for _ in range(20)]
        until(lambda: sum(one.done() for one in patient) == 4)
        assert max(one.result() for one in patient if one.done()) < 1
        assert sorted(one.result() >= 2 for one in patient) == 4 * [False] + 16 * [True]
    log.stop()


def test_a_log_that_was_rolled_back_is_not_cosigned(
    engine: Engine, crypto: OwnRoot, running: Running, log_key: VerifierKey
) -> None:
    signer = Signer(ORIGIN, opened_key(engine, crypto))
    assert signer.verifier_key == log_key
    # What the witness saw of the log before someone put an older database in its place.
    assert running.witness.add_checkpoint(bytes(KeptTree(50).submission(0, 50, signer))).status == 200
    log = opened(engine, crypto, quorum=1, witnesses=[running.settings])
    (state,) = log.witnesses.states
    log.log.append([event() for _ in range(10)])
    until(lambda: state.error_reason == "WITNESS_CONFLICT")
    assert "50" in state.error_detail
    log.log.append([event() for _ in range(60)])
    until(lambda: "422" in state.error_detail)
    assert log.publisher.published is None
    log.stop()


class HostileWitness:
    """Answers every connection with the same bytes; then it may go on with a byte at a time, for ever."""

    def __init__(self, answer: bytes, drip: bytes) -> None:
        self.asked = 0
        self._answer, self._drip = answer, drip
        self._socket = socket.create_server(("127.0.0.1", 0))
        key = VerifierKey(
            "hostile.example/w", notes.COSIGNATURE, Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        )
        self.settings = WitnessSettings(key, f"http://127.0.0.1:{self._socket.getsockname()[1]}")
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.asked += 1
                threading.Thread(target=self._speak, args=(connection,), daemon=True).start()

    def _speak(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(self._answer)
            for _ in itertools.repeat(None) if self._drip else ():
                connection.sendall(self._drip)
                time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "drip"),
    [
        pytest.param(b"HTTP/1.1 409 Conflict\r\n\r\n" + b"9" * 5_000, b"", id="a size of 5,000 digits"),
        pytest.param(b"HTTP/1.1 409 Conflict\r\n\r\n\xd9\xa3", b"", id="a size in other digits"),
        pytest.param(b"\x1b[2Jwhatever\r\n\r\n", b"", id="no status line"),
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\x1b[31m", b"", id="no signature"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"", id="a length below 0"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"", id="a bad chunk"),
        pytest.param(b"HTTP/1.1 " + b"1" * 70_000, b"", id="a long status line"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", b"", id="elsewhere"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-", b"a", id="a byte at a time"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 100_000, id="an answer without end"),
    ],
)
def test_one_hostile_witness_delays_nobody_and_is_asked_again(
    engine: Engine,
    crypto: OwnRoot,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    drip: bytes,
) -> None:
    monkeypatch.setattr(witnesses, "_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(witnesses, "_AGAIN_SECONDS", 0.1)
    hostile = HostileWitness(answer, drip)
    log = opened(engine, crypto, quorum=1, witnesses=[hostile.settings, running.settings])
    state, _ = log.witnesses.states
    for size in range(1, 4):
        log.log.append([event()])
        assert log.publisher.wait_until_published(size, 5) is not None
    until(lambda: hostile.asked >= 3)
    assert state.error_reason in ("WITNESS_UNREACHABLE", "COSIGNATURE_INVALID")
    assert state.error_detail.isprintable()
    assert len(state.error_detail) <= 256
    log.stop()
    hostile.stop()


def test_cosignatures_can_be_brought(engine: Engine, crypto: OwnRoot) -> None:
    private_key = Ed25519PrivateKey.generate()
    key = VerifierKey(NAME, notes.COSIGNATURE, private_key.public_key().public_bytes_raw())
    log = opened(engine, crypto, quorum=1, witnesses=[WitnessSettings(key, "")])
    log.log.append([event()])
    until(lambda: log.publisher.signed is not None)
    signed = log.transparency.checkpoint(include_unpublished=True)
    text = notes.parse(signed.note).text
    line = str(checkpoints.cosign(NAME, private_key, text, int(time.time())))
    stranger = str(checkpoints.cosign("other", Ed25519PrivateKey.generate(), text, 1))
    altered = str(checkpoints.cosign(NAME, private_key, text + "more\n", 1))
    for wrong in (stranger, altered, "no signature", ""):
        assert reason_of(partial(log.witnesses.add, own_call(), 1, [wrong])) is Reason.COSIGNATURE_INVALID
    assert reason_of(lambda: log.witnesses.add(own_call(), 2, [line])) is Reason.COSIGNATURE_INVALID
    # No time that clients cannot tell, and none that would be the newest for years.
    for seconds in (int(time.time()) + 900, 253_402_300_800, 1 << 62, (1 << 63) - 1):
        ahead = str(checkpoints.cosign(NAME, private_key, text, seconds))
        assert reason_of(partial(log.witnesses.add, own_call(), 1, [ahead])) is Reason.COSIGNATURE_INVALID
    assert log.publisher.published is None
    assert log.witnesses.add(own_call(), 1, [line.rstrip("\n")]).published
    assert log.transparency.checkpoint().tree_size == 1
    log.stop()


def opened_key(engine: Engine, crypto: OwnRoot) -> Ed25519PrivateKey:
    log = opened(engine, crypto)
    key = log.signing_keys.signers()[0].private_key
    log.stop()
    return key


def reason_of(work: Callable[[], object]) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value.reason
