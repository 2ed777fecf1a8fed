"""Versions of secrets."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom.calls.base import Part, pages
from strongroom.calls.secrets.records import SecretVersion, version_of
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub


class SecretVersions(Part[SecretServiceStub]):
    """The versions of secrets. `version` is `payments/db/versions/2`, or a full name."""

    def list(
        self,
        secret: str,
        filter: str = "",  # noqa: A002
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[SecretVersion]:
        """Lists a secret's versions, newest first; `filter` is such as `state = ENABLED`.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """
        name = self._names.secret(secret)

        def fetch(token: str, size: int) -> tuple[Iterator[SecretVersion], str]:
            request = pb.ListSecretVersionsRequest(parent=name, filter=filter, page_token=token, page_size=size)
            page = self._service.call(self._service.stub.ListSecretVersions, request, timeout).response
            return map(version_of, page.secret_versions), page.next_page_token

        return pages(fetch, limit)

    def disable(self, version: str, *, comment: str = "", timeout: float | None = None) -> SecretVersion:
        """Stops serving a version's value at once. The target goes on to accept it until it is rotated."""
        request = pb.DisableSecretVersionRequest(name=self._names.secret_version(version), comment=comment)
        answer = self._service.call(self._service.stub.DisableSecretVersion, request, timeout)
        return version_of(answer.response, answer.event_id)

    def enable(self, version: str, *, timeout: float | None = None) -> SecretVersion:
        """Serves a disabled version's value again."""
        request = pb.EnableSecretVersionRequest(name=self._names.secret_version(version))
        answer = self._service.call(self._service.stub.EnableSecretVersion, request, timeout)
        return version_of(answer.response, answer.event_id)

    def destroy(self, version: str, *, comment: str = "", timeout: float | None = None) -> SecretVersion:
        """Destroys a version's value at once and for good."""
        request = pb.DestroySecretVersionRequest(name=self._names.secret_version(version), comment=comment)
        answer = self._service.call(self._service.stub.DestroySecretVersion, request, timeout)
        return version_of(answer.response, answer.event_id)
