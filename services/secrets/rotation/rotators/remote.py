"""GRPC: a team's own RotatorService, in any language (`rotator_service.proto`)."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message

from services.runtime.errors import Reason, StrongroomError
from services.runtime.failed_calls import rpc_code
from services.runtime.mesh.tls import Identity, channel_credentials
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.destinations import address_of
from services.secrets.kinds.declared.grpc import step_seconds
from services.secrets.rotation.rotators.rotation_tokens import METADATA, rotation_token
from services.secrets.rotation.rotators.rotator import (
    Credential,
    Identities,
    Relayed,
    RotationContext,
    Rotator,
    Supplies,
    new_password,
)
from services.secrets.values.sealing import NewValue
from services.secrets.values.values import MAX_VALUE_BYTES
from strongroom.secrets.v1 import rotator_service_pb2 as pb
from strongroom.secrets.v1.rotator_service_pb2_grpc import RotatorServiceStub
from strongroom.secrets.v1.secret_pb2 import VALUE_FORMAT_BINARY, VALUE_FORMAT_TEXT

_MAX_ANSWER_BYTES = 2 * MAX_VALUE_BYTES
# grpc/impl/compression_types.h: a bit for each algorithm.
_UNCOMPRESSED_ALONE = 1
# A policy of the target's own refuses the value, and may take another.
_VALUE_REFUSED = ("SetCredential", grpc.StatusCode.OUT_OF_RANGE)
# What a later try may cure.
_CURABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED)


class RemoteRotator:
    """The rotator of teams' own services. Every call is made over a connection of its own, with this service's
    certificate: by a relay, or with `tls` where a service has no processes for steps."""

    def __init__(self, tls: Identities | None, relayed: Relayed | None = None) -> None:
        self._tls = tls
        self._relayed = relayed

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""
        request = pb.CheckTargetRequest(context=_context(context), current=_credential(current))
        self._call(context, "CheckTarget", request)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""
        request = pb.CreateCredentialRequest(
            context=_context(context),
            current=_credential(current),
            password_rule=context.rule,
            suggested_password=new_password(context),
        )
        answer: pb.CreateCredentialResponse = self._call(context, "CreateCredential", request)
        if not 1 <= len(answer.value) <= MAX_VALUE_BYTES:
            raise _failed(f"the rotator answered a value of {len(answer.value)} bytes")
        return NewValue(SensitiveBytes(answer.value), _format(answer))

    def set(
        self,
        context: RotationContext,
        pending: Credential,
        current: Credential | None,
        previous: Credential | None,
    ) -> None:
        """Makes the target accept `pending`."""
        request = pb.SetCredentialRequest(
            context=_context(context),
            pending=_credential(pending),
            current=_credential(current),
            previous=_credential(previous),
        )
        self._call(context, "SetCredential", request)

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in."""
        request = pb.TestCredentialRequest(context=_context(context), credential=_credential(credential))
        answer: pb.TestCredentialResponse = self._call(context, "TestCredential", request)
        if not answer.accepted:
            # Its words are not handed on: they are of whoever runs it, and may hold anything.
            raise StrongroomError(Reason.TARGET_LOGIN_REFUSED, "the rotator says that the target refuses it")

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Makes the target refuse what is older, as far as that is wanted; `current` is the new value by now."""
        request = pb.FinishRotationRequest(
            context=_context(context), current=_credential(current), previous=_credential(previous)
        )
        self._call(context, "FinishRotation", request)

    def _call(self, context: RotationContext, method: str, request: Message) -> Any:
        target = context.target.grpc
        channel, token = self._connected(context, method)
        metadata = [(METADATA, token)]
        with channel:
            try:
                return getattr(RotatorServiceStub(channel), method)(
                    request, timeout=step_seconds(target), metadata=metadata
                )
            except grpc.RpcError as error:
                raise _of_rpc(error, method) from None

    def _connected(self, context: RotationContext, method: str) -> tuple[grpc.Channel, str]:
        target, relayed = context.target.grpc, self._relayed
        options = _options(target.address)
        if relayed is not None:
            # The relay speaks TLS, and the rotator sees no difference.
            options.append(("grpc.http2_scheme", "https"))
            return grpc.insecure_channel(relayed.endpoint, options), relayed.token
        # Who is at the other end only a relay can look at.
        if self._tls is None or (context.reach is not None and context.reach.spiffe_ids):
            raise StrongroomError(Reason.ROTATOR_FAILED, "the step was given no connection")
        own = self._tls.current()
        trust = target.ca_pem.encode() if target.ca_pem else own.trust
        credentials = channel_credentials(Identity(own.certificate, own.key, trust))
        options.append(("grpc.ssl_target_name_override", target.address.rpartition(":")[0].strip("[]")))
        channel = grpc.secure_channel(_endpoint(context), credentials, options)
        return channel, rotation_token(own, target.address, context.secret.name, method)


def rotator(supplies: Supplies) -> Rotator:
    """The rotator of GRPC."""
    return RemoteRotator(supplies.identities, supplies.relayed)


def _endpoint(context: RotationContext) -> str:
    """The address that was checked, so that gRPC resolves nothing by itself; and never by way of a proxy."""
    address, port = context.address(), context.target.grpc.address.rpartition(":")[2]
    found = address_of(address)
    if found is None:
        return f"dns:///{address}:{port}"
    return f"ipv4:{found}:{port}" if found.version == 4 else f"ipv6:[{found}]:{port}"


def _options(address: str) -> list[tuple[str, Any]]:
    return [
        ("grpc.default_authority", address),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
        # An answer that is inflated is as large as the rotator likes.
        ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED_ALONE),
    ]


def _of_rpc(error: grpc.RpcError, method: str) -> StrongroomError:
    code = rpc_code(error)
    said = f"{method} of the rotator: status {code.name}"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return StrongroomError(Reason.TARGET_UNREACHABLE, said)
    if (method, code) == _VALUE_REFUSED:
        return StrongroomError(Reason.TARGET_VALUE_REFUSED, f"{said}: the target does not take this value")
    return StrongroomError(Reason.ROTATOR_FAILED, said) if code in _CURABLE else _failed(said)


def _failed(said: str) -> StrongroomError:
    """What no later try will cure."""
    return StrongroomError(Reason.ROTATOR_FAILED, said, incurable="true")


def _context(context: RotationContext) -> pb.RotationContext:
    return pb.RotationContext(
        secret=str(context.secret.name),
        rotation=context.rotation,
        attempt=context.attempt,
        fencing_token=context.fencing_token,
        parameters=context.target.grpc.parameters,
        tags=context.secret.tags,
        master=_credential(context.master),
    )


def _credential(credential: Credential | None) -> pb.Credential | None:
    if credential is None:
        return None
    return pb.Credential(version=credential.version, value=credential.value.reveal(), format=credential.format)


def _format(answer: pb.CreateCredentialResponse) -> Any:
    if answer.format in (VALUE_FORMAT_BINARY, VALUE_FORMAT_TEXT):
        return answer.format
    try:
        answer.value.decode()
    except UnicodeDecodeError:
        return VALUE_FORMAT_BINARY
    return VALUE_FORMAT_TEXT
