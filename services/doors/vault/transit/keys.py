"""Transit keys: made, shown, rotated, configured, trimmed, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.doors.listening.exchange import Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller
from services.doors.vault import answers, errors
from services.doors.vault.requests import Request, seconds_of
from services.doors.vault.transit import types
from services.doors.vault.transit.derivation import Derivation, is_derived, tags_of
from services.doors.vault.transit.encryption import refuse_convergent
from services.doors.vault.transit.forms import number_of
from services.doors.vault.transit.names import key_name
from services.runtime.clock import microseconds
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1.crypto_pb2 import GetPublicKeyRequest
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_pb2 import Key, KeyOrigin, KeyState, KeyUsage, KeyVersion, KeyVersionState

_SEEN_SECONDS = 0.4
_PAGE = 1000
_MAX_LISTED = 20_000
_GONE = (KeyState.KEY_STATE_PENDING_DELETION, KeyState.KEY_STATE_DESTROYED)
_REFUSED = {
    "exportable": "exportable keys: keys never leave the mesh",
    "allow_plaintext_backup": "plaintext backups: keys never leave the mesh",
}


class Keys:
    """Keys of the caller's account."""

    def __init__(self, mesh: Mesh, derivation: Derivation) -> None:
        self._mesh = mesh
        self._derivation = derivation

    def names(self, request: Request) -> Response:
        """`LIST keys`."""
        caller = request.caller
        names = [key.name.rpartition("/")[2] for key in self._listed(caller) if key.state not in _GONE]
        if not names:
            raise errors.not_found()
        return answers.keys(names)

    def create(self, request: Request, name: str) -> Response:
        """`POST keys/{name}`: a key that is there already stays as it is."""
        full_name = key_name(request, name)
        key = self.wanted(request)
        try:
            made = self.make(request, name, key)
        except StrongroomError as error:
            if error.reason is not Reason.ALREADY_EXISTS:
                raise
            made = self._there_already(request.caller, full_name, error)
        return _unless_denied(lambda: answers.data(self._described(request.caller, made)))

    def read(self, request: Request, name: str) -> Response:
        """`GET keys/{name}`."""
        return answers.data(self._described(request.caller, self.present(request.caller, key_name(request, name))))

    def rotate(self, request: Request, name: str) -> Response:
        """`POST keys/{name}/rotate`."""
        full_name = key_name(request, name)
        self._mesh.ask(request.caller, "CreateKeyVersion", pb.CreateKeyVersionRequest(parent=full_name))
        settle()
        return _unless_denied(lambda: self.read(request, name))

    def configure(self, request: Request, name: str) -> Response:
        """`POST keys/{name}/config`: what it says is done piece by piece, the last refusal is told."""
        full_name, caller, given = key_name(request, name), request.caller, request.parameters
        _refuse_unsupported(given)
        key = self.present(caller, full_name)
        if request.number("min_encryption_version") not in (0, key.primary_version):
            raise errors.unsupported("min_encryption_version: the primary version alone encrypts")
        if "deletion_allowed" in given:
            self._protect(caller, full_name, protected=not request.flag("deletion_allowed"))
        if "auto_rotate_period" in given:
            period = seconds_of(given["auto_rotate_period"])
            policy = key_pb2.RotationPolicy(period=Duration(seconds=period)) if period else None
            update = pb.UpdateRotationPolicyRequest(name=full_name, rotation_policy=policy)
            self._mesh.ask(caller, "UpdateRotationPolicy", update)
        if "min_decryption_version" in given:
            self._limit_decryption(caller, key, request.number("min_decryption_version"))
            settle()
        return _unless_denied(lambda: self.read(request, name))

    def trim(self, request: Request, name: str) -> Response:
        """`POST keys/{name}/trim`: destroys the versions below one, all of which decrypt nothing already."""
        full_name, caller = key_name(request, name), request.caller
        least = request.number("min_available_version")
        if not least:
            raise errors.invalid("min_available_version is required")
        older = [version for version in self._versions(caller, full_name) if number_of(version.name) < least]
        if any(version.state == KeyVersionState.KEY_VERSION_STATE_ENABLED for version in older):
            raise errors.invalid("min_available_version is greater than min_decryption_version")
        left = [version for version in older if version.state != KeyVersionState.KEY_VERSION_STATE_DESTROYED]
        for version in left:
            # In Vault `deletion_allowed` is about the whole key, in the mesh about its versions too.
            destruction = pb.DestroyKeyVersionRequest(name=version.name, despite_deletion_protection=True)
            self._mesh.ask(caller, "DestroyKeyVersion", destruction)
        return _unless_denied(lambda: self.read(request, name))

    def delete(self, request: Request, name: str) -> Response:
        """`DELETE keys/{name}`: stops every use at once; the material is destroyed after the usual waiting time."""
        full_name, caller = key_name(request, name), request.caller
        self.present(caller, full_name)
        try:
            self._mesh.ask(caller, "ScheduleKeyDeletion", pb.ScheduleKeyDeletionRequest(name=full_name))
        except StrongroomError as error:
            # It was there a moment ago: where it is not any more, the same call has done it, whose answer was lost.
            if error.reason is not Reason.KEY_STATE_INVALID or self._is_there(caller, full_name):
                raise
        settle()
        return answers.NO_CONTENT

    def wanted(self, request: Request) -> Key:
        """The key that a request describes. Raises HttpError."""
        given = request.parameters
        _refuse_unsupported(given)
        kind = types.named(request.text("type"), request.number("key_size"), request.text("parameter_set"))
        level = request.text("protection_level", "software").upper()
        if level not in ("SOFTWARE", "HSM"):
            raise errors.invalid("protection_level is software or hsm")
        period = seconds_of(given.get("auto_rotate_period", 0))
        derived = request.flag("derived") if given.get("derived") not in (None, "") else False
        if derived and kind.spec not in types.SYMMETRIC:
            raise errors.unsupported(f"derived keys of type {kind.name}")
        return Key(
            spec=kind.spec,
            tags=tags_of(derived=derived),
            usage=types.usage(kind, request.text("usage")),
            protection_level=key_pb2.ProtectionLevel.Value(f"PROTECTION_LEVEL_{level}"),
            rotation_policy=key_pb2.RotationPolicy(period=Duration(seconds=period)) if period else None,
            # In Vault nobody deletes a key before its configuration lets them.
            deletion_protection=True,
        )

    def make(self, request: Request, name: str, key: Key) -> Key:
        """Creates a key in the caller's account. Raises StrongroomError."""
        parent = f"accounts/{request.caller.account}"
        made: Key = self._mesh.ask(
            request.caller, "CreateKey", pb.CreateKeyRequest(parent=parent, key_id=name, key=key)
        )
        self._derivation.shown(request.caller, made)
        return made

    def present(self, caller: Caller, full_name: str) -> Key:
        """The key of this name. Raises HttpError 404 for one that is deleted, StrongroomError."""
        key = self._key(caller, full_name)
        if key.state in _GONE:
            raise errors.not_found()
        return key

    def _there_already(self, caller: Caller, full_name: str, refused: StrongroomError) -> Key:
        """The key whose name somebody wanted to make one of. Raises HttpError for one that is deleted,
        StrongroomError: `refused` for who may not see it."""
        try:
            key = self._key(caller, full_name)
        except StrongroomError as error:
            raise (refused if error.reason is Reason.PERMISSION_DENIED else error) from None
        if key.state in _GONE:
            raise errors.invalid("a key had this name and is deleted: its name is never used again")
        return key

    def _is_there(self, caller: Caller, full_name: str) -> bool:
        return self._key(caller, full_name).state not in _GONE

    def _key(self, caller: Caller, full_name: str) -> Key:
        key: Key = self._mesh.ask(caller, "GetKey", pb.GetKeyRequest(name=full_name))
        self._derivation.shown(caller, key)
        return key

    def _protect(self, caller: Caller, name: str, *, protected: bool) -> None:
        request = pb.SetDeletionProtectionRequest(name=name, deletion_protection=protected)
        self._mesh.ask(caller, "SetDeletionProtection", request)

    def _limit_decryption(self, caller: Caller, key: Key, least: int) -> None:
        if least > max(key.primary_version, 1):
            raise errors.invalid(f"cannot set min decryption version of {least}, latest is {key.primary_version}")
        for version in self._versions(caller, key.name):
            number, state = number_of(version.name), version.state
            if number < least and state == KeyVersionState.KEY_VERSION_STATE_ENABLED:
                self._mesh.ask(caller, "DisableKeyVersion", pb.DisableKeyVersionRequest(name=version.name))
            elif number >= least and state == KeyVersionState.KEY_VERSION_STATE_DISABLED:
                self._mesh.ask(caller, "EnableKeyVersion", pb.EnableKeyVersionRequest(name=version.name))

    def _described(self, caller: Caller, key: Key) -> dict[str, Any]:
        versions = sorted(self._versions(caller, key.name), key=lambda version: number_of(version.name))
        there = [version for version in versions if version.state != KeyVersionState.KEY_VERSION_STATE_DESTROYED]
        usable = [version for version in there if version.state == KeyVersionState.KEY_VERSION_STATE_ENABLED]
        period = key.rotation_policy.period.seconds if key.HasField("rotation_policy") else 0
        encrypts = key.usage == KeyUsage.KEY_USAGE_ENCRYPT_DECRYPT
        parameter_set = types.parameter_set(key)
        return {
            "name": key.name.rpartition("/")[2],
            "type": types.of_key(key),
            **({"parameter_set": parameter_set} if parameter_set else {}),
            "latest_version": number_of(versions[-1].name) if versions else 0,
            "min_available_version": number_of(there[0].name) if there and there != versions else 0,
            "min_decryption_version": number_of(usable[0].name) if usable else 0,
            "min_encryption_version": 0,
            "deletion_allowed": not key.deletion_protection,
            "derived": is_derived(key),
            "exportable": False,
            "allow_plaintext_backup": False,
            "auto_rotate_period": period,
            "imported_key": key.origin == KeyOrigin.KEY_ORIGIN_EXTERNAL,
            "supports_encryption": encrypts,
            "supports_decryption": encrypts,
            "supports_derivation": key.spec in types.SYMMETRIC,
            "supports_signing": key.usage == KeyUsage.KEY_USAGE_SIGN_VERIFY,
            "keys": {str(number_of(version.name)): self._shown(caller, key, version) for version in there},
        }

    def _shown(self, caller: Caller, key: Key, version: KeyVersion) -> Any:
        made_us = microseconds(version.create_time)
        if key.spec in types.SYMMETRIC or key.usage == KeyUsage.KEY_USAGE_GENERATE_VERIFY_MAC:
            return made_us // 1_000_000
        shown = {"creation_time": answers.moment(version.create_time), "name": types.of_key(key), "public_key": ""}
        if version.state == KeyVersionState.KEY_VERSION_STATE_ENABLED and key.state == KeyState.KEY_STATE_ENABLED:
            public = self._mesh.ask(caller, "GetPublicKey", GetPublicKeyRequest(name=version.name))
            shown["public_key"] = public.pem
        return shown

    def _versions(self, caller: Caller, name: str) -> list[KeyVersion]:
        pages = self._mesh.pages(caller, "ListKeyVersions", pb.ListKeyVersionsRequest(parent=name, page_size=_PAGE))
        return [version for page in pages for version in page.key_versions]

    def _listed(self, caller: Caller) -> Iterator[Key]:
        count = 0
        request = pb.ListKeysRequest(parent=f"accounts/{caller.account}", page_size=_PAGE)
        for page in self._mesh.pages(caller, "ListKeys", request):
            yield from page.keys
            count += len(page.keys)
            if count >= _MAX_LISTED and page.next_page_token:
                raise errors.unsupported(f"lists of more than {_MAX_LISTED} keys: use the mesh's own, which has pages")


def settle() -> None:
    """Returns when the workers of crypto will have seen a change of a key, which they ask for five times a second:
    after a rotation, clients of Vault expect the next ciphertext to be of the new version."""
    time.sleep(_SEEN_SECONDS)


def _unless_denied(shown: Callable[[], Response]) -> Response:
    """How a key is shown after a change of it; nothing for who may not look. The change is made, and who was told that
    it is refused would make it again."""
    try:
        return shown()
    except StrongroomError as error:
        if error.reason is not Reason.PERMISSION_DENIED:
            raise
        return answers.NO_CONTENT


def _refuse_unsupported(given: dict[str, Any]) -> None:
    refuse_convergent(given)
    for name, why in _REFUSED.items():
        if given.get(name) not in (None, False, "false", ""):
            raise errors.unsupported(why)
