"""Keys from outside: wrapped by their owner as Vault wants it, and wrapped again for the mesh without being opened.

Vault's client wraps its key under a fresh AES key, and that under the mount's RSA key. Here the RSA key is one of the
account's own. The door has the mesh open the AES key alone, and encrypts it to the import key of the key version; what
is wrapped under it goes on as it came.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from services.doors.listening.exchange import Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller
from services.doors.vault import answers, errors
from services.doors.vault.requests import Request, base64_in
from services.doors.vault.transit.keys import Keys, settle
from services.doors.vault.transit.names import key_name
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1 import crypto_pb2
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_pb2 import ImportMethod, Key, KeyOrigin, KeySpec, KeyState, KeyUsage

WRAPPING_KEY = "vault-transit-wrapping-key"
"""The id of the account's RSA key that material for import is wrapped under."""

_WRAPPED_KEY_BYTES = 512
_AES_KEY_BYTES = 32
_PENDING = "PENDING_IMPORT"
_METHOD = ImportMethod.IMPORT_METHOD_RSA_AES_KEY_WRAP_4096_SHA256


class Imports:
    """`wrapping_key`, `keys/{name}/import` and `keys/{name}/import_version`."""

    def __init__(self, mesh: Mesh, keys: Keys) -> None:
        self._mesh = mesh
        self._keys = keys

    def wrapping_key(self, request: Request) -> Response:
        """The public key to wrap with; made when it is asked for first."""
        name = f"accounts/{request.caller.account}/keys/{WRAPPING_KEY}"
        asked = crypto_pb2.GetPublicKeyRequest(name=name)
        try:
            public = self._mesh.ask(request.caller, "GetPublicKey", asked)
        except StrongroomError as error:
            if error.reason is not Reason.KEY_NOT_FOUND:
                raise
            self._make_wrapping_key(request)
            public = self._mesh.ask(request.caller, "GetPublicKey", asked)
        return answers.data({"public_key": public.pem})

    def _make_wrapping_key(self, request: Request) -> None:
        wanted = Key(
            spec=KeySpec.KEY_SPEC_RSA_4096,
            usage=KeyUsage.KEY_USAGE_ENCRYPT_DECRYPT,
            description="What clients of transit wrap keys for import with",
            deletion_protection=True,
        )
        try:
            self._keys.make(request, WRAPPING_KEY, wanted)
        except StrongroomError as error:
            # Another who asked first, here or at another door, was quicker.
            if error.reason is not Reason.ALREADY_EXISTS:
                raise

    def new_key(self, request: Request, name: str) -> Response:
        """Makes a key of the material that its owner wrapped."""
        full_name = key_name(request, name)
        wrapped = _wrapped(request)
        key = self._keys.wanted(request)
        if key.HasField("rotation_policy") or request.parameters.get("allow_rotation"):
            raise errors.unsupported("rotation of an imported key: import the next version")
        key.origin = KeyOrigin.KEY_ORIGIN_EXTERNAL
        opened = self._opened(request.caller, wrapped)
        try:
            self._keys.make(request, name, key)
        except StrongroomError as error:
            if error.reason is not Reason.ALREADY_EXISTS or not self._awaits(request.caller, full_name, key):
                raise
        self._import(request.caller, full_name, opened, wrapped)
        return answers.NO_CONTENT

    def new_version(self, request: Request, name: str) -> Response:
        """Makes the next version of an imported key, which becomes primary."""
        full_name = key_name(request, name)
        wrapped = _wrapped(request)
        opened = self._opened(request.caller, wrapped)
        try:
            made = self._mesh.ask(request.caller, "CreateKeyVersion", pb.CreateKeyVersionRequest(parent=full_name))
            awaiting = made.name
        except StrongroomError as error:
            if error.metadata.get("state") != _PENDING:
                raise
            # One that was made before, and not given its material.
            awaiting = full_name
        imported = self._import(request.caller, awaiting, opened, wrapped)
        self._mesh.ask(request.caller, "SetPrimaryKeyVersion", pb.SetPrimaryKeyVersionRequest(name=imported))
        settle()
        return answers.NO_CONTENT

    def _opened(self, caller: Caller, wrapped: bytes) -> bytes:
        """The AES key that material is wrapped under, by the mesh. Raises HttpError."""
        asked = crypto_pb2.AsymmetricDecryptRequest(
            key=f"accounts/{caller.account}/keys/{WRAPPING_KEY}",
            ciphertext=wrapped[:_WRAPPED_KEY_BYTES],
            algorithm=Algorithm.ALGORITHM_RSAES_OAEP_SHA_256,
        )
        try:
            opened: bytes = self._mesh.ask(caller, "AsymmetricDecrypt", asked).plaintext
        except StrongroomError as error:
            if error.reason is Reason.CIPHERTEXT_INVALID:
                raise _unreadable() from None
            raise
        if len(opened) != _AES_KEY_BYTES:
            raise _unreadable()
        return opened

    def _awaits(self, caller: Caller, name: str, wanted: Key) -> bool:
        """Whether there is such a key already, and it was not given its material: an import that was not ended."""
        found: Key = self._mesh.ask(caller, "GetKey", pb.GetKeyRequest(name=name))
        same = (found.spec, found.usage, found.origin) == (wanted.spec, wanted.usage, wanted.origin)
        return (
            same
            and found.protection_level == wanted.protection_level
            and found.state == KeyState.KEY_STATE_PENDING_IMPORT
        )

    def _import(self, caller: Caller, name: str, aes_key: bytes, wrapped: bytes) -> str:
        """Gives a version its material, of a key's versions the one that awaits it; the version's name."""
        parameters: Any = self._mesh.ask(
            caller, "GetParametersForImport", pb.GetParametersForImportRequest(name=name, import_method=_METHOD)
        )
        public = load_der_public_key(parameters.public_key)
        if not isinstance(public, rsa.RSAPublicKey):
            raise TypeError("the mesh's import key is no RSA key")
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        self._mesh.ask(
            caller,
            "ImportKeyMaterial",
            pb.ImportKeyMaterialRequest(
                name=parameters.name,
                import_token=parameters.import_token,
                encrypted_material=public.encrypt(aes_key, oaep) + wrapped[_WRAPPED_KEY_BYTES:],
            ),
        )
        return str(parameters.name)


def _wrapped(request: Request) -> bytes:
    if request.text("hash_function", "SHA256").upper().replace("-", "") != "SHA256":
        raise errors.unsupported("a hash_function other than SHA256")
    wrapped = base64_in(request.parameters, "ciphertext")
    if not wrapped:
        raise errors.invalid("ciphertext is required: the key, wrapped with the key of wrapping_key")
    if len(wrapped) <= _WRAPPED_KEY_BYTES:
        raise _unreadable()
    return wrapped


def _unreadable() -> Exception:
    return errors.invalid("the ciphertext is not wrapped with the key of wrapping_key (RSA-OAEP with SHA-256, AES-KWP)")
