"""Requests that nobody should send: for every method of every service, made from the contracts' descriptors.

A request begins as one that could be meant, and then some of its fields get values that break what reads them:
extremes of numbers, times out of range, control characters, keys and tokens of garbage, names of other collections,
very long texts, bytes that are no message at all. All of it comes from a seed: a number stands for one request.
"""

from __future__ import annotations

import base64
import importlib
import pkgutil
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from grpc_health.v1 import health_pb2

import strongroom
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from deploy.dev.topology import SERVICES
from services.runtime.rpc import reflection

PUBLIC_SERVICES = {
    "strongroom.keystore.v1.KeyService": "keystore",
    "strongroom.access.v1.AccessService": "keystore",
    "strongroom.access.v1.SessionService": "keystore",
    "strongroom.crypto.v1.CryptoService": "crypto",
    "strongroom.secrets.v1.SecretService": "secrets",
    "strongroom.audit.v1.AuditService": "audit",
}
INTERNAL_SERVICES = {
    "strongroom.access.v1.AccessRecordService": ("keystore", "service/crypto"),
    "strongroom.access.v1.ClientKeyRotationService": ("keystore", "service/secrets"),
    "strongroom.keystore.v1.KeyRecordService": ("keystore", "service/crypto"),
    "strongroom.crypto.v1.MaterialService": ("crypto", "service/keystore"),
    "strongroom.audit.v1.EventLogService": ("audit", "service/keystore"),
    "strongroom.audit.v1.RecordKeyService": ("audit", "service/secrets"),
    "strongroom.audit.v1.SealingService": ("audit", "service/keystore"),
}
EVERYWHERE = frozenset(
    (
        "strongroom.runtime.v1.StatusService",
        "strongroom.runtime.v1.DiscoveryService",
        "grpc.health.v1.Health",
        *reflection.NAMES,
    )
)
"""What every service offers."""
_SERVED_BY_OTHERS = frozenset(("strongroom.secrets.v1.RotatorService",))
# What would end the mesh is sent as what it refuses in the end; the rest meets nothing but what other requests made.
_IN_VAIN: dict[str, dict[str, Any]] = {
    "strongroom.keystore.v1.KeyService.RotateRootKey": {"request_id": "no-uuid"},
    "strongroom.crypto.v1.MaterialService.RotateRootKey": {"expected_version": 4711},
    "strongroom.crypto.v1.MaterialService.RetireRootKeyVersion": {"root_version": 4711},
    "strongroom.audit.v1.AuditService.ShredAccountEvents": {"confirmation": "nobody"},
}
FAULTS = frozenset((grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED))
"""How no call may end, whatever it was sent."""

_SECONDS = 10.0
_FIRST_ANSWER_SECONDS = 0.3
_NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1, 4711, 1000)
_TEXTS = (
    "", "\x00", "a\x00b", "\x1b[2J", "\u202e", "\ufffe", "a" * 70_000, "💥" * 500, "-", "*", "../../etc/passwd", "%00", "'", '"',  # noqa: E501
    "{", "}" * 50, "(" * 5000, "not " * 2000, "accounts/", "accounts/dev", "accounts/dev/keys/a/versions/0", "services/keystore",  # noqa: E501
    "accounts/dev/keys/a/versions/999999999", "accounts/other/secrets/a/b/c", "1e400", "NaN", "2026-13-45T99:99:99Z", "AAAA",  # noqa: E501
    "state = ENABLED AND" * 200, "tags.a:*", 'create_time > "9999-99-99"', "principal == ", "https://[", "https://a:99999999/",
    "https://127.0.0.1:1/", "permit(principal, action, resource);", "eyJhbGciOiJub25lIn0.e30.", "a.b.c", "[::1%25]", "\u0661",  # noqa: E501
    "spiffe://", "spiffe://x/" + "a" * 3000, "urn:uuid", "10.0.0.0/64", "!", "\u00a0", "ß", "İ",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A method, and whom it is called by on which listener."""

    method: MethodDescriptor
    service: str
    identity: str = ""
    """The caller's certificate: empty for the administrator."""

    @property
    def path(self) -> str:
        """The method's path, as gRPC names it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


@dataclass(slots=True)
class Found:
    """What came of many requests."""

    calls: int = 0
    faults: list[tuple[str, int | bytes, str]] = field(default_factory=list)
    """Path, seed or request, and answer of each that may not be answered so."""
    answers: dict[str, int] = field(default_factory=dict)
    """How often each status was answered."""


def targets() -> list[Target]:
    """Every method of every service, and what each of them offers besides."""
    found = []
    for method in _methods():
        name = method.containing_service.full_name
        if name in PUBLIC_SERVICES:
            found.append(Target(method, PUBLIC_SERVICES[name]))
        elif name in EVERYWHERE:
            found += [Target(method, service) for service in SERVICES]
        elif name not in _SERVED_BY_OTHERS:
            found.append(Target(method, *INTERNAL_SERVICES[name]))
    return found


def request(method: MethodDescriptor, seed: int) -> bytes:
    """The request of a seed, as it travels."""
    chance = random.Random(f"{method.full_name} {seed}")  # noqa: S311  # to be repeated, not to be secret
    message = message_factory.GetMessageClass(method.input_type)()
    _fill(message, chance, hostile=chance.choice((0.0, 0.05, 0.2, 0.5)), depth=0)
    in_vain = _IN_VAIN.get(method.full_name, {})
    for name, value in in_vain.items():
        setattr(message, name, value)
    encoded = message.SerializeToString()
    if chance.random() < 0.05 and not in_vain:
        encoded = _damaged(encoded, chance)
    return encoded


def send(mesh: Mesh, sent: Sequence[tuple[Target, int | bytes]], found: Found) -> None:
    """Sends the requests of these seeds, or as they are, one after another, and notes how they were answered."""
    channels: dict[tuple[str, str], grpc.Channel] = {}
    try:
        for target, what in sent:
            which = (target.service, target.identity)
            if which not in channels:
                identity = mesh.authority.issue(target.identity) if target.identity else None
                listener: Any = "internal" if target.identity else "certificate"
                channels[which] = mesh.channel(target.service, listener, identity)
            _send(channels[which], target, what, found)
    finally:
        for channel in channels.values():
            channel.close()


def seeds(seed: int, known: Sequence[Target]) -> Iterator[tuple[Target, int]]:
    """Endless requests, of every method in turn."""
    while True:
        for target in known:
            yield target, seed
        seed += 1


def _send(channel: grpc.Channel, target: Target, what: int | bytes, found: Found) -> None:
    encoded = what if isinstance(what, bytes) else request(target.method, what)
    found.calls += 1
    status, text = "OK", ""
    try:
        if target.method.client_streaming:
            stream = channel.stream_stream(target.path, _raw, _raw)(iter((encoded,)), timeout=_FIRST_ANSWER_SECONDS)
            next(iter(stream), None)
            stream.cancel()
        elif target.method.server_streaming:
            stream = channel.unary_stream(target.path, _raw, _raw)(encoded, timeout=_FIRST_ANSWER_SECONDS)
            next(iter(stream), None)
            stream.cancel()
        else:
            channel.unary_unary(target.path, _raw, _raw)(encoded, timeout=_SECONDS, metadata=tuple(_metadata(what)))
    except grpc.RpcError as error:
        code = error.code()
        status, text = code.name, str(error.details())
        silent = target.method.server_streaming and code in (
            grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED,
        )  # fmt: skip
        if code in FAULTS and not silent:
            found.faults.append((target.path, what, f"{status}: {text}"))
    found.answers[status] = found.answers.get(status, 0) + 1


def _raw(content: bytes) -> bytes:
    return content


def _metadata(what: int | bytes) -> list[tuple[str, str | bytes]]:
    hostile: list[list[tuple[str, str | bytes]]] = [
        [("traceparent", "00-" + "z" * 32 + "-" + "0" * 16 + "-zz")],
        [("traceparent", "ff" * 2000)],
        [("baggage", "a=b," * 500), ("tracestate", "=,=")],
        [("strongroom-source-address", "x" * 500), ("strongroom-principal", "y")],
        [("x-bin", bytes(range(256)))],
    ]
    return hostile[what % len(hostile)] if isinstance(what, int) and what % 11 == 0 else []


def _fill(message: Any, chance: random.Random, *, hostile: float, depth: int) -> None:
    kind: Descriptor = message.DESCRIPTOR
    one_of: dict[str, FieldDescriptor] = {
        group.name: chance.choice(group.fields) for group in kind.oneofs if len(group.fields) > 1
    }
    for of in kind.fields:
        group = of.containing_oneof
        if group is not None and one_of.get(group.name, of) is not of:
            continue
        if chance.random() < (0.15 if depth == 0 else 0.3):
            continue
        _fill_field(message, of, chance, hostile, depth)


def _fill_field(message: Any, of: FieldDescriptor, chance: random.Random, hostile: float, depth: int) -> None:
    bad = chance.random() < hostile
    if of.message_type is not None and of.message_type.GetOptions().map_entry:
        key, value = of.message_type.fields
        for _ in range(chance.choice((0, 1, 2, 60)) if bad else 1):
            pairs = getattr(message, of.name)
            pairs[_value(key, chance, bad=bad)] = _value(value, chance, bad=bad)
    elif of.message_type is not None:
        inner = getattr(message, of.name)
        for _ in range((chance.choice((0, 2, 50)) if bad else 1) if of.is_repeated else 1):
            below = inner.add() if of.is_repeated else inner
            if not of.is_repeated:
                below.SetInParent()
            if depth < 8:
                _fill(below, chance, hostile=hostile, depth=depth + 1)
    elif of.is_repeated:
        getattr(message, of.name).extend(
            _value(of, chance, bad=bad) for _ in range(chance.choice((1, 2, 40)) if bad else 1)
        )
    else:
        setattr(message, of.name, _value(of, chance, bad=bad))


def _value(of: FieldDescriptor, chance: random.Random, *, bad: bool) -> Any:
    if of.type == FieldDescriptor.TYPE_STRING:
        text = chance.choice(_TEXTS) if bad else _text(of.name, chance)
        return text.encode(errors="ignore").decode()
    if of.type == FieldDescriptor.TYPE_BYTES:
        return chance.choice(_blobs()) if bad or chance.random() < 0.5 else b"plain"
    if of.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    if of.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return chance.choice((0.0, float("nan"), float("inf"), -1e300)) if bad else 1.0
    if of.enum_type is not None:
        return chance.choice((-1, 99, 2**31 - 1)) if bad else chance.choice(of.enum_type.values).number
    return _in_bits(chance.choice(_NUMBERS), of) if bad else chance.choice((0, 1, 2, 16, 3600, 86_400, 2_592_000))


def _in_bits(number: int, of: FieldDescriptor) -> int:
    bits = 64 if "64" in _KINDS[of.type] else 32
    number %= 1 << bits
    return number if _KINDS[of.type].startswith(("U", "F")) else number - (1 << bits) * (number >> (bits - 1))


_KINDS = {
    FieldDescriptor.TYPE_INT32: "I32", FieldDescriptor.TYPE_INT64: "I64", FieldDescriptor.TYPE_UINT32: "U32",
    FieldDescriptor.TYPE_UINT64: "U64", FieldDescriptor.TYPE_SINT32: "I32", FieldDescriptor.TYPE_SINT64: "I64",
    FieldDescriptor.TYPE_FIXED32: "F32", FieldDescriptor.TYPE_FIXED64: "F64", FieldDescriptor.TYPE_SFIXED32: "I32",
    FieldDescriptor.TYPE_SFIXED64: "I64",
}  # fmt: skip


def _text(name: str, chance: random.Random) -> str:
    """A text that a field of this name could mean."""
    some = f"fuzz-{chance.randrange(8)}"
    whole = {
        "parent": f"accounts/{ACCOUNT}",
        "account": ACCOUNT,
        "key": f"accounts/{ACCOUNT}/keys/{some}",
        "destination_key": f"accounts/{ACCOUNT}/keys/{some}",
        "principal": f"accounts/{ACCOUNT}/users/{some}",
        "grantee": f"accounts/{ACCOUNT}/users/{some}",
        "target": f"accounts/{ACCOUNT}/users/{some}",
        "role": f"accounts/{ACCOUNT}/roles/{some}",
        "cedar": "permit(principal, action, resource);",
        "trust_policy": "permit(principal, action, resource);",
        "issuer": f"https://issuer.example/{some}",
        "filter": "state = ENABLED",
        "host": "127.0.0.1",
        "etag": "1",
        "time_zone": "Europe/Berlin",
        "start": "02:00",
        "request_id": f"00000000-0000-4000-8000-{chance.randrange(10**12):012d}",
        "stage": "Current",
        "log": chance.choice(("", "strongroom")),
    }
    if name == "name":
        collection = chance.choice(
            ("keys", "aliases", "secrets", "users", "roles", "policies", "grants", "clientKeys", "oidcProviders")
        )
        return f"accounts/{ACCOUNT}/{collection}/{some}" + chance.choice(("", "", "/versions/1"))
    return whole.get(name, some)


@cache
def _blobs() -> tuple[bytes, ...]:
    """Bytes that something may try to read: keys, messages, JSON, garbage."""
    makers: tuple[Any, ...] = (
        rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()), x25519.X25519PrivateKey.generate(),  # noqa: E501
        ed25519.Ed25519PrivateKey.generate(),
    )  # fmt: skip
    publics = [key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in makers]
    privates = [key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) for key in makers]
    pem = makers[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    damaged = [key[:30] + b"\xff" + key[31:] for key in publics + privates]
    x25519_zero = publics[2][:-32] + bytes(32)
    return (
        b"", b"\x00", b"\xff" * 100, bytes(16), bytes(70_000), b"\x01" + bytes(64), b"\x01\x01" + bytes(200), b"\x30\x80" * 500,  # noqa: E501
        b'{"username": "\\ud800", "password": 1e400, "password": "x"}', b'{"username":"u","password":"p"}', b"[" * 30_000,  # noqa: E501
        b"\xed\xa0\x80", b"-----BEGIN PUBLIC KEY-----", base64.b64encode(publics[0]), pem, x25519_zero, *publics, *privates, *damaged,  # noqa: E501
    )  # fmt: skip


def _damaged(encoded: bytes, chance: random.Random) -> bytes:
    data = bytearray(encoded or b"\x0a\x01a")
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def _methods() -> Iterator[MethodDescriptor]:
    offered: list[Any] = [*health_pb2.DESCRIPTOR.services_by_name.values(), *reflection.services()]
    for service in offered:
        yield from service.methods
    for module in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                yield from service.methods
