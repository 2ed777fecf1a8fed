"""Client keys of Strongroom itself: the new one is made here and installed at keystore with the old one as the proof.

Keystore gets the hash of a secret that is Pending by then, so that there never is a client key that nobody knows. The
old one stays valid until the grace period is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from services.runtime import identifiers
from services.runtime.access.client_key_secrets import new_secret, secret_sha256
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import KEYSTORE, MeshChannel
from services.runtime.requests.names import ResourceName
from services.secrets.rotation.rotators.rotator import (
    Credential,
    RotationContext,
    Rotator,
    Supplies,
    login_value,
    require_credential,
)
from services.secrets.values.sealing import NewValue
from strongroom.access.v1 import client_key_rotation_service_pb2 as pb
from strongroom.access.v1 import session_service_pb2
from strongroom.access.v1.client_key_rotation_service_pb2_grpc import ClientKeyRotationServiceStub
from strongroom.access.v1.principal_pb2 import ClientKey
from strongroom.access.v1.session_service_pb2 import ClientKeyCredential
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub

# Longer than keystore waits for its audit log, so that its own reason arrives.
_TIMEOUT_SECONDS = 5.0
_SESSION_NAME = "rotation"
_SHORTEST = Duration(seconds=1)
_REFUSALS = frozenset(
    (Reason.CREDENTIAL_INVALID, Reason.IDENTITY_UNKNOWN, Reason.PRINCIPAL_DISABLED, Reason.TOKEN_EXPIRED)
)
# Says nothing of the client key.
_BUSY = frozenset((Reason.QUOTA_EXCEEDED, Reason.OVERLOADED))
_INCURABLE = frozenset((Reason.PRINCIPAL_NOT_FOUND, Reason.ALREADY_EXISTS))


class ClientKeyRotator:
    """The rotator of client keys, which asks keystore."""

    def __init__(self, keystore: MeshChannel) -> None:
        self._install = KEYSTORE.method(keystore, ClientKeyRotationServiceStub, "InstallClientKey", _TIMEOUT_SECONDS)
        self._retire = KEYSTORE.method(keystore, ClientKeyRotationServiceStub, "RetireClientKeys", _TIMEOUT_SECONDS)
        self._create_session = KEYSTORE.method(keystore, SessionServiceStub, "CreateSession", _TIMEOUT_SECONDS)

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""
        if current is None:
            return
        new = self.create(context, current)
        request = _installation(context, Credential("", new.value, new.format), current, None)
        request.validate_only = True
        _call(self._install, request)
        self.test(context, current)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""
        name = ResourceName(context.secret.name.account, "clientKeys", identifiers.resource_id("ck"))
        return login_value(current, client_key=str(name), secret=new_secret().reveal().decode())

    def set(
        self,
        context: RotationContext,
        pending: Credential,
        current: Credential | None,
        previous: Credential | None,
    ) -> None:
        """Makes the target accept `pending`."""
        old = require_credential(current, context.secret)
        _call(self._install, _installation(context, pending, old, previous))

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in."""
        request = session_service_pb2.CreateSessionRequest(
            client_key=_credential(credential), session_name=_SESSION_NAME, duration=_SHORTEST
        )
        session: session_service_pb2.Session = _call(self._create_session, request)
        if session.principal != context.secret.principal:
            raise StrongroomError(
                Reason.TARGET_LOGIN_REFUSED, f"{credential.version} is not a client key of {context.secret.principal}"
            )

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Makes the target refuse what is older, as far as that is wanted; `current` is the new value by now."""
        request = pb.RetireClientKeysRequest(
            rotated_by=str(context.secret.name),
            principal=context.secret.principal,
            current=_credential(current),
            replaced=_credential(previous) if previous is not None else None,
        )
        _call(self._retire, request)


def rotator(supplies: Supplies) -> Rotator:
    """The rotator of CLIENT_KEY. Raises ValueError without a channel to keystore."""
    if supplies.keystore is None:
        raise ValueError("client keys are installed at keystore")
    return ClientKeyRotator(supplies.keystore)


def _installation(
    context: RotationContext, new: Credential, current: Credential, replaced: Credential | None
) -> pb.InstallClientKeyRequest:
    target, fields = context.target.client_key, new.fields
    return pb.InstallClientKeyRequest(
        client_key=ClientKey(
            name=fields["client_key"], principal=target.principal, rotated_by=str(context.secret.name)
        ),
        secret_sha256=secret_sha256(fields["secret"]),
        lifetime=Duration(seconds=context.secret.client_key_lifetime_s),
        current=_credential(current),
        replaced=_credential(replaced) if replaced is not None else None,
    )


def _credential(credential: Credential) -> ClientKeyCredential:
    fields = credential.fields
    return ClientKeyCredential(client_key=fields["client_key"], secret=fields["secret"])


def _call(method: Callable[..., Any], request: Message) -> Any:
    try:
        return method(request)
    except StrongroomError as error:
        raise _of_keystore(error) from None


def _of_keystore(error: StrongroomError) -> StrongroomError:
    if error.is_unavailable:
        return error
    said = f"keystore says {error.reason}: {error.message}"
    if error.reason in _REFUSALS:
        return StrongroomError(Reason.TARGET_LOGIN_REFUSED, said)
    if error.reason in _BUSY:
        return StrongroomError(Reason.TARGET_UNREACHABLE, said)
    if error.reason in _INCURABLE:
        return StrongroomError(Reason.TARGET_CHANGE_REFUSED, said, incurable="true")
    return StrongroomError(Reason.TARGET_CHANGE_REFUSED, said)
