"""What is altered between client and service is noticed, either way: a relay between them flips one bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from strongroom import Client, StrongroomError
from strongroom.crypto.v1 import crypto_pb2
from strongroom.keystore.v1 import key_service_pb2
from strongroom.secrets.v1 import secret_service_pb2
from strongroom.wrapping import wrap_for_import
from tests.support.clients import client_of, refusal

SERVICES: dict[str, ServiceDescriptor] = {
    "crypto": crypto_pb2.DESCRIPTOR.services_by_name["CryptoService"],
    "keystore": key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
    "secrets": secret_service_pb2.DESCRIPTOR.services_by_name["SecretService"],
}
Path = tuple[str | int, ...]


class Relay(grpc.GenericRpcHandler):
    """Hands every call on, as the administrator, and flips a bit of one field: `request` or `answer` says of which."""

    def __init__(self, channel: grpc.Channel, service: ServiceDescriptor) -> None:
        self._channel = channel
        self._methods = {f"/{service.full_name}/{method.name}": method for method in service.methods}
        self.request: Path = ()
        self.answer: Path = ()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        path: str = handler_call_details.method
        method = self._methods[path]

        def relay(request: bytes, context: grpc.ServicerContext) -> bytes:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
            try:
                answer = call(altered(method.input_type, request, self.request), timeout=10)
            except grpc.RpcError as error:
                refused: Any = error  # a grpc.Call too
                context.set_trailing_metadata(tuple(refused.trailing_metadata() or ()))
                context.abort(refused.code(), str(refused.details()))
            return altered(method.output_type, answer, self.answer)

        return grpc.unary_unary_rpc_method_handler(relay)


def altered(descriptor: Any, encoded: bytes, path: Path) -> bytes:
    """A message with one bit flipped in the field at `path`; the same without one."""
    if not path:
        return encoded
    message = message_factory.GetMessageClass(descriptor).FromString(encoded)
    holder: Any = message
    for step in path[:-1]:
        holder = holder[step] if isinstance(step, int) else getattr(holder, step)
    data = getattr(holder, str(path[-1]))
    setattr(holder, str(path[-1]), data[:-1] + bytes([data[-1] ^ 1]))
    return message.SerializeToString()


@contextmanager
def relayed(mesh: Mesh, service: str) -> Iterator[tuple[Client, Relay]]:
    """A client that reaches `service` through a relay."""
    files = mesh.authority.issue(f"service/{service}")
    credentials = grpc.ssl_server_credentials([(files.key.read_bytes(), files.certificate.read_bytes())])
    with mesh.channel(service) as channel, ThreadPoolExecutor(2) as pool:
        relay = Relay(channel, SERVICES[service])
        server = grpc.server(pool, handlers=[relay])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            with Client({service: f"127.0.0.1:{port}"}, trust=mesh.trust.trust, account=ACCOUNT) as client:
                yield client, relay
        finally:
            server.stop(None).wait()


@dataclass(frozen=True)
class Case:
    """A call, the fields of its request and of its answer that have checksums."""

    call: Callable[[Client, Any], object]
    request: tuple[Path, ...] = ()
    answer: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Made:
    """What calls need that was made before them, without a relay."""

    name: str
    ciphertext: bytes
    rsa_ciphertext: bytes
    signature: bytes
    mac: bytes


_CIPHERTEXT: tuple[Path, ...] = (("ciphertext",),)
_PLAINTEXT: tuple[Path, ...] = (("plaintext",),)
CASES = {
    "encrypt": Case(lambda client, made: client.encrypt(made.name, b"x"), _PLAINTEXT, _CIPHERTEXT),
    "decrypt": Case(lambda client, made: client.decrypt(made.ciphertext), _CIPHERTEXT, _PLAINTEXT),
    "re_encrypt": Case(lambda client, made: client.re_encrypt(made.ciphertext, made.name), _CIPHERTEXT, _CIPHERTEXT),
    "generate_data_key": Case(
        lambda client, made: client.generate_data_key(made.name), answer=(*_PLAINTEXT, *_CIPHERTEXT)
    ),
    "generate_data_key_without_plaintext": Case(
        lambda client, made: client.data_keys.generate_without_plaintext(made.name), answer=_CIPHERTEXT
    ),
    "asymmetric_encrypt": Case(
        lambda client, made: client.asymmetric.encrypt(f"{made.name}-rsa", b"x"), _PLAINTEXT, _CIPHERTEXT
    ),
    "asymmetric_decrypt": Case(
        lambda client, made: client.asymmetric.decrypt(f"{made.name}-rsa", made.rsa_ciphertext),
        _CIPHERTEXT,
        _PLAINTEXT,
    ),
    "sign": Case(lambda client, made: client.sign(f"{made.name}-ec", b"m"), (("message",),), (("signature",),)),
    "sign a digest": Case(lambda client, made: client.sign(f"{made.name}-ec", digest=bytes(32)), (("digest",),)),
    "verify": Case(
        lambda client, made: client.verify(f"{made.name}-ec", made.signature, b"m"), (("message",), ("signature",))
    ),
    "generate_mac": Case(
        lambda client, made: client.generate_mac(f"{made.name}-mac", b"m"), (("message",),), (("mac",),)
    ),
    "verify_mac": Case(
        lambda client, made: client.verify_mac(f"{made.name}-mac", b"m", made.mac), (("message",), ("mac",))
    ),
    "generate_random": Case(lambda client, _: client.generate_random(), answer=(("data",),)),
    "batch_encrypt": Case(
        lambda client, made: client.batch_encrypt(made.name, [b"1", b"2"]), answer=(("outcomes", 1, "ciphertext"),)
    ),
    "batch_decrypt": Case(
        lambda client, made: client.batch_decrypt([made.ciphertext] * 2),
        answer=(("outcomes", 1, "decrypted", "plaintext"),),
    ),
}
WITH_REQUEST = [(name, path) for name, case in CASES.items() for path in case.request]
WITH_ANSWER = [(name, path) for name, case in CASES.items() for path in case.answer]


@pytest.fixture(scope="module")
def made(mesh: Mesh) -> Made:
    """Keys and what was made with them."""
    with client_of(mesh) as client:
        name = "checksums"
        client.keys.create(name)
        client.keys.create(f"{name}-rsa", spec="RSA_2048", usage="ENCRYPT_DECRYPT")
        client.keys.create(f"{name}-ec", spec="EC_P256", usage="SIGN_VERIFY")
        client.keys.create(f"{name}-mac", spec="HMAC_256")
        return Made(
            name,
            client.encrypt(name, b"x").ciphertext,
            client.asymmetric.encrypt(f"{name}-rsa", b"x").ciphertext,
            client.sign(f"{name}-ec", b"m").signature,
            client.generate_mac(f"{name}-mac", b"m").mac,
        )


@pytest.fixture(scope="module")
def through(mesh: Mesh) -> Iterator[tuple[Client, Relay]]:
    """A client of crypto behind a relay, and the relay."""
    with relayed(mesh, "crypto") as both:
        yield both


@pytest.fixture
def relay(through: tuple[Client, Relay]) -> Iterator[Relay]:
    """The relay, which goes back to altering nothing."""
    relay = through[1]
    yield relay
    relay.request = relay.answer = ()


@pytest.mark.parametrize("name", CASES)
def test_what_nobody_altered_is_answered(through: tuple[Client, Relay], made: Made, name: str) -> None:
    assert CASES[name].call(through[0], made)


@pytest.mark.parametrize(("name", "path"), WITH_REQUEST)
def test_an_altered_request_is_refused(
    through: tuple[Client, Relay], relay: Relay, made: Made, name: str, path: Path
) -> None:
    relay.request = path
    error = refusal(lambda: CASES[name].call(through[0], made))
    field = "input" if name in ("sign", "sign a digest", "verify") and path != ("signature",) else path[-1]
    assert (error.reason, error.field) == ("CHECKSUM_MISMATCH", f"{field}_crc32c")


@pytest.mark.parametrize(("name", "path"), WITH_ANSWER)
def test_an_altered_answer_is_not_used(
    through: tuple[Client, Relay], relay: Relay, made: Made, name: str, path: Path
) -> None:
    relay.answer = path
    error = refusal(lambda: CASES[name].call(through[0], made))
    assert (error.reason, error.field, error.code) == ("ANSWER_CORRUPTED", path[-1], grpc.StatusCode.DATA_LOSS)


def test_an_altered_item_of_a_batch_has_no_result(through: tuple[Client, Relay], relay: Relay, made: Made) -> None:
    relay.request = ("items", 1, "plaintext")
    whole, broken = through[0].batch_encrypt(made.name, [b"1", b"2"]).outcomes
    assert not isinstance(whole, StrongroomError)
    assert isinstance(broken, StrongroomError)
    assert broken.reason == "CHECKSUM_MISMATCH"
    relay.request = ("items", 0, "ciphertext")
    unread, opened = through[0].batch_decrypt([made.ciphertext] * 2).outcomes
    assert isinstance(unread, StrongroomError)
    assert unread.reason == "CHECKSUM_MISMATCH"
    assert not isinstance(opened, StrongroomError)


def test_every_checksum_of_the_contract_is_tried() -> None:
    def checksums(descriptor: Any, path: Path = ()) -> Iterator[Path]:
        for field in descriptor.fields:
            if field.name.endswith("_crc32c"):
                yield (*path, field.name.removesuffix("_crc32c"))
            elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
                yield from checksums(field.message_type, (*path, field.name))

    def named(paths: Iterator[Path]) -> set[str]:
        return {str(path[-1]) for path in paths}

    methods: list[MethodDescriptor] = list(SERVICES["crypto"].methods)
    tried = {name.partition(" ")[0].replace("_", "") for name in CASES}
    with_checksums = {
        method.name.lower()
        for method in methods
        if named(checksums(method.input_type)) | named(checksums(method.output_type))
    }
    assert with_checksums == tried


def test_a_secret_value_and_an_import_are_covered_too(mesh: Mesh) -> None:
    with client_of(mesh) as client:
        client.secrets.create("checksums", b"hunter2")
        client.keys.create("checksums-imported", origin="EXTERNAL")
    with relayed(mesh, "secrets") as (client, relay):
        assert client.secrets.get_value("checksums").value == b"hunter2"
        relay.answer = ("value",)
        assert refusal(lambda: client.secrets.get_value("checksums")).reason == "ANSWER_CORRUPTED"
        relay.answer, relay.request = (), ("value",)
        assert refusal(lambda: client.secrets.put_value("checksums", b"hunter3")).reason == "CHECKSUM_MISMATCH"
    with relayed(mesh, "keystore") as (client, relay):
        relay.answer = ("public_key",)
        assert (
            refusal(lambda: client.keys.material.get_import_parameters("checksums-imported")).reason
            == "ANSWER_CORRUPTED"
        )
        relay.answer = ()
        parameters = client.keys.material.get_import_parameters("checksums-imported")
        wrapped = wrap_for_import(bytes(32), parameters.public_key, parameters.method)
        relay.request = ("encrypted_material",)
        error = refusal(lambda: client.keys.material.import_wrapped("checksums-imported", parameters.token, wrapped))
        assert error.reason == "CHECKSUM_MISMATCH"
