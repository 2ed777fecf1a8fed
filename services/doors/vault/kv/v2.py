"""KV version 2: a secret's versions, its metadata, and folders of secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.doors.listening.exchange import HttpError, Response
from services.doors.vault import answers, errors
from services.doors.vault.kv import values
from services.doors.vault.kv.store import CURRENT, GONE, MISSING, KvSecrets, mismatch
from services.doors.vault.requests import Operation, Request, number_in
from services.runtime.errors import Reason, StrongroomError
from strongroom.secrets.v1.secret_pb2 import Secret, SecretVersion, SecretVersionState

_PATCHES = 8
_MAX_NUMBERS = 100
# How many versions the mesh keeps the values of where a secret does not say otherwise.
_MAX_VERSIONS = 10
_DESTROYED = SecretVersionState.SECRET_VERSION_STATE_DESTROYED
_DISABLED = SecretVersionState.SECRET_VERSION_STATE_DISABLED


class KvVersion2:
    """One mount of KV version 2."""

    def __init__(self, secrets: KvSecrets) -> None:
        self._secrets = secrets
        self._answers: Mapping[tuple[str, Operation], Callable[[Request, str], Response]] = {
            ("data", Operation.READ): self._read,
            ("data", Operation.WRITE): self._write,
            ("data", Operation.PATCH): self._patch,
            ("data", Operation.DELETE): self._delete_current,
            ("delete", Operation.WRITE): self._delete,
            ("undelete", Operation.WRITE): self._undelete,
            ("destroy", Operation.WRITE): self._destroy,
            ("metadata", Operation.READ): self._metadata,
            ("metadata", Operation.WRITE): self._set_metadata,
            ("metadata", Operation.PATCH): self._set_metadata,
            ("metadata", Operation.DELETE): self._delete_all,
        }

    def answer(self, request: Request) -> Response:
        """The answer to a request. Raises HttpError, StrongroomError."""
        if not request.path:
            raise errors.not_found()
        first, path = request.path[0], request.path[1:]
        if first == "metadata" and request.operation is Operation.LIST:
            return answers.keys(self._secrets.children(request.caller, path))
        if first == "config" and not path:
            return self._configuration(request)
        found = self._answers.get((first, request.operation))
        if found is None:
            raise errors.not_found() if not any(first == kind for kind, _ in self._answers) else errors.no_operation()
        return found(request, self._secrets.name(request.caller, path))

    def _read(self, request: Request, name: str) -> Response:
        version = number_in(dict(request.head.query), "version")
        try:
            value = self._secrets.value(request.caller, name, version)
        except StrongroomError as error:
            if error.reason in MISSING:
                raise errors.not_found() from None
            if error.reason in GONE:
                return self._gone(request, name, version)
            raise
        metadata = {
            "created_time": answers.moment(value.create_time),
            "custom_metadata": dict(value.tags) or None,
            "deletion_time": "",
            "destroyed": False,
            "version": int(value.name.rpartition("/")[2]),
        }
        return answers.data({"data": values.shown(value), "metadata": metadata})

    def _gone(self, request: Request, name: str, version: int) -> Response:
        """A version that is deleted or destroyed: 404, with what is known of it for who may know it."""
        try:
            secret = self._secrets.record(request.caller, name)
            versions = self._secrets.versions(request.caller, name)
        except StrongroomError as error:
            raise (errors.not_found() if error.reason is Reason.PERMISSION_DENIED else error) from None
        wanted = version or secret.stages.get(CURRENT, 0)
        found = next((one for one in versions if _number(one) == wanted), None)
        if found is None:
            raise errors.not_found()
        metadata = {**_state(found), "custom_metadata": dict(secret.tags) or None, "version": wanted}
        return answers.data({"data": None, "metadata": metadata}, status=404)

    def _write(self, request: Request, name: str) -> Response:
        value = values.stored(request.texts.get("data"))
        return _written(self._secrets.put(request.caller, name, value, _expected(request)))

    def _patch(self, request: Request, name: str) -> Response:
        patch, expected = request.texts.get("data"), _expected(request)
        values.stored(patch)
        for _ in range(_PATCHES):
            try:
                value = self._secrets.value(request.caller, name)
            except StrongroomError as error:
                if error.reason in MISSING + GONE:
                    raise errors.not_found() from None
                raise
            current = int(value.name.rpartition("/")[2])
            text = values.stored(values.merged(values.shown(value).text, patch or ""))
            if self._secrets.is_put(request.caller, name, text, current - 1):
                # The same patch has made this version.
                current -= 1
            if expected not in (None, current):
                raise mismatch()
            made = self._put_unless_changed(request, name, text, current)
            if made is not None:
                return _written(made)
            if expected is not None:
                raise mismatch()
        raise errors.invalid("others write to this path all the time: try again")

    def _put_unless_changed(self, request: Request, name: str, text: bytes, current: int) -> SecretVersion | None:
        try:
            return self._secrets.put(request.caller, name, text, current)
        except HttpError as error:
            if error.messages == mismatch().messages:
                return None
            raise

    def _delete_current(self, request: Request, name: str) -> Response:
        try:
            secret = self._secrets.record(request.caller, name)
        except StrongroomError as error:
            if error.reason is not Reason.SECRET_NOT_FOUND:
                raise
            return answers.NO_CONTENT
        except HttpError as error:
            if error.status != 404:
                raise
            # All of it waits for deletion.
            return answers.NO_CONTENT
        if CURRENT in secret.stages:
            self._secrets.of_each_version(request.caller, name, "DisableSecretVersion", [secret.stages[CURRENT]])
        return answers.NO_CONTENT

    def _delete(self, request: Request, name: str) -> Response:
        return self._of_versions(request, name, "DisableSecretVersion")

    def _undelete(self, request: Request, name: str) -> Response:
        return self._of_versions(request, name, "EnableSecretVersion")

    def _destroy(self, request: Request, name: str) -> Response:
        return self._of_versions(request, name, "DestroySecretVersion")

    def _of_versions(self, request: Request, name: str, method: str) -> Response:
        given = request.parameters.get("versions")
        if not isinstance(given, list) or not 1 <= len(given) <= _MAX_NUMBERS:
            raise errors.invalid(f"versions are required: a list of 1 to {_MAX_NUMBERS} numbers")
        numbers = [number_in({"versions": number}, "versions") for number in given]
        self._secrets.of_each_version(request.caller, name, method, [number for number in numbers if number])
        return answers.NO_CONTENT

    def _metadata(self, request: Request, name: str) -> Response:
        secret = self._secrets.record(request.caller, name)
        versions = self._secrets.versions(request.caller, name)
        return answers.data(
            {
                "cas_required": False,
                "created_time": answers.moment(secret.create_time),
                "current_version": secret.stages.get(CURRENT, 0),
                "custom_metadata": dict(secret.tags) or None,
                "delete_version_after": "0s",
                "max_versions": secret.retained_versions,
                "oldest_version": _number(versions[0]) if versions else 0,
                "updated_time": answers.moment(secret.update_time),
                "versions": {str(_number(one)): _state(one) for one in versions},
            }
        )

    def _set_metadata(self, request: Request, name: str) -> Response:
        changes = _metadata_changes(request)
        try:
            secret = self._secrets.record(request.caller, name)
        except StrongroomError as error:
            if error.reason is not Reason.SECRET_NOT_FOUND or request.operation is Operation.PATCH:
                raise
            self._secrets.create_empty(request.caller, name)
            secret = self._secrets.record(request.caller, name)
        for again in (True, False):
            try:
                self._change_metadata(request, secret, changes)
                break
            except StrongroomError as error:
                # Another call changed it, or this one, whose answer was lost.
                if error.reason is not Reason.ETAG_MISMATCH or not again:
                    raise
            secret = self._secrets.record(request.caller, name)
        return answers.NO_CONTENT

    def _change_metadata(self, request: Request, secret: Secret, changes: Mapping[str, Any]) -> None:
        wanted, paths = Secret(name=secret.name, etag=secret.etag), []
        if "max_versions" in changes:
            wanted.retained_versions = changes["max_versions"]
            paths.append("retained_versions")
        if "custom_metadata" in changes:
            is_patch = request.operation is Operation.PATCH
            for tag, value in {**(dict(secret.tags) if is_patch else {}), **changes["custom_metadata"]}.items():
                if value is not None:
                    wanted.tags[tag] = value
            paths.append("tags")
        if paths:
            self._secrets.update(request.caller, wanted, paths)

    def _delete_all(self, request: Request, name: str) -> Response:
        try:
            self._secrets.delete(request.caller, name)
        except StrongroomError as error:
            if error.reason is not Reason.SECRET_NOT_FOUND:
                raise
        return answers.NO_CONTENT

    def _configuration(self, request: Request) -> Response:
        self._secrets.require(request.caller)
        if request.operation is Operation.READ:
            return answers.data({"cas_required": False, "delete_version_after": "0s", "max_versions": _MAX_VERSIONS})
        if request.operation is not Operation.WRITE:
            raise errors.no_operation()
        if _metadata_changes(request).get("max_versions", 0) not in (0, _MAX_VERSIONS):
            raise errors.unsupported(f"max_versions of a whole mount other than {_MAX_VERSIONS}: set it on each path")
        return answers.NO_CONTENT


def _metadata_changes(request: Request) -> dict[str, Any]:
    given = request.parameters
    if given.get("cas_required") not in (None, False, "false"):
        raise errors.unsupported("cas_required: writers give cas where they want it")
    if given.get("delete_version_after") not in (None, "", 0, "0", "0s"):
        raise errors.unsupported("delete_version_after: versions are deleted by max_versions, or by hand")
    changes: dict[str, Any] = {}
    if given.get("max_versions") is not None:
        # 0 stands for what is usual, in Vault as in the mesh.
        changes["max_versions"] = request.number("max_versions")
    custom = given.get("custom_metadata")
    if custom is not None:
        patchable = (str, type(None)) if request.operation is Operation.PATCH else str
        if not isinstance(custom, dict) or not all(isinstance(value, patchable) for value in custom.values()):
            raise errors.invalid("custom_metadata is no object of texts")
        changes["custom_metadata"] = custom
    return changes


def _expected(request: Request) -> int | None:
    """The version that must be current, where the request says so. Raises HttpError."""
    options = request.parameters.get("options") or {}
    if not isinstance(options, dict):
        raise errors.invalid("options is no object")
    return number_in(options, "cas") if options.get("cas") is not None else None


def _written(version: SecretVersion) -> Response:
    return answers.data(
        {
            "created_time": answers.moment(version.create_time),
            "deletion_time": "",
            "destroyed": False,
            "version": _number(version),
        }
    )


def _state(version: SecretVersion) -> dict[str, Any]:
    return {
        "created_time": answers.moment(version.create_time),
        "deletion_time": answers.moment(version.disable_time) if version.state == _DISABLED else "",
        "destroyed": version.state == _DESTROYED,
    }


def _number(version: SecretVersion) -> int:
    return int(version.name.rpartition("/")[2])
