"""The client: what an application holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from strongroom import logins, profiles
from strongroom.calls.crypto import batches, results, signatures
from strongroom.credentials import ClientCertificate, Credentials, TokenStore
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.names import Names
from strongroom.pem import Pem
from strongroom.profiles import Profile
from strongroom.tokens import token_source
from strongroom.tracing import SpanFile, Trace, Tracing
from strongroom.transport import Endpoint, Transport

if TYPE_CHECKING:
    from strongroom.calls.access.access import Access
    from strongroom.calls.audit.audit import Audit
    from strongroom.calls.crypto.asymmetric import Asymmetric
    from strongroom.calls.crypto.batches import Batch
    from strongroom.calls.crypto.coalesced import CoalescedCalls
    from strongroom.calls.crypto.data_keys import DataKeys
    from strongroom.calls.crypto.results import Context, DataKey, Decrypted, Encrypted, Item, RandomBytes
    from strongroom.calls.crypto.signatures import Digest, Mac, Signature, Verification
    from strongroom.calls.keys.keys import Keys
    from strongroom.calls.mesh.mesh import Mesh
    from strongroom.calls.secrets.secrets import Secrets

DEFAULT_TIMEOUT = 10.0


class Client:
    """A caller of one mesh: encrypts, signs and makes data keys itself, and has a part for every other subject.

    `client.encrypt(…)`, `client.keys.create(…)`, `client.secrets.get_value(…)`,
    `client.access.principals.create(…)`, `client.audit.events.list(…)`.

    A client may be shared between threads, and not be carried over a fork. Connections are opened when first needed
    and kept. Every call has a deadline (`timeout`, seconds, retries included), is retried with growing pauses while
    the service answers UNAVAILABLE, carries a trace context, and raises StrongroomError when it fails. Wherever a
    method takes a key, that is an id (`payments`), `alias/{alias}`, or a full name.

    Args:
        endpoints: `host:port` of `keystore`, `crypto`, `secrets` and `audit`, as far as they are called; of several
            replicas joined by commas, where calls that nobody answered at one go to the next.
        credentials: who calls; a client certificate needs the services' listeners for client certificates.
        certificate: what to connect with to such listeners where the credentials are something else.
        token_store: keeps the session token that credentials are exchanged for beyond the client's own life.
        trust: PEM file of the authorities that the services' certificates chain to; by default the system's.
        account: the account's id; short names are completed with it.
        timeout: seconds that a call may take.
        sample_ratio: which part of the traces that begin here is recorded, 0 to 1.
        trace_directory: for development: spans of recorded traces are appended there under `application`.
        application: the name of the program in those spans.
        coalesce: send single `encrypt`, `decrypt` and `sign` calls of concurrent threads together as batch calls, each
            with its own outcome; none waits more than a millisecond for others. A batch is in the trace of its first.

    Attributes:
        names: completes short names to full ones within the account, and shortens full ones.
    """

    _coalesced: CoalescedCalls | None = None

    def __init__(
        self,
        endpoints: Mapping[str, str],
        credentials: Credentials | None = None,
        *,
        certificate: ClientCertificate | None = None,
        token_store: TokenStore | None = None,
        trust: Path | None = None,
        account: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        sample_ratio: float = 0.0,
        trace_directory: Path | None = None,
        application: str = "strongroom-client",
        coalesce: bool = False,
    ) -> None:
        spans = SpanFile(trace_directory, application) if trace_directory else None
        pem = Pem.of(trust, certificate or credentials)
        self.names = Names(account)
        self._transport = Transport(endpoints, pem, Tracing(sample_ratio, spans), timeout)
        self._transport.tokens = token_source(self._transport, credentials, token_store)
        if coalesce:
            from strongroom.calls.crypto.coalesced import CoalescedCalls

            self._coalesced = CoalescedCalls(copy(self), timeout)

    @classmethod
    def from_profile(
        cls,
        profile: Profile | str = "",
        *,
        role: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        application: str = "strongroom-client",
        coalesce: bool = False,
    ) -> Self:
        """The client of a profile: by name, or `$STRONGROOM_PROFILE`, or the current one; with `role`, as that.

        With a `trace_directory` in the profile, every trace is recorded. `$STRONGROOM_TOKEN`, if set, is a
        session token to use in place of the profile's credentials. Tokens that those are exchanged for are kept
        in the profile's directory. Raises PROFILE_NOT_FOUND, PROFILE_INVALID or LOGIN_EXPIRED.
        """
        if isinstance(profile, str):
            profile = profiles.find(profile)
        credentials = logins.credentials_of(profile, os.environ, role)
        return cls(
            profile.endpoints,
            credentials,
            certificate=logins.certificate_of(profile),
            token_store=logins.token_store(profile, credentials),
            trust=profile.trust,
            account=profile.account,
            timeout=timeout,
            sample_ratio=1.0 if profile.trace_directory else 0.0,
            trace_directory=profile.trace_directory,
            application=application,
            coalesce=coalesce,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        self._transport.close()

    @property
    def last_trace_id(self) -> str:
        """The trace id (32 hex digits) of this thread's last call; empty before the first."""
        return self._transport.tracing.last_trace_id

    def trace(
        self, name: str = "client", *, trace_id: str = "", sampled: bool | None = None
    ) -> AbstractContextManager[Trace]:
        """Puts every call of a `with` block into one trace, below a span `name`.

        Inside the application's own OpenTelemetry span it continues that trace. `trace_id` (32 lower-case hex
        digits) begins another of one's own choice; `sampled` says whether a trace that begins here is
        recorded, in place of the client's `sample_ratio`. Raises FIELD_INVALID.
        """
        return self._transport.tracing.span(name, trace_id=trace_id, sampled=sampled, attributes={})

    # The parts: each is loaded when it is first asked for.

    @cached_property
    def keys(self) -> Keys:
        """Keys, with their versions, aliases and imported material."""
        from strongroom.calls.keys.keys import Keys

        return Keys.of(self._transport, self.names)

    @cached_property
    def data_keys(self) -> DataKeys:
        """Data keys beyond the everyday one: without plaintext, many at once, exported, and key pairs."""
        from strongroom.calls.crypto.data_keys import DataKeys

        return DataKeys(self._crypto, self.names)

    @cached_property
    def asymmetric(self) -> Asymmetric:
        """What is done with asymmetric keys besides signing: encryption to a public key, key agreement and KEMs."""
        from strongroom.calls.crypto.asymmetric import Asymmetric

        return Asymmetric(self._crypto, self.names)

    @cached_property
    def secrets(self) -> Secrets:
        """Secrets, their values, versions and rotations."""
        from strongroom.calls.secrets.secrets import Secrets

        return Secrets(self._transport, self.names)

    @cached_property
    def access(self) -> Access:
        """Who may do what: principals, credentials, policies, grants, quotas, sessions and accounts."""
        from strongroom.calls.access.access import Access

        return Access(self._transport, self.names)

    @cached_property
    def audit(self) -> Audit:
        """The audit log: events, usage, proofs and retention."""
        from strongroom.calls.audit.audit import Audit

        return Audit.of(self._transport, self.names)

    @cached_property
    def mesh(self) -> Mesh:
        """The mesh itself: how its services are, and its root key."""
        from strongroom.calls.mesh.mesh import Mesh

        return Mesh(self._transport, self.names)

    @cached_property
    def _crypto(self) -> Endpoint[CryptoServiceStub]:
        return self._transport.endpoint("crypto", CryptoServiceStub)

    # The crypto verbs.

    def encrypt(
        self, key: str, plaintext: bytes, context: Context = None, *, timeout: float | None = None
    ) -> Encrypted:
        """Encrypts 1 to 65,536 bytes under a key's primary version.

        `context` is the encryption context: pairs that the ciphertext is bound to, not secret, up to 8,192 bytes in
        all. For more content there is `strongroom.encryption`. Raises FIELD_TOO_LARGE, KEY_NOT_FOUND, KEY_DISABLED,
        PERMISSION_DENIED.
        """
        if self._coalesced is not None:
            return self._coalesced.encrypt(self.names.key(key), plaintext, context, timeout)
        request = pb.EncryptRequest(key=self.names.key(key), plaintext=plaintext, encryption_context=context or {})
        answer = self._crypto.call(self._crypto.stub.Encrypt, request, timeout)
        return results.encrypted(answer.response, answer.event_id)

    def decrypt(
        self, ciphertext: bytes, context: Context = None, *, key: str = "", timeout: float | None = None
    ) -> Decrypted:
        """Decrypts a ciphertext, which names its key, with the context that it was encrypted with.

        With `key`, only a ciphertext under that key is accepted: KEY_MISMATCH. Raises CIPHERTEXT_INVALID for whatever
        does not decrypt, KEY_DISABLED, PERMISSION_DENIED.
        """
        if self._coalesced is not None:
            return self._coalesced.decrypt(ciphertext, context, self.names.key(key) if key else "", timeout)
        request = pb.DecryptRequest(
            ciphertext=ciphertext, encryption_context=context or {}, key=self.names.key(key) if key else ""
        )
        answer = self._crypto.call(self._crypto.stub.Decrypt, request, timeout)
        return results.decrypted(answer.response, answer.event_id)

    def re_encrypt(
        self,
        ciphertext: bytes,
        destination_key: str,
        source_context: Context = None,
        destination_context: Context = None,
        *,
        source_key: str = "",
        source_algorithm: str = "",
        timeout: float | None = None,
    ) -> Encrypted:
        """Moves a ciphertext under another key or encryption context; the plaintext stays inside the service.

        A ciphertext that was encrypted to a public key does not name its key: give `source_key` and
        `source_algorithm`. Raises what `decrypt` and `encrypt` raise.
        """
        request = pb.ReEncryptRequest(
            ciphertext=ciphertext,
            source_encryption_context=source_context or {},
            source_key=self.names.key_or_version(source_key, "source_key") if source_key else "",
            source_algorithm=signatures.algorithm_number(source_algorithm, "source_algorithm"),
            destination_key=self.names.key(destination_key, "destination_key"),
            destination_encryption_context=destination_context or {},
        )
        answer = self._crypto.call(self._crypto.stub.ReEncrypt, request, timeout)
        return results.encrypted(answer.response, answer.event_id)

    def batch_encrypt(
        self, key: str, items: Sequence[Item], context: Context = None, *, timeout: float | None = None
    ) -> Batch[Encrypted]:
        """Encrypts up to 1,000 plaintexts, 4 MiB in all, in one call under one key.

        An item is a plaintext, which gets `context`, or a plaintext with a context of its own. Raises what
        concerns the key or the permission; what concerns one item is its outcome.
        """
        given = batches.with_contexts(items, context)
        request = pb.BatchEncryptRequest(
            key=self.names.key(key),
            items=[pb.EncryptItem(plaintext=plaintext, encryption_context=own) for plaintext, own in given],
        )
        answer = self._crypto.call(self._crypto.stub.BatchEncrypt, request, timeout)
        return batches.encrypted_batch(answer.response, answer.event_id)

    def batch_decrypt(
        self, items: Sequence[Item], context: Context = None, *, key: str = "", timeout: float | None = None
    ) -> Batch[Decrypted]:
        """Decrypts up to 1,000 ciphertexts, 4 MiB in all, in one call, of one or several keys.

        An item is a ciphertext, which was encrypted with `context`, or a ciphertext with a context of its
        own. With `key`, those under another key get KEY_MISMATCH. Raises what concerns the call; what
        concerns one item, its key included, is its outcome.
        """
        given = batches.with_contexts(items, context)
        request = pb.BatchDecryptRequest(
            items=[pb.DecryptItem(ciphertext=ciphertext, encryption_context=own) for ciphertext, own in given],
            key=self.names.key(key) if key else "",
        )
        answer = self._crypto.call(self._crypto.stub.BatchDecrypt, request, timeout)
        return batches.decrypted_batch(answer.response, answer.event_id)

    def generate_data_key(
        self, key: str, context: Context = None, *, byte_count: int = 32, timeout: float | None = None
    ) -> DataKey:
        """Makes a random data key of 16 to 1,024 bytes, in the clear and encrypted under `key`.

        `decrypt` opens the encrypted one, given the same `context`. Raises what `encrypt` raises.
        """
        request = pb.GenerateDataKeyRequest(
            key=self.names.key(key), number_of_bytes=byte_count, encryption_context=context or {}
        )
        answer = self._crypto.call(self._crypto.stub.GenerateDataKey, request, timeout)
        return results.data_key(answer.response, answer.event_id)

    def generate_random(self, byte_count: int = 32, *, timeout: float | None = None) -> RandomBytes:
        """Random bytes, 1 to 1,024, from the key provider: the token's generator where there is a token."""
        request = pb.GenerateRandomRequest(number_of_bytes=byte_count)
        answer = self._crypto.call(self._crypto.stub.GenerateRandom, request, timeout)
        return results.RandomBytes(answer.response.data, answer.event_id)

    def sign(
        self,
        key: str,
        message: bytes | None = None,
        *,
        digest: bytes | None = None,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> Signature:
        """Signs a message of up to 65,536 bytes, or its digest, with a key or one version: `payments/versions/2`.

        `algorithm` is such as `RSASSA_PSS_SHA_256`; empty for the key's default. Raises ALGORITHM_INVALID,
        KEY_USAGE_INVALID, FIELD_INVALID for a digest of the wrong length.
        """
        if self._coalesced is not None:
            return self._coalesced.sign(self.names.key_or_version(key), message, digest, algorithm, timeout)
        request = pb.SignRequest(key=self.names.key_or_version(key), algorithm=signatures.algorithm_number(algorithm))
        signatures.give(request, message, digest)
        answer = self._crypto.call(self._crypto.stub.Sign, request, timeout)
        return signatures.signature(answer.response, answer.event_id)

    def verify(
        self,
        key: str,
        signature: bytes,
        message: bytes | None = None,
        *,
        digest: bytes | None = None,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> Verification:
        """Whether a signature is that of a message, or of its digest; `key` is a key or one version.

        A signature that does not verify is an answer, not an error. Raises ALGORITHM_INVALID, KEY_USAGE_INVALID,
        FIELD_INVALID for a digest of the wrong length.
        """
        request = pb.VerifyRequest(
            key=self.names.key_or_version(key), signature=signature, algorithm=signatures.algorithm_number(algorithm)
        )
        signatures.give(request, message, digest)
        answer = self._crypto.call(self._crypto.stub.Verify, request, timeout)
        return signatures.verification(answer.response, answer.event_id)

    def batch_sign(
        self, key: str, messages: Sequence[bytes | Digest], *, algorithm: str = "", timeout: float | None = None
    ) -> Batch[Signature]:
        """Signs up to 1,000 messages or digests, 4 MiB in all, in one call. What concerns one is its outcome."""
        request = pb.BatchSignRequest(
            key=self.names.key_or_version(key),
            items=[batches.sign_item(message) for message in messages],
            algorithm=signatures.algorithm_number(algorithm),
        )
        answer = self._crypto.call(self._crypto.stub.BatchSign, request, timeout)
        return batches.signed_batch(answer.response, answer.event_id)

    def generate_mac(self, key: str, message: bytes, *, timeout: float | None = None) -> Mac:
        """The message authentication code of 1 to 65,536 bytes, under an HMAC key's primary version."""
        request = pb.GenerateMacRequest(key=self.names.key(key), message=message)
        answer = self._crypto.call(self._crypto.stub.GenerateMac, request, timeout)
        return signatures.mac(answer.response, answer.event_id)

    def verify_mac(self, key: str, message: bytes, mac: bytes, *, timeout: float | None = None) -> Verification:
        """Whether a message authentication code is a message's, which is an answer; `key` is a key or one version."""
        request = pb.VerifyMacRequest(key=self.names.key_or_version(key), message=message, mac=mac)
        answer = self._crypto.call(self._crypto.stub.VerifyMac, request, timeout)
        return signatures.verification(answer.response, answer.event_id)
