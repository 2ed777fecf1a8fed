"""One step at a target as it travels between the service and the process that does it.

Both directions are a frame: its length in 4 bytes, big endian, and a JSON object. What comes back is judged as if the
target itself had written it: sizes first, then every type.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.tls import Identity
from services.runtime.requests import names
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.destinations import Place
from services.secrets.core.model import Secret
from services.secrets.rotation.rotators.failures import OF_THE_MESH
from services.secrets.rotation.rotators.reach import NetworkRules, Reach, TargetRule
from services.secrets.rotation.rotators.rotator import Credential, RotationContext
from services.secrets.values.sealing import NewValue
from services.secrets.values.values import MAX_VALUE_BYTES
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SecretType, ValueFormat
from strongroom.secrets.v1.target_pb2 import RotationTarget

STEPS = ("check", "create", "set", "test", "finish")
"""What a rotator can be asked, by the names of its methods."""
RELAY = "relay"
"""What is asked of a process that connects for a step's."""
MAX_JOB_BYTES = 4 << 20
MAX_ANSWER_BYTES = 256 << 10

_MAX_MESSAGE = 1024
# What an error may say besides its reason.
_MARKS = ("incurable", OF_THE_MESH)
_LENGTH = struct.Struct(">I")
_REASONS = frozenset(
    (
        *(reason for reason in Reason if reason.startswith("TARGET_") and reason != "TARGET_CHECK_PENDING"),
        Reason.DESTINATION_NOT_ALLOWED,
        Reason.MASTER_LOGIN_REFUSED,
        Reason.ROTATOR_FAILED,
    )
)


@dataclass(frozen=True, slots=True)
class TargetJob:
    """A rotator's step and all that it may know: the credentials of this step, and nothing else."""

    kind: SecretType.ValueType
    step: str
    context: RotationContext
    credentials: Mapping[str, Credential | None]
    """Those of `pending`, `current` and `previous` that the step takes; `credential` for a test."""
    identity: Identity | None = None
    """What a relay connects to a RotatorService with; no step has it."""
    token: str = field(default="", repr=False)
    """What the step shows the RotatorService."""

    def encoded(self) -> bytes:
        """The job as JSON."""
        context, secret, identity = self.context, self.context.secret, self.identity
        return json.dumps(
            {
                "kind": self.kind,
                "step": self.step,
                "secret": str(secret.name),
                "tags": dict(secret.tags),
                "target": _text(context.target.SerializeToString()),
                "password_rule": _text(context.rule.SerializeToString()),
                "rotation": context.rotation,
                "attempt": context.attempt,
                "fencing_token": context.fencing_token,
                "reach": _of_reach(context.reach),
                "master": _of_credential(context.master),
                "credentials": {name: _of_credential(given) for name, given in self.credentials.items()},
                "identity": identity and [_text(part) for part in (identity.certificate, identity.key, identity.trust)],
                "token": self.token,
            }
        ).encode()

    @classmethod
    def decoded(cls, encoded: bytes) -> TargetJob:
        """What `encoded` made."""
        fields = json.loads(encoded)
        secret = Secret(
            names.parse(fields["secret"], "secret", "secrets"),
            fields["kind"],
            SECRET_STATE_ENABLED,
            key="",
            description="",
            tags=fields["tags"],
            retained_versions=0,
            latest_version=0,
            revision=0,
            created_us=0,
            updated_us=0,
            stages={},
            target=RotationTarget.FromString(b64decode(fields["target"])),
            password_rule=PasswordRule.FromString(b64decode(fields["password_rule"])),
        )
        context = RotationContext(
            secret,
            fields["rotation"],
            fields["attempt"],
            fields["fencing_token"],
            _credential(fields["master"]),
            _reach(fields["reach"]),
        )
        credentials = {name: _credential(given) for name, given in fields["credentials"].items()}
        identity = Identity(*map(b64decode, fields["identity"])) if fields["identity"] else None
        return cls(fields["kind"], fields["step"], context, credentials, identity, fields["token"])


def answer_of(value: NewValue | None) -> bytes:
    """The answer of a step that went well."""
    if value is None:
        return b"{}"
    return json.dumps({"value": _text(value.value.reveal()), "format": value.format}).encode()


def answer_of_error(error: StrongroomError) -> bytes:
    """The answer of a step that did not."""
    marks = {mark: bool(error.metadata.get(mark)) for mark in _MARKS}
    fields = {"reason": error.reason, "message": error.message[:_MAX_MESSAGE], **marks}
    return json.dumps(fields).encode()


def read_answer(encoded: bytes) -> NewValue | None:
    """What a step answered. Raises what went wrong there, and ROTATOR_FAILED for an answer of another form."""
    try:
        fields = json.loads(encoded)
        failed = _error(fields) if fields.keys() & {"reason"} else None
        value = _value(fields) if fields and failed is None else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Not handed on: the exception holds the answer.
        raise StrongroomError(Reason.ROTATOR_FAILED, "the step's process answered what is no answer") from None
    if failed is not None:
        raise failed
    return value


def _error(fields: dict[str, Any]) -> StrongroomError:
    reason, message = fields["reason"], fields["message"]
    if not isinstance(message, str) or len(message) > _MAX_MESSAGE or reason not in _REASONS:
        raise ValueError
    error = StrongroomError(Reason(reason), message)
    error.metadata.update({mark: "true" for mark in _MARKS if fields.get(mark) is True})
    return error


def _value(fields: dict[str, Any]) -> NewValue:
    value, form = b64decode(fields["value"], validate=True), fields["format"]
    if not 1 <= len(value) <= MAX_VALUE_BYTES or type(form) is not int or form not in ValueFormat.values():
        raise ValueError
    return NewValue(SensitiveBytes(value), ValueFormat.ValueType(form))


def send_frame(peer: socket.socket, content: bytes) -> None:
    """Sends one frame. Raises OSError."""
    peer.sendall(_LENGTH.pack(len(content)) + content)


def receive_frame(peer: socket.socket, limit: int, seconds: float) -> bytes | None:
    """One frame of at most `limit` bytes; None when the peer ends before it, or would send more. Raises TimeoutError
    when it is not there, as a whole, in so many seconds."""
    deadline = time.monotonic() + seconds
    head = _receive(peer, _LENGTH.size, deadline)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    return _receive(peer, length, deadline) if length <= limit else None


def _receive(peer: socket.socket, size: int, deadline: float) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        peer.settimeout(left)
        try:
            part = peer.recv(size - len(received))
        except ConnectionError:
            return None
        if not part:
            return None
        received += part
    return bytes(received)


def _of_credential(credential: Credential | None) -> list[Any] | None:
    if credential is None:
        return None
    return [credential.version, _text(credential.value.reveal()), credential.format]


def _credential(fields: list[Any] | None) -> Credential | None:
    if fields is None:
        return None
    version, value, form = fields
    return Credential(version, SensitiveBytes(b64decode(value)), form)


def _of_reach(reach: Reach | None) -> dict[str, Any] | None:
    if reach is None:
        return None
    network = reach.network
    return {
        "account": reach.account,
        "listed": reach.listed,
        "rules": [[rule.accounts, rule.places, rule.spiffe_ids] for rule in network.rules],
        "public": network.public,
        "own": [[own.host, own.port] for own in network.own],
        "refused": network.refused,
    }


def _reach(fields: dict[str, Any] | None) -> Reach | None:
    if fields is None:
        return None
    rules = tuple(TargetRule(*map(tuple, rule)) for rule in fields["rules"])
    own = tuple(Place(host, port) for host, port in fields["own"])
    listed = tuple(map(tuple, fields["listed"]))
    return Reach(fields["account"], NetworkRules(rules, fields["public"], own, tuple(fields["refused"])), listed)


def _text(content: bytes) -> str:
    return b64encode(content).decode()
