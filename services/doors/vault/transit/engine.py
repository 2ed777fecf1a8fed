"""Paths below a transit mount."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping

from services.doors.listening.exchange import Response
from services.doors.mesh.calls import Mesh
from services.doors.vault import answers, errors
from services.doors.vault.requests import Operation, Request, base64_in
from services.doors.vault.transit.derivation import Derivation
from services.doors.vault.transit.encryption import Encryption
from services.doors.vault.transit.forms import encoded
from services.doors.vault.transit.imports import Imports
from services.doors.vault.transit.keys import Keys
from services.doors.vault.transit.signatures import Signatures
from strongroom.crypto.v1.crypto_pb2 import GenerateRandomRequest

_RANDOM_CALL = 1024
_MAX_RANDOM = 16 * _RANDOM_CALL
_HASHES = {
    "sha2-224": hashlib.sha224,
    "sha2-256": hashlib.sha256,
    "sha2-384": hashlib.sha384,
    "sha2-512": hashlib.sha512,
    "sha3-224": hashlib.sha3_224,
    "sha3-256": hashlib.sha3_256,
    "sha3-384": hashlib.sha3_384,
    "sha3-512": hashlib.sha3_512,
}
_NEVER = {
    "export": "keys never leave the mesh, and so are never exported",
    "backup": "keys are never written in the clear; back the mesh's databases and its token up",
    "restore": "keys are never written in the clear; import them through the wrapping key",
    "cache-config": "the mesh keeps its own caches",
    "certs": "this door signs no certificates",
    "byok-export": "keys never leave the mesh, and so are never exported",
}


class Transit:
    """One transit mount: every account's keys, of which a caller sees those of its own."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        derivation = Derivation(mesh)
        self._keys = Keys(mesh, derivation)
        encryption, signatures, imports = Encryption(mesh, derivation), Signatures(mesh), Imports(mesh, self._keys)
        self._by_name: Mapping[str, Callable[[Request, str], Response]] = {
            "encrypt": encryption.encrypt,
            "decrypt": encryption.decrypt,
            "rewrap": encryption.rewrap,
        }
        # With how many parts a path may have behind the first.
        self._further: Mapping[str, tuple[Callable[[Request], Response], Collection[int]]] = {
            "datakey": (encryption.data_key, (2,)),
            "sign": (signatures.sign, (1, 2)),
            "verify": (signatures.verify, (1, 2)),
            "hmac": (signatures.hmac, (1, 2)),
            "random": (self._random, (0, 1, 2)),
            "hash": (self._hash, (0, 1)),
        }
        self._imports = imports
        self._of_key: Mapping[tuple[str, Operation], Callable[[Request, str], Response]] = {
            ("", Operation.READ): self._keys.read,
            ("", Operation.WRITE): self._keys.create,
            ("", Operation.DELETE): self._keys.delete,
            ("rotate", Operation.WRITE): self._keys.rotate,
            ("config", Operation.WRITE): self._keys.configure,
            ("trim", Operation.WRITE): self._keys.trim,
            ("import", Operation.WRITE): imports.new_key,
            ("import_version", Operation.WRITE): imports.new_version,
        }

    def answer(self, request: Request) -> Response:
        """The answer to a request. Raises HttpError, StrongroomError."""
        if not request.path:
            raise errors.not_found()
        first, *rest = request.path
        if first in _NEVER:
            raise errors.unsupported(_NEVER[first])
        if first == "keys":
            return self._keys_answer(request, rest)
        answer, needed = self._found(first, rest)
        if request.operation is not needed:
            raise errors.no_operation()
        return answer(request)

    def _found(self, first: str, rest: list[str]) -> tuple[Callable[[Request], Response], Operation]:
        """What answers at a path, and the one operation that it does. Raises HttpError 404 where nothing is."""
        if first == "wrapping_key" and not rest:
            return self._imports.wrapping_key, Operation.READ
        if first in self._by_name and len(rest) == 1:
            return lambda request: self._by_name[first](request, rest[0]), Operation.WRITE
        answer, lengths = self._further.get(first, (None, ()))
        if answer is None or len(rest) not in lengths:
            raise errors.not_found()
        return answer, Operation.WRITE

    def _keys_answer(self, request: Request, rest: list[str]) -> Response:
        if not rest:
            if request.operation is Operation.LIST:
                return self._keys.names(request)
            raise errors.no_operation()
        name, *what = rest
        wanted = "/".join(what)
        answer = self._of_key.get((wanted, request.operation))
        if answer is None:
            raise errors.no_operation() if any(wanted == one for one, _ in self._of_key) else errors.not_found()
        return answer(request, name)

    def _random(self, request: Request) -> Response:
        rest = request.path[1:]
        sources = [part for part in rest if not part.isdecimal()]
        sizes = [part for part in rest if part.isascii() and part.isdecimal()]
        if len(sources) > 1 or len(sizes) > 1 or any(source not in ("platform", "seal", "all") for source in sources):
            raise errors.not_found()
        size = int(sizes[0][:9]) if sizes else request.number("bytes", 32)
        if not 1 <= size <= _MAX_RANDOM:
            raise errors.invalid(f"1 to {_MAX_RANDOM} bytes are made at once")
        made = b""
        while len(made) < size:
            part = GenerateRandomRequest(number_of_bytes=min(_RANDOM_CALL, size - len(made)))
            made += self._mesh.ask(request.caller, "GenerateRandom", part).data
        return answers.data({"random_bytes": _written(made, request.text("format", "base64"))})

    def _hash(self, request: Request) -> Response:
        name = request.path[1] if len(request.path) == 2 else request.text("algorithm", "sha2-256")
        algorithm = _HASHES.get(name)
        if algorithm is None:
            raise errors.invalid(f"there is no hash {name[:32]!r}: one of {', '.join(_HASHES)}")
        data = base64_in(request.parameters, "input")
        self._mesh.require(request.caller)
        digest = algorithm(data).digest()
        return answers.data({"sum": _written(digest, request.text("format", "hex"))})


def _written(data: bytes, form: str) -> str:
    if form not in ("base64", "hex"):
        raise errors.invalid("format is base64 or hex")
    return data.hex() if form == "hex" else encoded(data)
