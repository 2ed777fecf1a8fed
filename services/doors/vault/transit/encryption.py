"""Encrypting and decrypting, one by one and in batches."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from services.doors.listening.exchange import HttpError, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.remembering import remember
from services.doors.mesh.sessions import Caller
from services.doors.vault import answers, errors
from services.doors.vault.answers import Raw
from services.doors.vault.requests import Request, base64_in, number_in, text_in
from services.doors.vault.transit.batches import Batch, Outcome, Told, answered
from services.doors.vault.transit.derivation import Derivation
from services.doors.vault.transit.forms import context_of, encoded, number_of, prefix, read, written
from services.doors.vault.transit.names import key_name
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1 import crypto_pb2 as pb

_KNOWN_KEYS = 4096
_DATA_KEY_BITS = (128, 256, 512)
_UNDECIDED: Outcome = {}
# How the mesh may refuse to do with an asymmetric key what is done with others.
_PERHAPS_ASYMMETRIC = (Reason.KEY_USAGE_INVALID, Reason.CIPHERTEXT_INVALID, Reason.PERMISSION_DENIED)
T = TypeVar("T")

NO_KEY = "encryption key not found"


class Encryption:
    """What is done with keys of usage ENCRYPT_DECRYPT."""

    def __init__(self, mesh: Mesh, derivation: Derivation) -> None:
        self._mesh = mesh
        self._derivation = derivation
        # What a key is made of never changes, nor is its name used again: it says which method is the right one.
        self._asymmetric: OrderedDict[str, None] = OrderedDict()

    def encrypt(self, request: Request, name: str) -> Response:
        """`encrypt/{name}`."""
        key = key_name(request, name)
        refuse_convergent(request.parameters)
        batch = Batch.of(request)
        if batch is None:
            return answers.data(self._encrypted(request.caller, key, request.parameters))

        def whole(items: Sequence[tuple[bytes, dict[str, str]]]) -> Sequence[Told]:
            asked = pb.BatchEncryptRequest(key=key)
            for plaintext, context in items:
                # Made in its place: to make items apart and copy them takes five times as long.
                item = asked.items.add()
                item.plaintext = plaintext
                if context:
                    item.encryption_context.update(context)
            made = self._mesh.ask(request.caller, "BatchEncrypt", asked)
            number = number_of(made.key_version)
            begins, ends = f'{{"ciphertext":"{prefix(number)}', f'","key_version":{number}}}'
            return [
                _failed(one.error) if one.HasField("error") else Raw(begins + encoded(one.ciphertext) + ends)
                for one in made.outcomes
            ]

        return self._batch(request, key, batch, whole, self._encrypted, _plaintext)

    def decrypt(self, request: Request, name: str) -> Response:
        """`decrypt/{name}`."""
        key = key_name(request, name)
        batch = Batch.of(request)
        if batch is None:
            return answers.data(self._decrypted(request.caller, key, request.parameters))

        def whole(items: Sequence[tuple[tuple[int, bytes], dict[str, str]]]) -> Sequence[Told]:
            asked = pb.BatchDecryptRequest(key=key)
            for (_, data), context in items:
                item = asked.items.add()
                item.ciphertext = data
                if context:
                    item.encryption_context.update(context)
            made = self._mesh.ask(request.caller, "BatchDecrypt", asked)
            return [_opened(one, version) for one, ((version, _), _) in zip(made.outcomes, items, strict=True)]

        return self._batch(request, key, batch, whole, self._decrypted, _ciphertext)

    def rewrap(self, request: Request, name: str) -> Response:
        """`rewrap/{name}`: a ciphertext under the key's primary version. The plaintext stays in the mesh."""
        key = key_name(request, name)
        batch = Batch.of(request)
        if batch is None:
            return answers.data(self._rewrapped(request.caller, key, request.parameters))
        return answered(batch, [_alone(self._rewrapped, request.caller, key, item) for item in batch.items])

    def data_key(self, request: Request) -> Response:
        """`datakey/plaintext/{name}` or `datakey/wrapped/{name}`."""
        if len(request.path) != 3 or request.path[1] not in ("plaintext", "wrapped"):
            raise errors.not_found()
        key = key_name(request, request.path[2])
        refuse_convergent(request.parameters)
        bits = request.number("bits", 256)
        if bits not in _DATA_KEY_BITS:
            raise errors.invalid("invalid bit length: 128, 256 or 512")
        self._derivation.require_context(request.caller, key, request.parameters)
        asked: dict[str, Any] = {
            "key": key,
            "number_of_bytes": bits // 8,
            "encryption_context": context_of(request.parameters),
        }
        with_plaintext = request.path[1] == "plaintext"
        if with_plaintext:
            made = self._mesh.ask(request.caller, "GenerateDataKey", pb.GenerateDataKeyRequest(**asked))
        else:
            without = pb.GenerateDataKeyWithoutPlaintextRequest(**asked)
            made = self._mesh.ask(request.caller, "GenerateDataKeyWithoutPlaintext", without)
        told = {
            "ciphertext": written(made.ciphertext, made.key_version),
            "key_version": number_of(made.key_version),
        }
        return answers.data({"plaintext": encoded(made.plaintext), **told} if with_plaintext else told)

    def _encrypted(self, caller: Caller, key: str, given: dict[str, Any]) -> Outcome:
        plaintext, context = _plaintext(given), context_of(given)
        asked = number_in(given, "key_version")
        self._derivation.require_context(caller, key, given)

        def symmetric() -> Any:
            request = pb.EncryptRequest(key=key, plaintext=plaintext, encryption_context=context)
            return self._mesh.ask(caller, "Encrypt", request)

        def asymmetric() -> Any:
            request = pb.AsymmetricEncryptRequest(key=key, plaintext=plaintext, encryption_context=context)
            return self._asymmetrically(caller, key, "AsymmetricEncrypt", request)

        made = self._by_kind(key, symmetric, asymmetric)
        number = number_of(made.key_version)
        if asked and asked != number:
            raise errors.unsupported(f"encrypting under version {asked}: the primary version, {number}, encrypts")
        return {"ciphertext": written(made.ciphertext, made.key_version), "key_version": number}

    def _decrypted(self, caller: Caller, key: str, given: dict[str, Any]) -> Outcome:
        version, data = _ciphertext(given)
        context = context_of(given)
        self._derivation.require_context(caller, key, given)

        def symmetric() -> Any:
            request = pb.DecryptRequest(key=key, ciphertext=data, encryption_context=context)
            return self._mesh.ask(caller, "Decrypt", request)

        def asymmetric() -> Any:
            request = pb.AsymmetricDecryptRequest(
                key=f"{key}/versions/{version}", ciphertext=data, encryption_context=context
            )
            return self._asymmetrically(caller, key, "AsymmetricDecrypt", request)

        made = self._by_kind(key, symmetric, asymmetric)
        _require_version(version, made.key_version)
        return {"plaintext": encoded(made.plaintext)}

    def _rewrapped(self, caller: Caller, key: str, given: dict[str, Any]) -> Outcome:
        version, data = _ciphertext(given)
        context = context_of(given)
        self._derivation.require_context(caller, key, given)

        def symmetric() -> Any:
            request = pb.ReEncryptRequest(
                ciphertext=data,
                source_key=key,
                source_encryption_context=context,
                destination_key=key,
                destination_encryption_context=context,
            )
            return self._mesh.ask(caller, "ReEncrypt", request)

        def asymmetric() -> Any:
            raise StrongroomError(Reason.KEY_USAGE_INVALID, "what is under an asymmetric key is not rewrapped")

        made = self._by_kind(key, symmetric, asymmetric)
        _require_version(version, made.source_key_version)
        return {"ciphertext": written(made.ciphertext, made.key_version), "key_version": number_of(made.key_version)}

    def _batch(
        self,
        request: Request,
        key: str,
        batch: Batch,
        whole: Callable[[Sequence[tuple[T, dict[str, str]]]], Sequence[Told]],
        alone: Callable[[Caller, str, dict[str, Any]], Outcome],
        read_item: Callable[[dict[str, Any]], T],
    ) -> Response:
        """All items that can be read in one call of the mesh; an asymmetric key takes them one by one."""
        if any("key_version" in item and number_in(item, "key_version") for item in batch.items):
            return answered(batch, [_alone(alone, request.caller, key, item) for item in batch.items])
        outcomes: list[Told] = []
        sound: list[tuple[T, dict[str, str]]] = []
        places: list[int] = []
        for place, item in enumerate(batch.items):
            try:
                read_one = (read_item(item), context_of(item))
                self._derivation.require_context(request.caller, key, item)
            except HttpError as error:
                outcomes.append({"error": error.messages[0]})
            else:
                sound.append(read_one)
                places.append(place)
                outcomes.append(_UNDECIDED)

        def one_by_one() -> Sequence[Outcome]:
            return [_alone(alone, request.caller, key, batch.items[place]) for place in places]

        made = self._by_kind(key, lambda: whole(sound), one_by_one) if sound else ()
        for place, outcome in zip(places, made, strict=True):
            outcomes[place] = outcome
        return answered(batch, outcomes)

    def _by_kind(self, key: str, symmetric: Callable[[], Any], asymmetric: Callable[[], Any]) -> Any:
        """Does it in the way that the key is made for, which the mesh says when it is asked in the other: or denies,
        where the caller may do it in that way alone."""
        try:
            if key in self._asymmetric:
                return asymmetric()
            try:
                return symmetric()
            except StrongroomError as error:
                if error.reason not in _PERHAPS_ASYMMETRIC:
                    raise
                return _otherwise(asymmetric, error)
        except StrongroomError as error:
            if error.reason in (Reason.KEY_NOT_FOUND, Reason.ALIAS_NOT_FOUND):
                raise HttpError(400, NO_KEY) from None
            raise

    def _asymmetrically(self, caller: Caller, key: str, method: str, request: Any) -> Any:
        """What the mesh answers to what is done with asymmetric keys alone, of which `key` is known to be one then."""
        made = self._mesh.ask(caller, method, request)
        remember(self._asymmetric, key, None, _KNOWN_KEYS)
        return made


def _otherwise(asymmetric: Callable[[], Any], refused: StrongroomError) -> Any:
    """Does it in the other way. What is no way with this key, or denied too, is `refused` as it was at first."""
    try:
        return asymmetric()
    except StrongroomError as error:
        usage = error.reason in (Reason.KEY_USAGE_INVALID, Reason.PERMISSION_DENIED)
        raise (refused if usage else error) from None


def refuse_convergent(parameters: dict[str, Any]) -> None:
    """Raises HttpError where equal plaintexts are to have equal ciphertexts."""
    if parameters.get("convergent_encryption") not in (None, False, "false") or parameters.get("nonce"):
        raise errors.unsupported("convergent encryption and nonces of the caller's: equal plaintexts would show")


def _plaintext(given: dict[str, Any]) -> bytes:
    if "plaintext" not in given:
        raise errors.invalid("missing plaintext to encrypt")
    plaintext = base64_in(given, "plaintext")
    if not plaintext:
        raise errors.unsupported("an empty plaintext")
    return plaintext


def _ciphertext(given: dict[str, Any]) -> tuple[int, bytes]:
    text = text_in(given, "ciphertext")
    if not text:
        raise errors.invalid("missing ciphertext to decrypt")
    return read(text, "ciphertext")


def _require_version(told: int, key_version: str) -> None:
    if not hmac.compare_digest(str(told), str(number_of(key_version))):
        raise errors.invalid("invalid ciphertext: it is of another version of the key")


def _opened(one: pb.DecryptOutcome, told: int) -> Told:
    if one.HasField("error"):
        return _failed(one.error)
    if number_of(one.decrypted.key_version) != told:
        return {"error": "invalid ciphertext: it is of another version of the key"}
    return Raw(f'{{"plaintext":"{encoded(one.decrypted.plaintext)}"}}')


def _failed(error: pb.ItemError) -> Outcome:
    return {"error": f"{error.reason}: {error.message}"}


def _alone(
    work: Callable[[Caller, str, dict[str, Any]], Outcome], caller: Caller, key: str, item: dict[str, Any]
) -> Outcome:
    """One item of a batch by a call of its own; what concerns the whole batch is raised."""
    try:
        return work(caller, key, item)
    except HttpError as error:
        if error.status != 400 or error.messages == (NO_KEY,):
            raise
        return {"error": error.messages[0]}
    except StrongroomError as error:
        if error.is_unavailable or errors.of_the_mesh(error).status != 400:
            raise
        return {"error": f"{error.reason}: {error.message}"}
