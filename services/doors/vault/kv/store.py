"""Secrets of the mesh as KV uses them: found by path, written with check-and-set, listed as folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from services.doors.listening.exchange import HttpError
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller
from services.doors.vault import errors
from services.runtime.errors import Reason, StrongroomError
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_pb2 import Secret, SecretState, SecretValue, SecretVersion, ValueFormat

CURRENT = "Current"

MISSING = (
    Reason.SECRET_NOT_FOUND,
    Reason.SECRET_VERSION_NOT_FOUND,
    Reason.STAGE_NOT_FOUND,
    Reason.SECRET_PENDING_DELETION,
)
"""Why a value is not there at all."""
GONE = (Reason.SECRET_VERSION_DISABLED, Reason.SECRET_VERSION_DESTROYED)
"""Why a value that was there is not any more."""

_NOTHING_THERE = (Reason.SECRET_NOT_FOUND, Reason.SECRET_VERSION_NOT_FOUND, Reason.SECRET_VERSION_DESTROYED)

_ID = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_MAX_ID = 63
_RESERVED = ("versions", "rotations")
_PAGE = 1000
_MAX_LISTED = 20_000


class KvSecrets:
    """The secrets below a mount's prefix, in the caller's account."""

    def __init__(self, mesh: Mesh, prefix: str) -> None:
        self._mesh = mesh
        self._prefix = f"{prefix}/" if prefix else ""

    def require(self, caller: Caller) -> None:
        """Raises StrongroomError for a caller who may do nothing any more."""
        self._mesh.require(caller)

    def name(self, caller: Caller, path: Sequence[str]) -> str:
        """The full name of the secret at a path. Raises HttpError for a path that no secret has."""
        if not path:
            raise errors.not_found()
        secret_id = self._prefix + "/".join(path)
        if len(secret_id) > _MAX_ID or not _ID.fullmatch(secret_id) or set(secret_id.split("/")) & set(_RESERVED):
            raise errors.invalid(
                f"a path has parts of [a-z0-9][a-z0-9._-]*, {_MAX_ID} characters in all with the slashes between, and "
                f"none of them is {' or '.join(_RESERVED)}"
            )
        return f"accounts/{caller.account}/secrets/{secret_id}"

    def value(self, caller: Caller, name: str, version: int = 0) -> SecretValue:
        """The value at Current, or of a version. Raises StrongroomError."""
        wanted = f"{name}/versions/{version}" if version else name
        value: SecretValue = self._mesh.ask(caller, "GetSecretValue", pb.GetSecretValueRequest(name=wanted))
        return value

    def record(self, caller: Caller, name: str) -> Secret:
        """The secret without its value. Raises HttpError 404 for one that waits for deletion, StrongroomError."""
        secret: Secret = self._mesh.ask(caller, "GetSecret", pb.GetSecretRequest(name=name))
        if secret.state != SecretState.SECRET_STATE_ENABLED:
            raise errors.not_found()
        return secret

    def versions(self, caller: Caller, name: str) -> list[SecretVersion]:
        """The versions of a secret, oldest first. Raises StrongroomError."""
        pages = self._mesh.pages(
            caller, "ListSecretVersions", pb.ListSecretVersionsRequest(parent=name, page_size=_PAGE)
        )
        return [version for page in pages for version in page.secret_versions][::-1]

    def put(self, caller: Caller, name: str, value: bytes, current: int | None) -> SecretVersion:
        """Stores a value as the next version; with `current` only where that is the version now, 0 for none. A secret
        that is not there is created. Raises HttpError 400 where another version is, StrongroomError."""
        request = _replacement(name, value, current)
        if not current and self._mesh.is_undecided(caller, _creation(name, value)):
            # It may be there already by the caller's own call, and is not to have a second version then.
            created = self._create(caller, name, value, again=True)
            if created is not None:
                return created
        for again in (True, False):
            try:
                return self._put(caller, request)
            except StrongroomError as error:
                if error.reason is Reason.STAGE_CONFLICT:
                    raise mismatch() from None
                if error.reason is not Reason.SECRET_NOT_FOUND:
                    raise
            if current:
                raise mismatch()
            created = self._create(caller, name, value, again=again)
            if created is not None:
                return created
        raise errors.invalid("the secret at this path was created and deleted at the same time: try again")

    def is_put(self, caller: Caller, name: str, value: bytes, current: int) -> bool:
        """Whether the caller put the value in the place of this version just now, and was not told so."""
        return self._mesh.is_undecided(caller, _replacement(name, value, current))

    def create_empty(self, caller: Caller, name: str) -> None:
        """A secret without a value. Raises StrongroomError."""
        self._mesh.ask(caller, "CreateSecret", _creation(name, b""))

    def update(self, caller: Caller, secret: Secret, paths: Sequence[str]) -> None:
        """Changes fields of a secret. Raises StrongroomError."""
        request = pb.UpdateSecretRequest(secret=secret)
        request.update_mask.paths.extend(paths)
        self._mesh.ask(caller, "UpdateSecret", request)

    def of_each_version(self, caller: Caller, name: str, method: str, numbers: Sequence[int]) -> None:
        """Does something to versions, one after the other; what is not there, or destroyed, is left as it is, and be it
        the whole secret. Raises StrongroomError."""
        requests: dict[str, Callable[..., Any]] = {
            "DisableSecretVersion": pb.DisableSecretVersionRequest,
            "EnableSecretVersion": pb.EnableSecretVersionRequest,
            "DestroySecretVersion": pb.DestroySecretVersionRequest,
        }
        for number in numbers:
            try:
                self._mesh.ask(caller, method, requests[method](name=f"{name}/versions/{number}"))
            except StrongroomError as error:
                if error.reason not in _NOTHING_THERE:
                    raise

    def delete(self, caller: Caller, name: str) -> None:
        """Destroys every value of a secret, for good. Raises StrongroomError."""
        self._mesh.ask(caller, "DeleteSecret", pb.DeleteSecretRequest(name=name, force=True))

    def children(self, caller: Caller, path: Sequence[str]) -> list[str]:
        """The names below a path, with a slash after those that have names below them. Raises HttpError 404 for
        none."""
        folder = self._prefix + "".join(f"{part}/" for part in path)
        if folder and not _ID.fullmatch(folder[:-1]):
            raise errors.not_found()
        below: dict[str, None] = {}
        count = 0
        wanted = f'id_prefix = "{folder}"' if folder else ""
        request = pb.ListSecretsRequest(parent=f"accounts/{caller.account}", page_size=_PAGE, filter=wanted)
        for page in self._mesh.pages(caller, "ListSecrets", request):
            for secret in page.secrets:
                if secret.state == SecretState.SECRET_STATE_ENABLED:
                    first, slash, _ = _id_of(secret.name).removeprefix(folder).partition("/")
                    below[first + slash] = None
            count += len(page.secrets)
            if count >= _MAX_LISTED and page.next_page_token:
                raise errors.unsupported(f"lists over more than {_MAX_LISTED} secrets: list a folder below")
        if not below:
            raise errors.not_found()
        return sorted(below)

    def _put(self, caller: Caller, request: pb.PutSecretValueRequest) -> SecretVersion:
        made: SecretVersion = self._mesh.ask(caller, "PutSecretValue", request)
        return made

    def _create(self, caller: Caller, name: str, value: bytes, *, again: bool) -> SecretVersion | None:
        """The first version of a new secret; None where another call was quicker, and `again` is worth it."""
        try:
            secret: Secret = self._mesh.ask(caller, "CreateSecret", _creation(name, value))
        except StrongroomError as error:
            if error.reason is not Reason.ALREADY_EXISTS:
                raise
            if again:
                return None
            raise errors.invalid("a secret was at this path and is deleted: its name is never used again") from None
        return SecretVersion(
            name=f"{name}/versions/{secret.stages[CURRENT]}", create_time=secret.create_time, stages=[CURRENT]
        )


def mismatch() -> HttpError:
    """Another version is there than the caller thinks."""
    return errors.invalid("check-and-set parameter did not match the current version")


def _replacement(name: str, value: bytes, current: int | None) -> pb.PutSecretValueRequest:
    request = pb.PutSecretValueRequest(name=name, value=value, format=ValueFormat.VALUE_FORMAT_TEXT)
    if current is not None:
        request.current_version = current
    return request


def _creation(name: str, value: bytes) -> pb.CreateSecretRequest:
    parent, _, secret_id = name.partition("/secrets/")
    request = pb.CreateSecretRequest(parent=parent, secret_id=secret_id, secret=Secret())
    if value:
        request.value, request.format = value, ValueFormat.VALUE_FORMAT_TEXT
    return request


def _id_of(name: str) -> str:
    return name.partition("/secrets/")[2]
