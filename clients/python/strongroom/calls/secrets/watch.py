"""Changes of secrets, as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from strongroom.convert import enum_text, moment
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.transport import ResponseStream


@dataclass(frozen=True, slots=True)
class SecretChange:
    """One change of a watched secret.

    `change` is STATE (how it is as the watch begins), STAGE, VERSION_DISABLED, VERSION_ENABLED, DELETED, RESTORED, or
    empty for a sign of life. A watch that begins with `resume_token` goes on behind this change.
    """

    change: str
    name: str
    stages: Mapping[str, int]
    version: int
    resume_token: str
    time: datetime | None


class SecretWatch:
    """A watch of secrets: an iterator of changes, a context manager, closed from any thread."""

    def __init__(self, stream: ResponseStream[pb.WatchSecretResponse]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[SecretChange]:
        for told in self._stream:
            yield SecretChange(
                change=enum_text(pb.SecretChange, "SECRET_CHANGE_", told.change).replace("UNSPECIFIED", ""),
                name=told.name,
                stages=dict(told.stages),
                version=told.version,
                resume_token=told.resume_token,
                time=moment(told.time),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self._stream.close()
