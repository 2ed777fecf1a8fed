"""A rotation of the root key is asked for once under a request id, however long ago it ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import Engine

from services.keystore.root_key import store
from services.keystore.root_key.rotation import RootKey
from services.runtime.call import Call, Principal
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from strongroom.keystore.v1 import root_key_pb2 as pb
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import DestroyedHere

NOW_US = 1_000_000_000_000_000


@dataclass
class Root:
    """The root key in crypto."""

    newest: int = 1

    def root_status(self) -> Any:
        return SimpleNamespace(versions=[SimpleNamespace(version=self.newest)])

    def rotate_root(self, newest: int) -> int:
        self.newest = newest + 1
        return self.newest


class NoServiceKeys:
    """No other service has a wrapped key."""

    def count_below(self, _version: int) -> int:
        return 0


def call() -> Call:
    return Call(
        "strongroom.keystore.v1.KeyService", "RotateRootKey", "", principal=Principal("accounts/a/users/u", "a")
    )


def test_the_same_request_again_rotates_once_though_the_rotation_is_done(engine: Engine) -> None:
    root = Root()
    root_key = RootKey(
        engine,
        cast(Any, root),
        cast(Any, NoServiceKeys()),
        DestroyedHere(),
        cast(Any, Everybody()),
        Outbox(engine, cast(Any, None)),
        "a",
        60.0,
        StillClock(NOW_US),
    )
    root_key._status = lambda: cast(Any, None)  # type: ignore[method-assign]
    first, second = Repeatable("1", bytes(32)), Repeatable("2", bytes(32))
    root_key.rotate(call(), first)
    assert root.newest == 2
    # While it runs, one that is asked for besides is the same rotation.
    root_key.rotate(call(), second)
    with reading(engine) as connection:
        running = store.rotation(connection)
    assert running is not None
    with transaction(engine) as connection:
        store.put_rotation(connection, replace(running, state=pb.ROOT_KEY_ROTATION_STATE_DONE))
    for asked in (first, second):
        root_key.rotate(call(), asked)
        assert root.newest == 2
    root_key.rotate(call())
    assert root.newest == 3
