"""Handlers of asymmetric keys and of message authentication codes."""

from __future__ import annotations

from services.crypto.keys.key_uses import KeyUses
from services.crypto.operations import batches, inputs
from services.crypto.primitives import public_key_encryption, public_keys
from services.crypto.primitives.agreement import Agreement
from services.crypto.primitives.encapsulation import Encapsulation
from services.crypto.primitives.macs import MacKey
from services.crypto.primitives.public_key_encryption import Decrypter
from services.crypto.primitives.public_keys import Asymmetric
from services.crypto.primitives.signatures import Signer
from services.runtime import encryption_context
from services.runtime.call import Call
from services.runtime.errors import required
from services.runtime.requests import checksums
from strongroom.crypto.v1 import crypto_pb2 as pb


class AsymmetricHandlers:
    """The methods of CryptoService about asymmetric keys and message authentication codes."""

    def __init__(self, uses: KeyUses) -> None:
        self._uses = uses

    def Sign(self, request: pb.SignRequest, call: Call) -> pb.SignResponse:
        """A signature of a message or a digest."""
        data = inputs.to_sign(request)
        use = self._uses.named(call, "crypto:Sign", request.key, Signer)
        algorithm = use.algorithm(request.algorithm)
        data.check(algorithm)
        signature = use.material.sign(algorithm, data)
        return pb.SignResponse(
            signature=signature,
            key_version=use.version_name,
            algorithm=algorithm,
            signature_crc32c=checksums.crc32c(signature),
        )

    def Verify(self, request: pb.VerifyRequest, call: Call) -> pb.VerifyResponse:
        """Whether a signature is that of a message or a digest."""
        data = inputs.to_sign(request)
        signature = inputs.sized(request.signature, "signature")
        checksums.verify_given(request, "signature_crc32c", signature)
        use = self._uses.named(call, "crypto:Verify", request.key, Signer)
        algorithm = use.algorithm(request.algorithm)
        data.check(algorithm)
        valid = use.material.verify(algorithm, data, signature)
        return pb.VerifyResponse(valid=valid, key_version=use.version_name, algorithm=algorithm)

    def BatchSign(self, request: pb.BatchSignRequest, call: Call) -> pb.BatchSignResponse:
        """An outcome for each message or digest."""
        items = batches.checked(request.items, lambda item: item.digest or item.message)
        use = self._uses.named(call, "crypto:Sign", request.key, Signer)
        algorithm = use.algorithm(request.algorithm)
        return batches.sign(use, algorithm, items)

    def GetPublicKey(self, request: pb.GetPublicKeyRequest, call: Call) -> pb.PublicKey:
        """The public half of a key version."""
        use = self._uses.named(call, "crypto:GetPublicKey", request.name, Asymmetric, field="name")
        key = use.key
        encoded = key.version(use.version).public_key
        return pb.PublicKey(
            key_version=use.version_name,
            spec=key.spec,
            usage=key.usage,
            pem=public_keys.pem(key.spec, encoded),
            der=encoded,
            fingerprint=public_keys.fingerprint(encoded),
            algorithms=key.algorithms,
        )

    def AsymmetricEncrypt(self, request: pb.AsymmetricEncryptRequest, call: Call) -> pb.AsymmetricEncryptResponse:
        """A ciphertext that the private half decrypts."""
        checksums.verify_given(request, "plaintext_crc32c", request.plaintext)
        context = encryption_context.of(request.encryption_context)
        use = self._uses.named(call, "crypto:AsymmetricEncrypt", request.key, Decrypter, context)
        algorithm = use.algorithm(request.algorithm)
        public_key = use.material.public_key
        bound = public_key_encryption.info(public_key, context)
        plaintext = inputs.sized(request.plaintext, "plaintext", public_key_encryption.limit(public_key))
        ciphertext = public_key_encryption.encrypt(public_key, algorithm, plaintext, bound)
        return pb.AsymmetricEncryptResponse(
            ciphertext=ciphertext,
            key_version=use.version_name,
            algorithm=algorithm,
            ciphertext_crc32c=checksums.crc32c(ciphertext),
        )

    def AsymmetricDecrypt(self, request: pb.AsymmetricDecryptRequest, call: Call) -> pb.AsymmetricDecryptResponse:
        """The plaintext of what was encrypted to the public half."""
        if not request.ciphertext:
            raise required("ciphertext")
        checksums.verify_given(request, "ciphertext_crc32c", request.ciphertext)
        context = encryption_context.of(request.encryption_context)
        use = self._uses.named(call, "crypto:AsymmetricDecrypt", request.key, Decrypter, context)
        algorithm = use.algorithm(request.algorithm)
        bound = public_key_encryption.info(use.material.public_key, context)
        plaintext = use.material.decrypt(algorithm, request.ciphertext, bound)
        return pb.AsymmetricDecryptResponse(
            plaintext=plaintext,
            key_version=use.version_name,
            algorithm=algorithm,
            plaintext_crc32c=checksums.crc32c(plaintext),
        )

    def GenerateMac(self, request: pb.GenerateMacRequest, call: Call) -> pb.GenerateMacResponse:
        """The MAC of a message."""
        message = inputs.mac_message(request)
        use = self._uses.named(call, "crypto:GenerateMac", request.key, MacKey, versioned=False)
        mac = use.material.compute(message)
        return pb.GenerateMacResponse(
            mac=mac,
            key_version=use.version_name,
            algorithm=use.material.algorithm,
            mac_crc32c=checksums.crc32c(mac),
        )

    def VerifyMac(self, request: pb.VerifyMacRequest, call: Call) -> pb.VerifyMacResponse:
        """Whether a MAC is a message's."""
        message = inputs.mac_message(request)
        if not request.mac:
            raise required("mac")
        checksums.verify_given(request, "mac_crc32c", request.mac)
        use = self._uses.named(call, "crypto:VerifyMac", request.key, MacKey)
        return pb.VerifyMacResponse(
            valid=use.material.verify(message, request.mac),
            key_version=use.version_name,
            algorithm=use.material.algorithm,
        )

    def DeriveSharedSecret(self, request: pb.DeriveSharedSecretRequest, call: Call) -> pb.DeriveSharedSecretResponse:
        """The secret that the key shares with a peer's."""
        use = self._uses.named(call, "crypto:DeriveSharedSecret", request.key, Agreement)
        peer = public_keys.read(request.peer_public_key, "peer_public_key")
        return pb.DeriveSharedSecretResponse(shared_secret=use.material.derive(peer), key_version=use.version_name)

    def Encapsulate(self, request: pb.EncapsulateRequest, call: Call) -> pb.EncapsulateResponse:
        """A fresh shared secret for the owner of the key."""
        use = self._uses.named(call, "crypto:Encapsulate", request.key, Encapsulation)
        shared_secret, ciphertext = use.material.encapsulate()
        return pb.EncapsulateResponse(shared_secret=shared_secret, ciphertext=ciphertext, key_version=use.version_name)

    def Decapsulate(self, request: pb.DecapsulateRequest, call: Call) -> pb.DecapsulateResponse:
        """The shared secret that was encapsulated."""
        if not request.ciphertext:
            raise required("ciphertext")
        use = self._uses.named(call, "crypto:Decapsulate", request.key, Encapsulation)
        return pb.DecapsulateResponse(
            shared_secret=use.material.decapsulate(request.ciphertext), key_version=use.version_name
        )
