"""`ClientKeyRotationService`: what the secrets service asks of client keys that it rotates."""

from __future__ import annotations

from services.keystore.access.credentials.client_key_rotations import ClientKeyRotations, HeldKey, Replacement
from services.keystore.access.records.resources import USERS, WORKLOADS, ClientKey
from services.keystore.handlers.client_key_service import LONGEST_LIFETIME_US, client_key_message
from services.runtime import clock
from services.runtime.access.client_key_secrets import SHA256_BYTES
from services.runtime.call import Call
from services.runtime.errors import invalid, required
from services.runtime.requests import names
from services.runtime.requests.names import ResourceName
from strongroom.access.v1 import client_key_rotation_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.session_service_pb2 import ClientKeyCredential

_SHORTEST_LIFETIME_US = 3600 * 1_000_000


class ClientKeyRotationService:
    """Handlers of the internal service."""

    def __init__(self, rotations: ClientKeyRotations, now: clock.Clock) -> None:
        self._rotations = rotations
        self._clock = now

    def InstallClientKey(self, request: pb.InstallClientKeyRequest, call: Call) -> principal_pb2.ClientKey:
        """A client key that its caller has made up."""
        asked = request.client_key
        name = names.parse(asked.name, "client_key.name", "clientKeys")
        field = "client_key.principal"
        principal = _same_account(names.parse(asked.principal, field, USERS, WORKLOADS), name.account, field)
        field = "client_key.rotated_by"
        rotated_by = _same_account(names.parse(asked.rotated_by, field, "secrets"), name.account, field)
        if len(request.secret_sha256) != SHA256_BYTES:
            raise invalid("secret_sha256", f"is not {SHA256_BYTES} bytes")
        new = ClientKey(
            str(name),
            str(principal),
            request.secret_sha256,
            f"Rotated by {rotated_by}",
            self._expiry(request),
            rotated_by=str(rotated_by),
        )
        wanted = Replacement(new.principal, new.rotated_by, _current(request), _replaced(request))
        return client_key_message(self._rotations.install(call, wanted, new, dry_run=request.validate_only))

    def RetireClientKeys(self, request: pb.RetireClientKeysRequest, call: Call) -> pb.RetireClientKeysResponse:
        """Deletes the client keys that another has taken the place of."""
        rotated_by = names.parse(request.rotated_by, "rotated_by", "secrets")
        named = names.parse(request.principal, "principal", USERS, WORKLOADS)
        principal = _same_account(named, rotated_by.account, "principal")
        wanted = Replacement(str(principal), str(rotated_by), _current(request), _replaced(request))
        return pb.RetireClientKeysResponse(client_keys=self._rotations.retire(call, wanted))

    def _expiry(self, request: pb.InstallClientKeyRequest) -> int:
        lifetime_us = request.lifetime.ToMicroseconds()
        if not _SHORTEST_LIFETIME_US <= lifetime_us <= LONGEST_LIFETIME_US:
            raise invalid("lifetime", "is not 1 hour to 366 days")
        return self._clock.now_us() + lifetime_us


def _same_account(name: ResourceName, account: str, field: str) -> ResourceName:
    if name.account != account:
        raise invalid(field, "is of another account")
    return name


def _current(request: pb.InstallClientKeyRequest | pb.RetireClientKeysRequest) -> HeldKey:
    return _held(request.current, "current")


def _replaced(request: pb.InstallClientKeyRequest | pb.RetireClientKeysRequest) -> HeldKey | None:
    return _held(request.replaced, "replaced") if request.HasField("replaced") else None


def _held(credential: ClientKeyCredential, field: str) -> HeldKey:
    name = names.parse(credential.client_key, f"{field}.client_key", "clientKeys")
    if not credential.secret:
        raise required(f"{field}.secret")
    return HeldKey(str(name), credential.secret)
