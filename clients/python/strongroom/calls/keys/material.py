"""Key material that its owner brings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from strongroom.calls.base import Part
from strongroom.calls.keys.records import KeyVersion, answered_version
from strongroom.convert import enum_number, enum_text, moment, timestamp
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from strongroom.wrapping import DEFAULT_METHOD, wrap_for_import

_WRAPPING_KEY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ImportParameters:
    """What material for one key version is wrapped with and imported by, for 24 hours.

    `version` is a full name, `public_key` SubjectPublicKeyInfo in DER; `protection_level` says where its private half
    is.
    """

    version: str
    method: str
    public_key: bytes
    token: bytes
    expire_time: datetime | None
    protection_level: str
    event_id: str = ""


class KeyMaterial(Part[KeyServiceStub]):
    """Imports material into keys of origin EXTERNAL.

    `key` is an id, `alias/{alias}`, a full name, or one version: `payments/versions/2`.
    """

    def wrap_and_import(
        self,
        key: str,
        material: bytes,
        *,
        expire_time: datetime | None = None,
        method: str = DEFAULT_METHOD,
        timeout: float | None = None,
    ) -> KeyVersion:
        """Wraps material in this process and imports it, for the version that waits for some.

        `material` is the raw key for AES, SM4 and HMAC, 32 bytes of seed for X-Wing, and an unencrypted private key for
        the rest: PKCS#8 in DER, or any PEM. `method` is how it is wrapped; the default carries every spec. From
        `expire_time` on, which needs a time zone, it cannot be used. Raises KEY_STATE_INVALID, UNSUPPORTED_IN_HSM,
        FIELD_INVALID, IMPORT_MATERIAL_INVALID, and IMPORT_MATERIAL_MISMATCH for other material than the version had
        before.
        """
        parameters = self.get_import_parameters(key, method, timeout=timeout)
        wrapped = wrap_for_import(material, parameters.public_key, method)
        return self.import_wrapped(key, parameters.token, wrapped, expire_time=expire_time, timeout=timeout)

    def get_import_parameters(
        self, key: str, method: str = DEFAULT_METHOD, *, timeout: float | None = None
    ) -> ImportParameters:
        """Answers a public key to wrap material with, and a token to import it by.

        Raises KEY_STATE_INVALID, also for a key whose origin is not EXTERNAL, UNSUPPORTED_IN_HSM, FIELD_INVALID for a
        method that cannot carry the spec.
        """
        request = pb.GetParametersForImportRequest(
            name=self._names.key_or_version(key),
            import_method=enum_number(key_pb2.ImportMethod, "IMPORT_METHOD_", method, "method"),
        )
        # An RSA pair is made for each import, which takes a token or a busy machine its time.
        answer = self._service.call(
            self._service.stub.GetParametersForImport, request, _WRAPPING_KEY_SECONDS if timeout is None else timeout
        )
        found = answer.response
        return ImportParameters(
            version=found.name,
            method=enum_text(key_pb2.ImportMethod, "IMPORT_METHOD_", found.import_method),
            public_key=found.public_key,
            token=found.import_token,
            expire_time=moment(found.expire_time),
            protection_level=enum_text(key_pb2.ProtectionLevel, "PROTECTION_LEVEL_", found.protection_level),
            event_id=answer.event_id,
        )

    def import_wrapped(
        self,
        key: str,
        token: bytes,
        encrypted_material: bytes,
        *,
        expire_time: datetime | None = None,
        timeout: float | None = None,
    ) -> KeyVersion:
        """Imports material that was wrapped with the public key of the import parameters.

        `token` is theirs. From `expire_time` on, which needs a time zone, the material cannot be used. Raises
        IMPORT_TOKEN_INVALID, IMPORT_TOKEN_EXPIRED, IMPORT_MATERIAL_INVALID, and IMPORT_MATERIAL_MISMATCH for other
        material than the version had before.
        """
        request = pb.ImportKeyMaterialRequest(
            name=self._names.key_or_version(key),
            import_token=token,
            encrypted_material=encrypted_material,
            material_expire_time=timestamp(expire_time, "expire_time") if expire_time is not None else None,
        )
        return answered_version(self._service.call(self._service.stub.ImportKeyMaterial, request, timeout))

    def delete(self, key: str, *, timeout: float | None = None) -> KeyVersion:
        """Deletes imported material; the version can be used again once the same material is imported.

        Raises DELETION_PROTECTED.
        """
        request = pb.DeleteImportedKeyMaterialRequest(name=self._names.key_or_version(key))
        return answered_version(self._service.call(self._service.stub.DeleteImportedKeyMaterial, request, timeout))
