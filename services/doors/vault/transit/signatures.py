"""Signing, verifying, and message authentication codes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from services.doors.listening.exchange import HttpError, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.remembering import remember
from services.doors.mesh.sessions import Caller
from services.doors.vault import answers, errors
from services.doors.vault.requests import Request, base64_in, number_in, text_in
from services.doors.vault.transit.algorithms import MACS, Wish, from_jws, to_jws
from services.doors.vault.transit.batches import Batch, Outcome, answered
from services.doors.vault.transit.forms import number_of, parts_of, read, written
from services.doors.vault.transit.names import key_name
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.algorithm_pb2 import Algorithm

_KNOWN_KEYS = 4096


class Signatures:
    """What is done with keys of usage SIGN_VERIFY and GENERATE_VERIFY_MAC."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        # What a key is made of never changes, nor is its name used again.
        self._algorithms: OrderedDict[tuple[str, Sequence[Algorithm.ValueType]], Algorithm.ValueType] = OrderedDict()

    def sign(self, request: Request) -> Response:
        """`sign/{name}` and `sign/{name}/{hash}`."""
        key, wish = self._key_and_wish(request)
        return self._each(request, lambda item: self._signed(request.caller, key, wish, item))

    def verify(self, request: Request) -> Response:
        """`verify/{name}` and `verify/{name}/{hash}`, of a signature or a MAC."""
        key, wish = self._key_and_wish(request)
        return self._each(request, lambda item: self._verified(request.caller, key, wish, item))

    def hmac(self, request: Request) -> Response:
        """`hmac/{name}` and `hmac/{name}/{hash}`."""
        key, name = _named(request)
        name = name or text_in(request.parameters, "algorithm")
        if name and name not in MACS:
            raise errors.unsupported(f"the hash {name[:32]!r}: one of {', '.join(MACS)}")
        return self._each(request, lambda item: self._mac(request.caller, key, name, item))

    def _key_and_wish(self, request: Request) -> tuple[str, Wish]:
        key, name = _named(request)
        return key, Wish.of(request.parameters, name)

    def _signed(self, caller: Caller, key: str, wish: Wish, given: dict[str, Any]) -> Outcome:
        version = number_in(given, "key_version")
        name = f"{key}/versions/{version}" if version else key
        message = _input(given, wish)

        def attempt(algorithm: Algorithm.ValueType) -> Any:
            return self._mesh.ask(caller, "Sign", pb.SignRequest(key=name, algorithm=algorithm, **message))

        made = self._first_fitting(key, wish, attempt)
        number = number_of(made.key_version)
        if wish.is_jws:
            return {"signature": f"vault:v{number}:{to_jws(made.signature, made.algorithm)}", "key_version": number}
        return {"signature": written(made.signature, made.key_version), "key_version": number}

    def _verified(self, caller: Caller, key: str, wish: Wish, given: dict[str, Any]) -> Outcome:
        if given.get("hmac"):
            return self._mac_verified(caller, key, given)
        text = text_in(given, "signature")
        if not text:
            raise errors.invalid("one of signature or hmac is required")
        message = _input(given, wish)
        version, encoded_signature = parts_of(text, "signature")

        def attempt(algorithm: Algorithm.ValueType) -> Any:
            if wish.is_jws:
                signature = from_jws(encoded_signature, _ecdsa_of(len(encoded_signature), algorithm))
            else:
                signature = read(text, "signature")[1]
            request = pb.VerifyRequest(
                key=f"{key}/versions/{version}", signature=signature, algorithm=algorithm, **message
            )
            return self._mesh.ask(caller, "Verify", request)

        return {"valid": bool(self._first_fitting(key, wish, attempt).valid)}

    def _mac(self, caller: Caller, key: str, name: str, given: dict[str, Any]) -> Outcome:
        made = self._mesh.ask(caller, "GenerateMac", pb.GenerateMacRequest(key=key, message=_message(given)))
        number, asked = number_of(made.key_version), number_in(given, "key_version")
        if asked and asked != number:
            raise errors.unsupported(f"an HMAC by version {asked}: the primary version, {number}, makes them")
        if name and MACS[name] != made.algorithm:
            raise errors.unsupported(f"the hash {name} with this key, whose size decides the hash")
        return {"hmac": written(made.mac, made.key_version), "key_version": number}

    def _mac_verified(self, caller: Caller, key: str, given: dict[str, Any]) -> Outcome:
        version, mac = read(text_in(given, "hmac"), "hmac")
        request = pb.VerifyMacRequest(key=f"{key}/versions/{version}", message=_message(given), mac=mac)
        return {"valid": bool(self._mesh.ask(caller, "VerifyMac", request).valid)}

    def _first_fitting(self, key: str, wish: Wish, attempt: Callable[[Algorithm.ValueType], Any]) -> Any:
        """Does it with the algorithm that fits the key, which the mesh says; the next time it is known."""
        known = self._algorithms.get((key, wish.candidates))
        if known is not None:
            return attempt(known)
        for algorithm in wish.candidates:
            try:
                made = attempt(algorithm)
            except StrongroomError as error:
                if error.reason is not Reason.ALGORITHM_INVALID:
                    raise
                continue
            remember(self._algorithms, (key, wish.candidates), algorithm, _KNOWN_KEYS)
            return made
        raise errors.unsupported("this hash with this key: an EC key signs with the hash of its own size")

    def _each(self, request: Request, work: Callable[[dict[str, Any]], Outcome]) -> Response:
        """The request's only item, or those of its batch with an outcome each."""
        batch = Batch.of(request)
        if batch is None:
            return _single(self._one(work, request.parameters))
        return answered(batch, [self._one(work, item) for item in batch.items])

    def _one(self, work: Callable[[dict[str, Any]], Outcome], item: dict[str, Any]) -> Outcome:
        """One item; what is wrong with it alone is its outcome, anything else is raised."""
        try:
            return work(item)
        except HttpError as error:
            if error.status != 400:
                raise
            return {"error": error.messages[0]}
        except StrongroomError as error:
            if error.reason is Reason.KEY_NOT_FOUND:
                raise HttpError(400, "signing key not found") from None
            if error.is_unavailable or errors.of_the_mesh(error).status != 400:
                raise
            return {"error": f"{error.reason}: {error.message}"}


def _single(outcome: Outcome) -> Response:
    if "error" in outcome:
        raise errors.invalid(outcome["error"])
    return answers.data(outcome)


def _named(request: Request) -> tuple[str, str]:
    """The key of a path, and the hash at its end if there is one. Raises HttpError."""
    if not 2 <= len(request.path) <= 3:
        raise errors.not_found()
    return key_name(request, request.path[1]), request.path[2] if len(request.path) == 3 else ""


def _message(given: dict[str, Any]) -> bytes:
    if "input" not in given:
        raise errors.invalid("missing input")
    return base64_in(given, "input")


def _input(given: dict[str, Any], wish: Wish) -> dict[str, Any]:
    return {"digest": _message(given)} if wish.is_digest else {"message": _message(given)}


def _ecdsa_of(characters: int, algorithm: Algorithm.ValueType) -> Algorithm.ValueType:
    """Which curve's signature this is, by its length, where the request leaves the algorithm to the key."""
    if algorithm != Algorithm.ALGORITHM_UNSPECIFIED:
        return algorithm
    by_length = {
        86: Algorithm.ALGORITHM_ECDSA_SHA_256,
        128: Algorithm.ALGORITHM_ECDSA_SHA_384,
        176: Algorithm.ALGORITHM_ECDSA_SHA_512,
    }
    return by_length.get(characters, algorithm)
