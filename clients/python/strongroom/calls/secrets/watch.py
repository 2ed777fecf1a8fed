"""Changes of secrets, as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from strongroom.convert import enum_text, moment
from strongroom.errors import StrongroomError
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.streams import ResponseStream, heals, pause_after

_AGAIN_SECONDS = 0.5


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
    """A watch of secrets: an iterator of changes, a context manager, closed from any thread.

    One that has told something goes on behind that when its process ends, when that or a service that it needs cannot
    be reached or does not serve for a while, and when its session or certificate has ended and there is another: no
    change is missed. What the service refuses ends it.
    """

    def __init__(self, begin: Callable[[str], ResponseStream[pb.WatchSecretResponse]], resume_token: str = "") -> None:
        self._begin = begin
        self._token = resume_token
        self._told = False
        self._pause = _AGAIN_SECONDS
        self._closed = threading.Event()
        self._stream = begin(resume_token)

    def __iter__(self) -> Iterator[SecretChange]:
        yield from self._changes(is_begun=True)
        while not self._closed.wait(self._pause):
            yield from self._changes(is_begun=False)

    def _changes(self, *, is_begun: bool) -> Iterator[SecretChange]:
        """Those of one stream, until it ends in a way that another may follow."""
        self._pause = _AGAIN_SECONDS
        try:
            if not is_begun:
                self._stream = self._begin(self._token)
            if self._closed.is_set():
                self._stream.close()
            for told in self._stream:
                self._told = True
                self._token = told.resume_token or self._token
                yield _change(told)
        except StrongroomError as error:
            if not self._told or not heals(error):
                raise
            self._pause = pause_after(error, _AGAIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self._closed.set()
        self._stream.close()


def _change(told: pb.WatchSecretResponse) -> SecretChange:
    return SecretChange(
        change=enum_text(pb.SecretChange, "SECRET_CHANGE_", told.change).replace("UNSPECIFIED", ""),
        name=told.name,
        stages=dict(told.stages),
        version=told.version,
        resume_token=told.resume_token,
        time=moment(told.time),
    )
