"""What every request is checked for before its handler sees it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import strongroom
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import wire
from services.runtime.requests.wire import checker
from strongroom.access.v1 import access_service_pb2
from strongroom.audit.v1 import audit_service_pb2, event_log_service_pb2
from strongroom.audit.v1.event_pb2 import Event
from strongroom.crypto.v1 import crypto_pb2
from strongroom.keystore.v1 import key_service_pb2
from strongroom.keystore.v1.key_pb2 import Key
from strongroom.secrets.v1 import secret_service_pb2

CONTROLS = ("\x00", "\x07", "\x1b[2J", "\r", "\n", "\t", "\x7f", "\x9b31m", "\u2028", "\u2029", "\u202e", "\u2066")


def refusal(message: object) -> StrongroomError:
    """How a request of its type is refused."""
    with pytest.raises(StrongroomError) as caught:
        checker(message.DESCRIPTOR)(message)  # type: ignore[attr-defined]
    return caught.value


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_is_refused_wherever_it_stands(control: str) -> None:
    key = key_service_pb2.CreateKeyRequest(parent="accounts/a")
    key.key.tags["team"] = f"blue{control}"
    assert (refusal(key).reason, refusal(key).field) == (Reason.FIELD_INVALID, "key.tags")
    encrypt = crypto_pb2.EncryptRequest(encryption_context={f"a{control}": "b"})
    assert refusal(encrypt).field == "encryption_context"
    batch = crypto_pb2.BatchEncryptRequest(
        items=[crypto_pb2.EncryptItem(), crypto_pb2.EncryptItem(encryption_context={"a": control})]
    )
    assert refusal(batch).field == "items[1].encryption_context"
    untag = key_service_pb2.UntagKeyRequest(tag_keys=["fine", control])
    assert refusal(untag).field == "tag_keys[1]"
    secret = secret_service_pb2.CreateSecretRequest()
    secret.secret.target.database.address.host = f"db{control}"
    assert refusal(secret).field == "secret.target.database.address.host"


def test_the_error_names_the_character_and_does_not_repeat_it() -> None:
    error = refusal(key_service_pb2.CreateKeyRequest(key=Key(description="a\x1b]0;owned\x07")))
    assert "U+001B" in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize("text", ["", "été", "日本語", "שלום", "👩‍👩‍👧", "a\u00a0b", "soft\u00adhyphen", "\u0378"])
def test_texts_of_every_language_are_taken(text: str) -> None:
    checker(key_service_pb2.CreateKeyRequest.DESCRIPTOR)(
        key_service_pb2.CreateKeyRequest(key=Key(description=text, tags={"a": text}))
    )


def test_policies_and_certificates_have_lines() -> None:
    policy = access_service_pb2.ValidatePolicyRequest(cedar="permit(\r\n\tprincipal,\n action, resource);")
    checker(policy.DESCRIPTOR)(policy)


@pytest.mark.parametrize("control", ["\r", "\r\r\n", "\x1b", "\x00", "\u202e", "\u2028", "\x85"])
def test_texts_of_lines_have_no_other_controls(control: str) -> None:
    assert refusal(access_service_pb2.ValidatePolicyRequest(cedar=f"// a{control}forbid")).field == "cedar"


def test_what_was_encrypted_earlier_stays_readable() -> None:
    decrypt = crypto_pb2.DecryptRequest(ciphertext=b"x", encryption_context={"a": "line\nline"})
    checker(decrypt.DESCRIPTOR)(decrypt)


def test_events_are_kept_as_they_are() -> None:
    event = Event(encryption_context={"a": "\x00"}, outcome=99)  # type: ignore[arg-type]
    append = event_log_service_pb2.AppendRequest(events=[event])
    checker(append.DESCRIPTOR)(append)


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(1 << 62, 0), (-(1 << 62), 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)]
)
def test_times_out_of_range_are_refused(seconds: int, nanos: int) -> None:
    lookup = audit_service_pb2.LookupEventsRequest()
    lookup.start_time.seconds, lookup.start_time.nanos = seconds, nanos
    assert refusal(lookup).field == "start_time"


@pytest.mark.parametrize(("seconds", "nanos"), [(1 << 62, 0), (1, -1), (-1, 1), (0, 2_000_000_000)])
def test_durations_out_of_range_are_refused(seconds: int, nanos: int) -> None:
    key = key_service_pb2.CreateKeyRequest()
    period = key.key.rotation_policy.period
    period.seconds, period.nanos = seconds, nanos
    assert refusal(key).field == "key.rotation_policy.period"


def test_a_number_that_an_enumeration_does_not_have_is_refused() -> None:
    assert refusal(key_service_pb2.CreateKeyRequest(key=Key(origin=4711))).field == "key.origin"  # type: ignore[arg-type]
    assert refusal(key_service_pb2.CreateKeyRequest(key=Key(usage=-1))).field == "key.usage"  # type: ignore[arg-type]


@pytest.mark.parametrize("encoded", [b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f", b"\x0b" * 200])
def test_a_malformed_request_is_refused_and_not_an_internal_error(encoded: bytes) -> None:
    request = wire.reader(crypto_pb2.EncryptRequest)(encoded)
    assert request is wire.UNREADABLE
    with pytest.raises(StrongroomError) as caught:
        checker(crypto_pb2.EncryptRequest.DESCRIPTOR)(request)
    assert caught.value.reason is Reason.FIELD_INVALID


def test_every_text_of_every_method_is_checked() -> None:
    count = 0
    for request in every_request():
        for path in texts_below(request, ()):
            message = message_factory.GetMessageClass(request)()
            poison(message, path)
            if exempt(path):
                checker(request)(message)
                continue
            assert refusal(message).reason is Reason.FIELD_INVALID, f"{request.full_name}: {path}"
            count += 1
    assert count > 300


def every_request() -> Iterator[Descriptor]:
    """The request types of every method of every service."""
    for module in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if module.name.endswith("_pb2"):
            contract = importlib.import_module(module.name).DESCRIPTOR
            for service in descriptor_pool.Default().FindFileByName(contract.name).services_by_name.values():
                for method in service.methods:
                    yield method.input_type


def texts_below(kind: Descriptor, path: tuple[FieldDescriptor, ...]) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The way to each text of a message."""
    for field in kind.fields:
        if field.message_type is not None:
            yield from texts_below(field.message_type, (*path, field))
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, field)


def poison(message: object, path: tuple[FieldDescriptor, ...]) -> None:
    """Sets the text at a path to one that clears a terminal."""
    field, *rest = path
    bad = "\x1b[2J"
    if not rest:
        if field.is_repeated:
            getattr(message, field.name).append(bad)
        else:
            setattr(message, field.name, bad)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        text = value.type == FieldDescriptor.TYPE_STRING
        pairs = getattr(message, field.name)
        pairs[bad if rest[0].name == "key" else "a"] = (bad if rest[0].name == "value" else "a") if text else 1
    else:
        inner = getattr(message, field.name)
        poison(inner.add() if field.is_repeated else inner, tuple(rest))


def exempt(path: tuple[FieldDescriptor, ...]) -> bool:
    """Whether a text may be anything: contexts of older ciphertexts, and events of the mesh's own."""
    owner = path[0].containing_type.name  # type: ignore[union-attr]
    decrypts = ("DecryptRequest", "AsymmetricDecryptRequest", "ExportDataKeyRequest", "BatchDecryptRequest")
    if any(field.name == "encryption_context" for field in path):
        return owner in (*decrypts, "FindGrantsRequest", "AppendRequest")
    return (owner == "AppendRequest" and path[0].name == "events") or path[0].name == "source_encryption_context"
