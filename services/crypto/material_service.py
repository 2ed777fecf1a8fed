"""`MaterialService`: makes and wraps key material for the mesh."""

from __future__ import annotations

from services.crypto import blobs, material
from services.crypto.blobs import Binding
from services.crypto.providers.provider import Provider
from services.runtime.call import Call
from services.runtime.errors import required, too_large
from strongroom.crypto.v1 import material_pb2 as pb

_MAX_SERVICE_KEY_BYTES = 4096
_MAX_PURPOSE = 64


class MaterialService:
    """Handlers of the internal service."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def CreateMaterial(self, request: pb.CreateMaterialRequest, call: Call) -> pb.CreateMaterialResponse:
        """Material for a key version, as a blob bound to it."""
        binding = request.binding
        if not (binding.account and binding.key_name and len(binding.key_uid) == 16 and binding.version):
            raise required("binding")
        made = material.make(
            self._provider,
            Binding(
                binding.account,
                binding.key_name,
                binding.key_uid,
                binding.version,
                binding.spec,
                binding.usage,
                binding.protection_level,
            ),
        )
        return pb.CreateMaterialResponse(
            wrapped_material=made.blob, public_key=made.public_key, root_version=blobs.root_version(made.blob)
        )

    def WrapServiceKey(self, request: pb.WrapServiceKeyRequest, call: Call) -> pb.WrapServiceKeyResponse:
        """A blob that only this caller can have opened again."""
        if not request.plaintext:
            raise required("plaintext")
        if len(request.plaintext) > _MAX_SERVICE_KEY_BYTES:
            raise too_large("plaintext", _MAX_SERVICE_KEY_BYTES)
        binding = _service_binding(call, request.purpose)
        return pb.WrapServiceKeyResponse(wrapped=blobs.seal(self._provider, blobs.SERVICE, request.plaintext, binding))

    def UnwrapServiceKey(self, request: pb.UnwrapServiceKeyRequest, call: Call) -> pb.UnwrapServiceKeyResponse:
        """What this caller wrapped for this purpose."""
        binding = _service_binding(call, request.purpose)
        return pb.UnwrapServiceKeyResponse(
            plaintext=blobs.unseal(self._provider, blobs.SERVICE, request.wrapped, binding)
        )


def _service_binding(call: Call, purpose: str) -> bytes:
    if not purpose:
        raise required("purpose")
    if len(purpose) > _MAX_PURPOSE:
        raise too_large("purpose", _MAX_PURPOSE, "characters")
    return blobs.service_binding(call.principal.name, purpose)
