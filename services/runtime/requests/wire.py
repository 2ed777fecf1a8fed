"""Requests as they come from the wire: readable, and with nothing in them that no method can mean.

One place checks every field of every method before its handler runs: texts without control characters, since what is
written is later shown in somebody's terminal; lines, lists and maps within what any field may hold; times, durations
and enumerations within their ranges. What a field means beyond that is the handler's to check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Sized
from operator import attrgetter
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from services.runtime.errors import Reason, StrongroomError, invalid, too_large
from strongroom.audit.v1 import event_pb2

Check = Callable[[Any], None]
Sieve = Callable[[Any], bool]

_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: what a terminal obeys
    r"\u2028\u2029"  # what ends a line for some readers only
    r"\u202a-\u202e\u2066-\u2069"  # what shows a text in another order than it has
    r"\ud800-\udfff]"
)
_CONTROLS_IN_LINES = re.compile(rf"(?![\t\n]|\r\n){_CONTROLS.pattern}")

_TEXTS_OF_LINES = frozenset(
    (
        "strongroom.access.v1.AssumeRoleRequest.session_policy",
        "strongroom.access.v1.CreateSessionRequest.session_policy",
        "strongroom.access.v1.NarrowSessionRequest.session_policy",
        "strongroom.access.v1.OidcProvider.ca_certificates",
        "strongroom.access.v1.OidcProvider.static_jwks",
        "strongroom.access.v1.Policy.cedar",
        "strongroom.access.v1.RoleSettings.trust_policy",
        "strongroom.access.v1.SimulatedSession.session_policy",
        "strongroom.access.v1.ValidatePolicyRequest.cedar",
        "strongroom.audit.v1.AddCosignaturesRequest.cosignatures",
        "strongroom.secrets.v1.GrpcTarget.ParametersEntry.value",
        "strongroom.secrets.v1.GrpcTarget.ca_pem",
        "strongroom.secrets.v1.TargetAddress.ca_pem",
    )
)
"""Fields with tabs and ends of lines: policies, certificates, JSON."""

_TEXTS_OF_ANY_KIND = frozenset(
    (
        "strongroom.crypto.v1.AsymmetricDecryptRequest.encryption_context",
        "strongroom.crypto.v1.DecryptItem.encryption_context",
        "strongroom.crypto.v1.DecryptRequest.encryption_context",
        "strongroom.crypto.v1.ExportDataKeyRequest.encryption_context",
        "strongroom.crypto.v1.ReEncryptRequest.source_encryption_context",
        "strongroom.access.v1.FindGrantsRequest.encryption_context",
    )
)
"""Contexts of what was encrypted earlier: an older ciphertext stays readable, whatever it was bound to."""

_UNCHECKED = frozenset((event_pb2.Event.DESCRIPTOR.full_name,))
"""Messages of the mesh's own: an event must be kept as it is, whatever its call said."""

_ENUMS_OF_HANDLERS = frozenset(("strongroom.crypto.v1.Algorithm", "strongroom.keystore.v1.KeySpec"))
"""Enumerations of which handlers look every value up in a table, with a reason of its own."""

_RANGES: Mapping[str, tuple[int, int]] = {
    # The years 1 to 9999, and 10,000 years, as the types themselves promise.
    "google.protobuf.Timestamp": (-62_135_596_800, 253_402_300_799),
    "google.protobuf.Duration": (-315_576_000_000, 315_576_000_000),
}
_SECOND_NANOS = 1_000_000_000
_LONGEST_LINE = 32_768
"""In characters. Every field has a smaller limit of its own where it is looked at; this one holds before anything keeps
or compares it."""
_MOST_ITEMS = 16_384
"""Of one repeated field or map."""


class Unreadable:
    """Stands for a request that is no message of its method's type."""


UNREADABLE: Final = Unreadable()


def reader(message: type[Message]) -> Callable[[bytes], Message | Unreadable]:
    """Reads a method's requests. One that is malformed becomes UNREADABLE, which its `checker` refuses: gRPC itself
    would answer INTERNAL, and leave no event."""
    parse = message.FromString

    def read(encoded: bytes) -> Message | Unreadable:
        try:
            return parse(encoded)
        except DecodeError:
            return UNREADABLE

    return read


def is_line(text: str) -> bool:
    """Whether a text that came in something else, such as a token of somebody's, is one that a field may have."""
    return text.isprintable() or _CONTROLS.search(text) is None


def checker(request: Descriptor) -> Check:
    """What checks requests of this type, whose size gRPC bounds.

    It raises FIELD_INVALID, naming the field's path, for a control character in a text, a time or duration out of its
    type's range, and a number that an enumeration does not have; FIELD_TOO_LARGE for a line, a list or a map beyond
    what any field may hold; FIELD_INVALID without a field for UNREADABLE.
    """
    sieve = _sieve(request)

    def check(message: Any) -> None:
        if message is UNREADABLE:
            raise StrongroomError(
                Reason.FIELD_INVALID, f"the request is no {request.name}: it is malformed, or a text is not UTF-8"
            )
        if sieve is not None and not sieve(message):
            _require_well(message, "")

    return check


def _sieve(kind: Descriptor) -> Sieve | None:
    """A quick look at messages of a type, worked out once; None where there is nothing to look at.

    True only where nothing is wrong; where it is False, `_require_well` looks closely. Texts are asked whether they
    are printable, which is stricter than what is refused.
    """
    if kind.full_name in _UNCHECKED:
        return None
    if kind.full_name in _RANGES:
        return _in_range
    sieves = [sieve for of in kind.fields if (sieve := _field_sieve(of)) is not None]
    texts = [of.name for of in kind.fields if _is_one_line(of) and not of.is_repeated]
    if texts:
        sieves.insert(0, _texts_sieve(texts))
    if len(sieves) <= 1:
        return sieves[0] if sieves else None
    if len(sieves) == 2:
        one, other = sieves
        return lambda message: one(message) and other(message)
    return lambda message: all(sieve(message) for sieve in sieves)


def _texts_sieve(names: Sequence[str]) -> Sieve:
    get = attrgetter(*names)
    if len(names) == 1:
        return lambda message: _is_plain(get(message))  # type: ignore[arg-type]
    return lambda message: _is_plain("".join(get(message)))


def _field_sieve(of: FieldDescriptor) -> Sieve | None:
    """A quick look at one field; None where there is nothing to look at, or `_texts_sieve` looks at it."""
    name = of.name
    if of.full_name in _TEXTS_OF_ANY_KIND or (_is_one_line(of) and not of.is_repeated):
        return None
    if _is_one_line(of):
        return lambda message: _are_few(getattr(message, name)) and _is_plain("".join(getattr(message, name)))
    if _is_map_of_lines(of):
        return _map_sieve(name)
    if of.message_type is not None and not _is_map(of):
        inner = _sieve(of.message_type)
        if inner is None:
            return None
        if of.is_repeated:
            return lambda message: _are_few(getattr(message, name)) and all(map(inner, getattr(message, name)))
        return lambda message: not message.HasField(name) or inner(getattr(message, name))
    if _is_map(of) or _is_checked_enum(of) or of.full_name in _TEXTS_OF_LINES:
        return lambda message: _is_well(of, getattr(message, name))
    return None


def _map_sieve(name: str) -> Sieve:
    def sieve(message: Any) -> bool:
        pairs = getattr(message, name)
        return not pairs or (_are_few(pairs) and _is_plain("".join(pairs)) and _is_plain("".join(pairs.values())))

    return sieve


def _is_plain(text: str) -> bool:
    return len(text) <= _LONGEST_LINE and text.isprintable()


def _are_few(items: Sized) -> bool:
    return len(items) <= _MOST_ITEMS


def _is_well(of: FieldDescriptor, value: Any) -> bool:
    try:
        _require_field(of, value, of.name)
    except StrongroomError:
        return False
    return True


def _require_well(message: Message, path: str) -> None:
    """Raises FIELD_INVALID for the first field that is wrong in a message; `path` leads to it, with its dot."""
    kind = message.DESCRIPTOR
    if kind.full_name in _UNCHECKED:
        return
    if kind.full_name in _RANGES and not _in_range(message):
        raise invalid(path.rstrip("."), f"is out of the range of {kind.name}")
    for of, value in message.ListFields():
        if of.full_name not in _TEXTS_OF_ANY_KIND:
            _require_field(of, value, path + of.name)


def _require_field(of: FieldDescriptor, value: Any, path: str) -> None:
    if of.is_repeated and not _are_few(value):
        raise too_large(path, _MOST_ITEMS, "items")
    if _is_map(of):
        key_field, value_field = _parts(of)
        for key, item in value.items():
            _require_value(key_field, key, path)
            _require_value(value_field, item, path)
    elif of.is_repeated:
        for index, item in enumerate(value):
            _require_value(of, item, f"{path}[{index}]")
    else:
        _require_value(of, value, path)


def _require_value(of: FieldDescriptor, value: Any, path: str) -> None:
    if of.message_type is not None:
        _require_well(value, f"{path}.")
    elif of.type == FieldDescriptor.TYPE_STRING:
        if len(value) > _LONGEST_LINE and of.full_name not in _TEXTS_OF_LINES:
            raise too_large(path, _LONGEST_LINE, "characters")
        controls = _CONTROLS_IN_LINES if of.full_name in _TEXTS_OF_LINES else _CONTROLS
        found = controls.search(value)
        if found is not None:
            raise invalid(path, f"has the control character U+{ord(found.group()[0]):04X}: leave it out")
    elif of.enum_type is not None and _is_checked_enum(of) and value not in of.enum_type.values_by_number:
        raise invalid(path, f"is {value}, which {of.enum_type.name} does not have")


def _in_range(message: Any) -> bool:
    """Whether a Timestamp or a Duration is one that its type promises."""
    least, most = _RANGES[message.DESCRIPTOR.full_name]
    seconds: int = message.seconds
    nanos: int = message.nanos
    if message.DESCRIPTOR.name == "Duration" and (seconds, nanos) < (0, 0):
        # Both parts of a negative one are negative.
        seconds, nanos = -seconds, -nanos
    return least <= seconds <= most and 0 <= nanos < _SECOND_NANOS


def _is_one_line(of: FieldDescriptor) -> bool:
    return of.type == FieldDescriptor.TYPE_STRING and of.full_name not in _TEXTS_OF_LINES


def _is_checked_enum(of: FieldDescriptor) -> bool:
    return of.enum_type is not None and of.enum_type.full_name not in _ENUMS_OF_HANDLERS


def _is_map(of: FieldDescriptor) -> bool:
    return of.message_type is not None and of.message_type.GetOptions().map_entry


def _is_map_of_lines(of: FieldDescriptor) -> bool:
    return _is_map(of) and all(_is_one_line(part) for part in _parts(of))


def _parts(of: FieldDescriptor) -> Sequence[FieldDescriptor]:
    """A map's key and value."""
    return of.message_type.fields if of.message_type is not None else ()
