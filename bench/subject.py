"""What is measured: a mesh with one key, the calls that load sends to its crypto service, and the proof that they
were done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import grpc
from google.protobuf.message import Message

from bench.load import Method
from bench.report import BenchmarkError
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from strongroom.access.v1.session_service_pb2 import CertificateCredential, CreateSessionRequest
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.audit.v1 import audit_service_pb2
from strongroom.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.crypto.v1 import crypto_pb2
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.keystore.v1.key_pb2 import Key as KeyMessage
from strongroom.keystore.v1.key_pb2 import KeySpec, ProtectionLevel
from strongroom.keystore.v1.key_service_pb2 import CreateKeyRequest
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub

PLAINTEXT_BYTES = 64
BATCH_ITEMS = 256
"""Items of one BatchEncrypt, of PLAINTEXT_BYTES each."""
CONTEXT = {"purpose": "benchmark"}

_SERVICE = "strongroom.crypto.v1.CryptoService"
_TIMEOUT_SECONDS = 10.0
_PAGE = 1000
_BATCHED_ITEMS = ("BatchEncrypt", "items")


class Subject:
    """The crypto service of a running mesh, and a key in it. Creating it is the mesh's first use."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._sent: Counter[str] = Counter()
        with mesh.channel("keystore") as channel:
            session = SessionServiceStub(channel).CreateSession(
                CreateSessionRequest(certificate=CertificateCredential()), timeout=_TIMEOUT_SECONDS
            )
            key = KeyServiceStub(channel).CreateKey(
                CreateKeyRequest(
                    parent=f"accounts/{ACCOUNT}",
                    key=KeyMessage(
                        spec=KeySpec.KEY_SPEC_AES_256, protection_level=ProtectionLevel.PROTECTION_LEVEL_SOFTWARE
                    ),
                ),
                timeout=_TIMEOUT_SECONDS,
            )
        self._token, self._key = session.token, key.name
        self._plaintext = bytes(range(PLAINTEXT_BYTES))

    @property
    def encrypt(self) -> Method:
        """`Encrypt` of 64 bytes with a context of one pair."""
        return self._method(
            "Encrypt",
            crypto_pb2.EncryptRequest(key=self._key, plaintext=self._plaintext, encryption_context=CONTEXT),
        )

    @property
    def data_key(self) -> Method:
        """`GenerateDataKey` of 64 bytes with a context of one pair."""
        return self._method(
            "GenerateDataKey",
            crypto_pb2.GenerateDataKeyRequest(
                key=self._key, number_of_bytes=PLAINTEXT_BYTES, encryption_context=CONTEXT
            ),
        )

    @property
    def batch_encrypt(self) -> Method:
        """`BatchEncrypt` of 256 times 64 bytes."""
        item = crypto_pb2.EncryptItem(plaintext=self._plaintext)
        return self._method("BatchEncrypt", crypto_pb2.BatchEncryptRequest(key=self._key, items=[item] * BATCH_ITEMS))

    def sent(self, method: Method, calls: int) -> None:
        """Notes that load sent that many calls, each of which `verify` wants to find in the audit log."""
        self._sent[method.path.rpartition("/")[2]] += calls

    def try_out(self) -> int:
        """Makes each call once with a real client, and decrypts what it answers; the size of BatchEncrypt's answer.

        Raises BenchmarkError where something else comes out.
        """
        with self._mesh.channel("crypto", "public", self._mesh.trust) as channel:
            crypto = CryptoServiceStub(channel)

            def opened(ciphertext: bytes, context: dict[str, str]) -> bytes:
                self._sent["Decrypt"] += 1
                request = crypto_pb2.DecryptRequest(ciphertext=ciphertext, encryption_context=context)
                return crypto.Decrypt(request, timeout=_TIMEOUT_SECONDS, metadata=self._metadata).plaintext

            encrypted = crypto_pb2.EncryptResponse.FromString(self._called(channel, self.encrypt))
            data_key = crypto_pb2.GenerateDataKeyResponse.FromString(self._called(channel, self.data_key))
            batch_bytes = self._called(channel, self.batch_encrypt)
            batch = crypto_pb2.BatchEncryptResponse.FromString(batch_bytes)
            if not (
                opened(encrypted.ciphertext, CONTEXT) == self._plaintext
                and opened(data_key.ciphertext, CONTEXT) == data_key.plaintext
                and len(data_key.plaintext) == PLAINTEXT_BYTES
                and len(batch.outcomes) == BATCH_ITEMS
                and all(opened(outcome.ciphertext, {}) == self._plaintext for outcome in batch.outcomes[:8])
            ):
                raise BenchmarkError("what crypto encrypted does not decrypt to what it was")
        return len(batch_bytes)

    def verify(self) -> None:
        """Reads the whole audit log: each call that was sent is there as allowed, a batch with all its items.

        Raises BenchmarkError where it is not so. What h2load took for an answer may have been a refusal.
        """
        recorded: Counter[tuple[str, str]] = Counter()
        for event in self._events():
            if event.service == _SERVICE:
                recorded[event.method, Outcome.Name(event.outcome)] += 1
                if event.method == "BatchEncrypt":
                    recorded[_BATCHED_ITEMS] += event.item_count
        wanted = {(method, Outcome.Name(Outcome.OUTCOME_ALLOWED)): calls for method, calls in self._sent.items()}
        wanted[_BATCHED_ITEMS] = self._sent["BatchEncrypt"] * BATCH_ITEMS
        if recorded != wanted:
            raise BenchmarkError(f"calls were not done: audit has {dict(recorded)}, sent were {wanted}")

    def _events(self) -> Iterator[Event]:
        with self._mesh.channel("audit") as channel:
            audit = AuditServiceStub(channel)
            request = audit_service_pb2.LookupEventsRequest(
                parent=f"accounts/{ACCOUNT}",
                page_size=_PAGE,
                order=audit_service_pb2.EVENT_ORDER_OLDEST_FIRST,
            )
            while True:
                page = audit.LookupEvents(request, timeout=_TIMEOUT_SECONDS)
                yield from page.events
                if not page.next_page_token:
                    return
                request.page_token = page.next_page_token

    def _method(self, name: str, request: Message) -> Method:
        address = self._mesh.address("crypto", "public")
        return Method(address, f"/{_SERVICE}/{name}", request.SerializeToString(), self._token)

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),)

    def _called(self, channel: grpc.Channel, method: Method) -> bytes:
        """The answer to the very bytes that load sends."""
        self.sent(method, 1)
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method.path)
        return bytes(call(method.message, timeout=_TIMEOUT_SECONDS, metadata=self._metadata))
