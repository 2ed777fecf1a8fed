"""`MaterialService`: makes and wraps key material for the mesh."""

from __future__ import annotations

from services.crypto import blobs
from services.crypto.blobs import Binding
from services.crypto.keys import material, root_key
from services.crypto.keys.generation import Generation
from services.crypto.keys.imports import Imports, Opening
from services.crypto.operations import batches
from services.crypto.operations.inputs import sized
from services.crypto.provider import Provider
from services.runtime.call import Call
from services.runtime.clock import Clock, from_microseconds, microseconds
from services.runtime.errors import Reason, StrongroomError, invalid, required, too_large
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.keystore.v1.key_pb2 import KEY_SPEC_RSA_4096, PROTECTION_LEVEL_HSM

_MAX_SERVICE_KEY_BYTES = 4096
_MAX_PURPOSE = 64
_MAX_REWRAP_ITEMS = 1_000
_MAX_ENCRYPTED_MATERIAL_BYTES = 16_384
_LONGEST_IMPORT_US = 24 * 3600 * 1_000_000


class MaterialService:
    """Handlers of the internal service."""

    def __init__(
        self, provider: Provider, imports: Imports, clock: Clock, generation: Generation | None = None
    ) -> None:
        self._provider = provider
        self._generation = generation or Generation()
        self._imports = imports
        self._clock = clock

    def CreateMaterial(self, request: pb.CreateMaterialRequest, call: Call) -> pb.CreateMaterialResponse:
        """Material for a key version, as a blob bound to it."""
        binding = _binding(request.binding)
        in_hsm = binding.protection_level == PROTECTION_LEVEL_HSM
        made = self._generation.made(
            lambda: material.make(self._provider, binding), call, binding.account, binding.spec, in_hsm=in_hsm
        )
        return pb.CreateMaterialResponse(
            wrapped_material=made.blob, public_key=made.public_key, root_version=blobs.root_version(made.blob)
        )

    def CreateImportWrappingKey(
        self, request: pb.CreateImportWrappingKeyRequest, call: Call
    ) -> pb.CreateImportWrappingKeyResponse:
        """An RSA pair for one import of one key version."""
        expire_us = microseconds(request.expire_time)
        if not 0 < expire_us - self._clock.now_us() <= _LONGEST_IMPORT_US:
            raise invalid("expire_time", "is not within the next 24 hours")
        binding = _binding(request.binding)
        opening = self._generation.made(
            lambda: self._imports.begin(binding, request.import_method, expire_us),
            call,
            binding.account,
            KEY_SPEC_RSA_4096,
            in_hsm=self._provider.has_hsm,
        )
        return pb.CreateImportWrappingKeyResponse(
            public_key=opening.public_key,
            wrapped_private_key=opening.wrapped_private_key,
            protection_level=opening.protection_level,
            root_version=blobs.root_version(opening.wrapped_private_key),
            seal=opening.seal,
        )

    def ImportMaterial(self, request: pb.ImportMaterialRequest, call: Call) -> pb.ImportMaterialResponse:
        """Material from outside, as a blob bound to the key version."""
        imported = self._imports.finish(
            _binding(request.binding),
            Opening(
                request.import_method,
                microseconds(request.expire_time),
                request.public_key,
                request.wrapped_private_key,
                request.seal,
            ),
            sized(request.encrypted_material, "encrypted_material", _MAX_ENCRYPTED_MATERIAL_BYTES),
            request.material_fingerprint,
        )
        return pb.ImportMaterialResponse(
            wrapped_material=imported.made.blob,
            public_key=imported.made.public_key,
            root_version=blobs.root_version(imported.made.blob),
            material_fingerprint=imported.fingerprint,
        )

    def RewrapMaterial(self, request: pb.RewrapMaterialRequest, call: Call) -> pb.RewrapMaterialResponse:
        """Blobs of key versions, under the newest root."""
        if not request.items:
            raise required("items")
        if len(request.items) > _MAX_REWRAP_ITEMS:
            raise too_large("items", _MAX_REWRAP_ITEMS, "items")
        return pb.RewrapMaterialResponse(outcomes=map(self._rewrapped, request.items))

    def RotateRootKey(self, request: pb.RotateRootKeyRequest, call: Call) -> pb.RotateRootKeyResponse:
        """The next version of the root key."""
        if not request.expected_version:
            raise required("expected_version")
        return pb.RotateRootKeyResponse(root_version=root_key.rotate(self._provider, request.expected_version))

    def RetireRootKeyVersion(
        self, request: pb.RetireRootKeyVersionRequest, call: Call
    ) -> pb.RetireRootKeyVersionResponse:
        """The end of an old version of the root key."""
        if not request.root_version:
            raise required("root_version")
        root_key.retire(self._provider, request.root_version)
        return pb.RetireRootKeyVersionResponse()

    def GetRootStatus(self, request: pb.GetRootStatusRequest, call: Call) -> pb.GetRootStatusResponse:
        """The provider, and the versions of the root key that it has."""
        return pb.GetRootStatusResponse(
            provider=self._provider.name,
            versions=[
                pb.RootVersion(
                    version=version.number,
                    create_time=None if version.created_us is None else from_microseconds(version.created_us),
                )
                for version in self._provider.root_versions()
            ],
            token=self._provider.token,
            hsm_specs=self._provider.hsm_specs,
        )

    def WrapServiceKey(self, request: pb.WrapServiceKeyRequest, call: Call) -> pb.WrapServiceKeyResponse:
        """A blob that only this caller can have opened again."""
        plaintext = sized(request.plaintext, "plaintext", _MAX_SERVICE_KEY_BYTES)
        binding = _service_binding(call, request.purpose)
        wrapped = blobs.seal(self._provider, blobs.SERVICE, plaintext, binding)
        return pb.WrapServiceKeyResponse(wrapped=wrapped, root_version=blobs.root_version(wrapped))

    def UnwrapServiceKey(self, request: pb.UnwrapServiceKeyRequest, call: Call) -> pb.UnwrapServiceKeyResponse:
        """What this caller wrapped for this purpose."""
        binding = _service_binding(call, request.purpose)
        return pb.UnwrapServiceKeyResponse(
            plaintext=blobs.unseal(self._provider, blobs.SERVICE, request.wrapped, binding),
            root_version=blobs.root_version(request.wrapped),
        )

    def RewrapServiceKey(self, request: pb.RewrapServiceKeyRequest, call: Call) -> pb.RewrapServiceKeyResponse:
        """What this caller wrapped for this purpose, under the newest root."""
        binding = _service_binding(call, request.purpose)
        wrapped = blobs.reseal(self._provider, blobs.SERVICE, request.wrapped, binding)
        return pb.RewrapServiceKeyResponse(wrapped=wrapped, root_version=blobs.root_version(wrapped))

    def _rewrapped(self, item: pb.RewrapItem) -> pb.RewrapOutcome:
        try:
            blob = material.rewrap(self._provider, _binding(item.binding), item.wrapped_material)
        except StrongroomError as error:
            if error.reason is Reason.PROVIDER_UNAVAILABLE:
                raise
            return pb.RewrapOutcome(error=batches.item_error(error))
        result = pb.RewrapResult(wrapped_material=blob, root_version=blobs.root_version(blob))
        return pb.RewrapOutcome(result=result)


def _binding(binding: pb.MaterialBinding) -> Binding:
    if not (binding.account and binding.key_name and len(binding.key_uid) == 16 and binding.version):
        raise required("binding")
    return Binding(
        binding.account,
        binding.key_name,
        binding.key_uid,
        binding.version,
        binding.spec,
        binding.usage,
        binding.protection_level,
    )


def _service_binding(call: Call, purpose: str) -> bytes:
    if not purpose:
        raise required("purpose")
    if len(purpose) > _MAX_PURPOSE:
        raise too_large("purpose", _MAX_PURPOSE, "characters")
    return blobs.service_binding(call.principal.name, purpose)
