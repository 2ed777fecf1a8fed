"""A request that is in order for each method of every public contract, with names of one account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from deploy.dev.mesh import Mesh
from strongroom.access.v1 import access_service_pb2, session_service_pb2
from strongroom.audit.v1 import audit_service_pb2
from strongroom.crypto.v1 import crypto_pb2
from strongroom.keystore.v1 import key_service_pb2
from strongroom.secrets.v1 import secret_service_pb2

_FILES = {
    "keystore": (access_service_pb2, session_service_pb2, key_service_pb2),
    "crypto": (crypto_pb2,),
    "secrets": (secret_service_pb2,),
    "audit": (audit_service_pb2,),
}
METHODS: Mapping[str, tuple[str, MethodDescriptor]] = {
    f"{service.name}.{method.name}": (process, method)
    for process, files in _FILES.items()
    for file in files
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

_A = "accounts/ACCOUNT"
_KEY, _ALIAS, _SECRET = f"{_A}/keys/present", f"{_A}/aliases/present", f"{_A}/secrets/present"
_USER, _ROLE, _POLICY = f"{_A}/users/present", f"{_A}/roles/present", f"{_A}/policies/present"
_GRANT, _CLIENT_KEY, _PROVIDER = f"{_A}/grants/GRANT", f"{_A}/clientKeys/CLIENTKEY", f"{_A}/oidcProviders/present"
_LOG, _EVENT = f"{_A}/log", f"{_A}/events/EVENT"
_PERMIT = "permit (principal, action, resource);"
_TEXT = "AAAA"
NEW = "made-by-tests"
"""Stands for the id of what a request makes."""
# What derives to another account's key where it is not one's own: from the ciphertext of one's own alone.
_OWN_CIPHERTEXT = "CIPHERTEXT"
_POINT = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8nc"
    "DfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
)


def _named(name: str, methods: str) -> dict[str, dict[str, Any]]:
    return {method: {"name": name} for method in methods.split()}


def _keyed(methods: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {f"CryptoService.{method}": {"key": _KEY, **more} for method in methods.split()}


def _of(service: str, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {f"{service}.{method}": request for method, request in requests.items()}


REQUESTS: Mapping[str, Mapping[str, Any]] = {
    **_of(
        "AccessService",
        {
            **_named(_A, "GetAccount DisableAccount EnableAccount"),
            **_named(
                _USER,
                "GetPrincipal SetPrincipalTags SetPrincipalRoles DisablePrincipal EnablePrincipal RevokeSessions"
                " DeletePrincipal",
            ),
            **_named(_POLICY, "GetPolicy DeletePolicy"),
            **_named(_GRANT, "GetGrant RevokeGrant RetireGrant"),
            **_named(_CLIENT_KEY, "GetClientKey DeleteClientKey"),
            **_named(_PROVIDER, "GetOidcProvider DeleteOidcProvider"),
            **_named(f"{_USER}/quota", "GetQuota ResetQuota"),
            **{
                f"List{collection}": {"parent": _A}
                for collection in ("Principals", "Policies", "ClientKeys", "OidcProviders", "Quotas")
            },
            "CreateAccount": {"account_id": NEW},
            "ListAccounts": {},
            "UpdateAccount": {"account": {"name": _A, "display_name": "x"}, "update_mask": "displayName"},
            "CreatePrincipal": {
                "parent": _A,
                "principal_id": NEW,
                "principal": {"kind": "PRINCIPAL_KIND_USER", "roles": [_ROLE]},
            },
            "UpdatePrincipal": {"principal": {"name": _USER, "description": "x"}, "update_mask": "description"},
            "CreatePolicy": {
                "parent": _A,
                "policy_id": NEW,
                "policy": {"cedar": _PERMIT, "attached_to": [_USER], "kind": "POLICY_KIND_IDENTITY"},
            },
            "UpdatePolicy": {"policy": {"name": _POLICY, "cedar": _PERMIT}, "update_mask": "cedar"},
            "AttachPolicy": {"name": _POLICY, "target": _USER},
            "DetachPolicy": {"name": _POLICY, "target": _USER},
            "ValidatePolicy": {"parent": _A, "cedar": _PERMIT},
            "CreateGrant": {
                "parent": _A,
                "grant": {"key": _KEY, "grantee": _USER, "retiring_principal": _ROLE, "operations": ["crypto:Sign"]},
            },
            "ListGrants": {"parent": _A, "key": _KEY, "grantee": _USER, "retiring_principal": _ROLE},
            "CreateClientKey": {"parent": _A, "client_key": {"principal": _USER}},
            "UpdateClientKey": {"client_key": {"name": _CLIENT_KEY, "description": "x"}, "update_mask": "description"},
            "CreateOidcProvider": {
                "parent": _A,
                "oidc_provider_id": NEW,
                "oidc_provider": {"issuer": "https://new.example", "audiences": ["a"]},
            },
            "UpdateOidcProvider": {
                "oidc_provider": {"name": _PROVIDER, "description": "x"},
                "update_mask": "description",
            },
            "UpdateQuota": {"quota": {"name": f"{_USER}/quota", "burst": 9}, "update_mask": "burst"},
            "SimulateAccess": {"principal": _USER, "action": "crypto:Encrypt", "resource": _KEY},
            "GetSchema": {},
        },
    ),
    **_of(
        "SessionService",
        {
            "CreateSession": {"client_key": {"client_key": _CLIENT_KEY, "secret": "guessed"}},
            "AssumeRole": {"role": _ROLE, "session_name": "s"},
            "GetCallerIdentity": {},
            "NarrowSession": {"session_policy": _PERMIT},
            "RevokeSession": {},
        },
    ),
    **_of(
        "KeyService",
        {
            **_named(
                _KEY,
                "GetKey EnableKey DisableKey SetDeletionProtection ScheduleKeyDeletion CancelKeyDeletion"
                " DeleteImportedKeyMaterial",
            ),
            **_named(
                f"{_KEY}/versions/1",
                "GetKeyVersion EnableKeyVersion DisableKeyVersion DestroyKeyVersion SetPrimaryKeyVersion"
                " CancelKeyVersionDestruction",
            ),
            **_named(_ALIAS, "GetAlias DeleteAlias"),
            "GetParametersForImport": {"name": _KEY, "import_method": "IMPORT_METHOD_RSA_OAEP_3072_SHA256"},
            "CreateKey": {"parent": _A, "key_id": NEW, "key": {"protection_level": "PROTECTION_LEVEL_SOFTWARE"}},
            "ListKeys": {"parent": _A},
            "UpdateKey": {"key": {"name": _ALIAS, "description": "x"}, "update_mask": "description"},
            "TagKey": {"name": _KEY, "tags": {"a": "b"}},
            "UntagKey": {"name": _KEY, "tag_keys": ["a"]},
            "ListKeyVersions": {"parent": _KEY},
            "CreateKeyVersion": {"parent": _ALIAS},
            "UpdateRotationPolicy": {"name": _KEY, "rotation_policy": {"period": "864000s"}},
            "ImportKeyMaterial": {"name": _KEY, "import_token": _TEXT, "encrypted_material": _TEXT},
            "CreateAlias": {"parent": _A, "alias_id": NEW, "alias": {"key": _KEY}},
            "ListAliases": {"parent": _A},
            "UpdateAlias": {"alias": {"name": _ALIAS, "key": _KEY}, "update_mask": "key"},
            "RotateRootKey": {},
            "GetRootKeyStatus": {},
        },
    ),
    **_keyed("Encrypt", plaintext=_TEXT),
    **_keyed("GenerateDataKey GenerateDataKeyWithoutPlaintext Encapsulate"),
    **_keyed("GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext", spec="KEY_SPEC_EC_P256"),
    **_keyed("AsymmetricEncrypt", plaintext=_TEXT),
    **_keyed("AsymmetricDecrypt Decapsulate", ciphertext=_TEXT),
    **_keyed("Sign GenerateMac", message=_TEXT),
    **_keyed("Verify", message=_TEXT, signature=_TEXT),
    **_keyed("VerifyMac", message=_TEXT, mac=_TEXT),
    **_keyed("DeriveSharedSecret", peer_public_key=_POINT),
    **_keyed("GenerateAndExportDataKey", target={"public_key": _POINT, "algorithm": "ALGORITHM_HPKE_P256"}),
    **_keyed("BatchEncrypt", items=[{"plaintext": _TEXT}, {"plaintext": _TEXT, "encryption_context": {"a": "b"}}]),
    **_keyed("BatchSign", items=[{"message": _TEXT}]),
    **_keyed("BatchGenerateDataKey", count=2),
    **_of(
        "CryptoService",
        {
            "Decrypt": {"ciphertext": _OWN_CIPHERTEXT, "key": _KEY},
            "ReEncrypt": {"ciphertext": _OWN_CIPHERTEXT, "source_key": _KEY, "destination_key": _ALIAS},
            "ExportDataKey": {
                "ciphertext": _OWN_CIPHERTEXT,
                "target": {"public_key": _POINT, "algorithm": "ALGORITHM_HPKE_P256"},
            },
            "BatchDecrypt": {"items": [{"ciphertext": _OWN_CIPHERTEXT}], "key": _ALIAS},
            "GetPublicKey": {"name": _ALIAS},
            "GenerateRandom": {},
        },
    ),
    **_of(
        "SecretService",
        {
            **_named(
                _SECRET,
                "GetSecret DeleteSecret RestoreSecret GetSecretValue RotateSecret CancelRotation RepairSecret"
                " ResumeRotation",
            ),
            **_named(f"{_SECRET}/versions/1", "DisableSecretVersion EnableSecretVersion DestroySecretVersion"),
            "CreateSecret": {
                "parent": _A,
                "secret_id": NEW,
                "secret": {"key": _KEY, "type": "SECRET_TYPE_GENERIC"},
                "value": _TEXT,
            },
            "ListSecrets": {"parent": _A},
            "UpdateSecret": {"secret": {"name": _SECRET, "description": "x"}, "update_mask": "description"},
            "BatchGetSecretValue": {"parent": _A, "items": [{"name": _SECRET}]},
            "PutSecretValue": {"name": _SECRET, "value": _TEXT},
            "ListSecretVersions": {"parent": _SECRET},
            "UpdateSecretVersionStage": {"name": _SECRET, "stage": "blue", "move_to_version": 1},
            "WatchSecret": {"names": [_SECRET]},
            "UpdateRotationPolicy": {"name": _SECRET, "rotation_policy": {"period": "864000s"}},
            "ListRotations": {"parent": _SECRET},
            "GenerateRandomPassword": {},
        },
    ),
    **_of(
        "AuditService",
        {
            **_named(_EVENT, "GetEvent GetInclusionProof"),
            **_named(f"{_A}/retentionPolicy", "GetRetentionPolicy"),
            **_named(f"{_A}/legalHold", "GetLegalHold"),
            "LookupEvents": {"parent": _A, "resource": _KEY, "principal": _USER},
            "StreamEvents": {"parent": _A, "principal": _USER},
            "ReportUsage": {"parent": _A, "start_time": "2026-11-01T00:00:00Z", "principal": _USER},
            "GetConsistencyProof": {"from_size": 1, "to_size": 1},
            "GetCheckpoint": {},
            "GetTile": {"path": "0/000"},
            "GetLog": {},
            "ListLogs": {},
            "AddCosignatures": {},
            "ShredAccountEvents": {"name": _A, "before_time": "2026-01-01T00:00:00Z", "confirmation": "ACCOUNT"},
            "UpdateRetentionPolicy": {"retention_policy": {"name": f"{_A}/retentionPolicy"}, "update_mask": "*"},
            "UpdateLegalHold": {"legal_hold": {"name": f"{_A}/legalHold"}, "update_mask": "active"},
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to, as its caller sees it."""

    code: str
    message: str
    details: bytes
    metadata: tuple[str, ...]
    """The keys of the trailing metadata."""
    event_id: str
    response: Message | None


@dataclass(frozen=True, slots=True)
class Names:
    """What stands for the placeholders in an account."""

    account: str
    grant: str
    client_key: str
    event: str
    ciphertext: str
    """Base64."""


def request_of(method: str, names: Names) -> dict[str, Any]:
    """The request of one method, as JSON, with the names of an account."""
    filled: dict[str, Any] = _filled(REQUESTS[method], names)
    return filled


def _filled(value: Any, names: Names) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, names) for one in value]
    if isinstance(value, str):
        for placeholder, of_account in (
            ("ACCOUNT", names.account),
            ("GRANT", names.grant),
            ("CLIENTKEY", names.client_key),
            ("EVENT", names.event),
            ("CIPHERTEXT", names.ciphertext),
        ):
            value = value.replace(placeholder, of_account)
    return value


def places(request: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a request names of resources stand."""
    if isinstance(request, Mapping):
        for key, value in request.items():
            yield from places(value, (*path, key))
    elif isinstance(request, list):
        for position, value in enumerate(request):
            yield from places(value, (*path, position))
    elif isinstance(request, str) and request.startswith("accounts/"):
        yield path


def replaced(request: Any, path: tuple[Any, ...], name: str) -> Any:
    """A request with another name at one place."""
    if not path:
        return name
    changed = dict(request) if isinstance(request, Mapping) else list(request)
    changed[path[0]] = replaced(request[path[0]], path[1:], name)
    return changed


def at(request: Any, path: tuple[Any, ...]) -> str:
    """What stands at a place."""
    for step in path:
        request = request[step]
    return str(request)


class Caller:
    """Calls any method by its name, over connections of one credential."""

    def __init__(
        self, mesh: Mesh, identity: str, token: str = "", *, addresses: Mapping[str, str] | None = None
    ) -> None:
        """`addresses` are of processes to reach elsewhere than at their own listeners."""
        files = mesh.authority.issue(identity) if identity else None
        listener = "certificate" if files is not None else "public"
        credentials = grpc.ssl_channel_credentials(
            mesh.authority.trust.read_bytes(),
            files.key.read_bytes() if files is not None else None,
            files.certificate.read_bytes() if files is not None else None,
        )
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channels = {
            process: grpc.secure_channel((addresses or {}).get(process) or mesh.address(process, listener), credentials)  # type: ignore[arg-type]
            for process in _FILES
        }

    def close(self) -> None:
        """Ends its connections."""
        for channel in self._channels.values():
            channel.close()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, request: Mapping[str, Any], *, trace_id: str = "") -> Answer:
        """The answer to one call; of a stream the first message, if one comes at once. With a trace id its trace is
        recorded."""
        process, method = METHODS[name]
        message = json_format.ParseDict(dict(request), GetMessageClass(method.input_type)())
        path = f"/{method.containing_service.full_name}/{method.name}"
        response_class = GetMessageClass(method.output_type)
        channel = self._channels[process]
        traced = (("traceparent", f"00-{trace_id}-{trace_id[:16]}-01"),) if trace_id else ()
        metadata = (*self._metadata, *traced)
        calling: Any
        if method.server_streaming:
            stream = channel.unary_stream(path, type(message).SerializeToString, response_class.FromString)
            calling = stream(message, timeout=2.0, metadata=metadata)
        else:
            unary = channel.unary_unary(path, type(message).SerializeToString, response_class.FromString)
            calling = unary.future(message, timeout=20.0, metadata=metadata)
        try:
            response = next(iter(calling)) if method.server_streaming else calling.result()
        except grpc.RpcError:
            response = None
        trailing = {} if response is not None and method.server_streaming else dict(calling.trailing_metadata() or ())
        if response is not None and method.server_streaming:
            calling.cancel()
        code = "OK" if response is not None else calling.code().name
        details = trailing.get("grpc-status-details-bin", b"")
        return Answer(
            code,
            "" if response is not None else calling.details(),
            details if isinstance(details, bytes) else details.encode(),
            tuple(sorted(trailing)),
            str(trailing.get("strongroom-event-id", "")),
            response,
        )
