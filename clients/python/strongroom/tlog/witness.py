"""A witness (C2SP tlog-witness): cosigns a log's checkpoint only if it goes on from the one that it cosigned before.

Whoever sees its cosignature knows that the log shows everyone the same, and never took anything back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.atomic import replacing, write_own
from strongroom.errors import StrongroomError
from strongroom.tlog import checkpoints, merkle, notes
from strongroom.tlog.checkpoints import Checkpoint, parse_text
from strongroom.tlog.errors import malformed
from strongroom.tlog.notes import COSIGNATURE, Note, VerifierKey
from strongroom.tlog.text import encoded, hash_bytes, number

MAX_REQUEST_BYTES = 1 << 20
SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"

_MAX_PROOF = 63
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = TEXT_TYPE


@dataclass(frozen=True, slots=True)
class Submission:
    """What `add-checkpoint` takes: the size that the proof goes on from, the proof, the signed note."""

    old_size: int
    proof: list[bytes]
    note: bytes

    def __bytes__(self) -> bytes:
        lines = [f"old {self.old_size}", *map(encoded, self.proof), ""]
        return "\n".join(lines).encode() + b"\n" + self.note


def parse_submission(body: bytes) -> Submission:
    """Reads a submission. Raises LOG_DATA_MALFORMED."""
    head, separator, note = body.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise malformed("the request", "is not text") from None
    if not separator or not lines[0].startswith("old ") or len(lines) > 1 + _MAX_PROOF:
        raise malformed("the request", "is not an old size, a proof and a checkpoint")
    proof = [hash_bytes(line, "a hash of the proof") for line in lines[1:]]
    return Submission(number(lines[0].removeprefix("old "), "the old size"), proof, note)


class WitnessState:
    """What a witness remembers: a folder with its key, and the newest checkpoint of each log that it cosigned."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def private_key(self) -> Ed25519PrivateKey:
        """The key, made when there is none yet."""
        path = self._directory / "key"
        if not path.exists():
            with replacing(path, overwrite=False) as file:
                file.write(Ed25519PrivateKey.generate().private_bytes_raw())
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes()[:_KEY_BYTES])

    def newest(self, origin: str) -> bytes | None:
        """The newest checkpoint of a log, with the cosignature."""
        return self.by_hash(origin_hash(origin))

    def by_hash(self, hashed: str) -> bytes | None:
        """The newest checkpoint of the log whose origin has this SHA-256 in hex, with the cosignature."""
        path = self._directory / f"{hashed}.checkpoint"
        return path.read_bytes() if path.is_file() else None

    def keep(self, origin: str, note: bytes) -> None:
        """Puts a checkpoint in the place of the one before; it is on disk when this returns."""
        write_own(self._directory / f"{origin_hash(origin)}.checkpoint", note)


def origin_hash(origin: str) -> str:
    """How a log is named in a witness's URLs."""
    return sha256(origin.encode()).hexdigest()


class Witness:
    """Witnesses the logs that `keys` sign; a key's name is the log's origin. `clock` tells seconds."""

    def __init__(self, name: str, state: WitnessState, keys: Iterable[VerifierKey], clock: Callable[[], float]) -> None:
        self._name = name
        self._state = state
        self._private_key = state.private_key()
        self._keys: dict[str, list[VerifierKey]] = {}
        for key in keys:
            self._keys.setdefault(key.name, []).append(key)
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def verifier_key(self) -> VerifierKey:
        """What its cosignatures are verified with."""
        return VerifierKey(self._name, COSIGNATURE, self._private_key.public_key().public_bytes_raw())

    def checkpoint(self, hashed: str) -> Answer:
        """The newest checkpoint of a log, by the hash of its origin."""
        known = hashed in map(origin_hash, self._keys)
        note = self._state.by_hash(hashed) if known else None
        return Answer(HTTPStatus.OK, note) if note is not None else Answer(HTTPStatus.NOT_FOUND)

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosigns a checkpoint, or says why not, as the specification has it."""
        try:
            submission = parse_submission(body)
            note = notes.parse(submission.note)
            checkpoint = parse_text(note.text)
        except StrongroomError as error:
            return _refused(HTTPStatus.BAD_REQUEST, error)
        keys = self._keys.get(checkpoint.origin)
        if keys is None:
            return Answer(HTTPStatus.NOT_FOUND, b"this log is not witnessed here\n")
        try:
            if not notes.verified_by(note, keys):
                return Answer(HTTPStatus.FORBIDDEN, b"no key of the log signed it\n")
        except StrongroomError as error:
            return _refused(HTTPStatus.FORBIDDEN, error)
        if submission.old_size > checkpoint.size:
            return Answer(HTTPStatus.BAD_REQUEST, b"the old size is larger than the checkpoint\n")
        # From comparing to keeping nothing else may come between.
        with self._lock:
            return self._cosigned(submission, checkpoint, note)

    def _cosigned(self, submission: Submission, checkpoint: Checkpoint, note: Note) -> Answer:
        kept = self._state.newest(checkpoint.origin)
        before = parse_text(notes.parse(kept).text) if kept else Checkpoint(checkpoint.origin, 0, merkle.EMPTY_ROOT)
        if submission.old_size != before.size:
            return Answer(HTTPStatus.CONFLICT, f"{before.size}\n".encode(), SIZE_TYPE)
        try:
            merkle.check_consistency(before.size, checkpoint.size, submission.proof, before.root, checkpoint.root)
        except StrongroomError as error:
            return _refused(HTTPStatus.UNPROCESSABLE_ENTITY, error)
        if checkpoint.size == 0 and checkpoint.root != merkle.EMPTY_ROOT:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, b"an empty log has the root of the empty tree\n")
        cosignature = checkpoints.cosign(self._name, self._private_key, note.text, int(self._clock()))
        own = {(key.name, key.key_id) for key in self._keys[checkpoint.origin]}
        log_signatures = [one for one in note.signatures if (one.name, one.key_id) in own]
        self._state.keep(checkpoint.origin, bytes(Note(note.text, [*log_signatures, cosignature])))
        return Answer(HTTPStatus.OK, str(cosignature).encode())


def _refused(status: HTTPStatus, error: StrongroomError) -> Answer:
    return Answer(status, f"{error.message}\n".encode())
