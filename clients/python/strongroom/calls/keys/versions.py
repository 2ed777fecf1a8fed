"""Versions of keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from strongroom.calls.base import Part, pages
from strongroom.calls.keys.records import Key, KeyVersion, answered_key, answered_version, version_of
from strongroom.convert import duration
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub


class KeyVersions(Part[KeyServiceStub]):
    """The versions of keys. `version` is `payments/versions/2`, or a full name.

    What changes a version raises KEY_STATE_INVALID where its state does not allow it.
    """

    def list(self, key: str, *, limit: int | None = None, timeout: float | None = None) -> Iterator[KeyVersion]:
        """Lists a key's versions, newest first.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """
        parent = self._names.key(key)

        def fetch(token: str, size: int) -> tuple[Iterable[KeyVersion], str]:
            request = pb.ListKeyVersionsRequest(parent=parent, page_size=size, page_token=token)
            page = self._service.call(self._service.stub.ListKeyVersions, request, timeout).response
            return map(version_of, page.key_versions), page.next_page_token

        return pages(fetch, limit)

    def get(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """Answers one version. Raises KEY_VERSION_NOT_FOUND."""
        request = pb.GetKeyVersionRequest(name=self._names.key_or_version(version, "version"))
        return answered_version(self._service.call(self._service.stub.GetKeyVersion, request, timeout))

    def enable(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """Lets a disabled version be used again."""
        request = pb.EnableKeyVersionRequest(name=self._names.key_or_version(version, "version"))
        return answered_version(self._service.call(self._service.stub.EnableKeyVersion, request, timeout))

    def disable(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """Stops every use of a version other than the primary one, within one second."""
        request = pb.DisableKeyVersionRequest(name=self._names.key_or_version(version, "version"))
        return answered_version(self._service.call(self._service.stub.DisableKeyVersion, request, timeout))

    def destroy(
        self,
        version: str,
        *,
        waiting_period: timedelta | None = None,
        despite_deletion_protection: bool = False,
        timeout: float | None = None,
    ) -> KeyVersion:
        """Destroys a disabled version's material for good: what it encrypted is lost. It is done at once, or when a
        `waiting_period` of 7 to 366 days is over. Raises DELETION_PROTECTED, FIELD_INVALID.

        With `despite_deletion_protection` a protected key's is destroyed too, at once, and the key stays protected;
        that also needs `keystore:SetDeletionProtection` on it.
        """
        request = pb.DestroyKeyVersionRequest(
            name=self._names.key_or_version(version, "version"),
            despite_deletion_protection=despite_deletion_protection,
        )
        if waiting_period is not None:
            request.waiting_period.CopyFrom(duration(waiting_period))
        return answered_version(self._service.call(self._service.stub.DestroyKeyVersion, request, timeout))

    def cancel_destruction(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """Takes a planned destruction back; the version is disabled again."""
        request = pb.CancelKeyVersionDestructionRequest(name=self._names.key_or_version(version, "version"))
        return answered_version(self._service.call(self._service.stub.CancelKeyVersionDestruction, request, timeout))

    def set_primary(self, version: str, *, timeout: float | None = None) -> Key:
        """Chooses the version of a key that encrypts, signs and makes MACs; answers the key."""
        request = pb.SetPrimaryKeyVersionRequest(name=self._names.key_or_version(version, "version"))
        return answered_key(self._service.call(self._service.stub.SetPrimaryKeyVersion, request, timeout))
